"""A few steps on the robust loss, in as many processes as torchrun starts.

torchrun --nproc-per-node 2 -m tests.support.distributed_training FILE
"""

from __future__ import annotations

import gc
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bounds import RobustLoss
from bounds.models import load_digits_images, load_digits_model


def train(model: nn.Module, loss: nn.Module, mine: slice) -> None:
    """Steps of the model on the shipped digits `mine`; `loss` is a `RobustLoss` of it, wrapped or
    not."""
    x, y = load_digits_images()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        loss(x[mine].double(), y[mine], radius=0.05, lower=0.0, upper=1.0).loss.backward()
        optimizer.step()


def main(file: str) -> None:
    """Train, each process on its share of the images, and save what the first one has."""
    dist.init_process_group("gloo")
    model = load_digits_model("digits_standard").double()
    if dist.get_rank() > 0:  # what DistributedDataParallel puts right
        nn.init.zeros_(next(model.parameters()))
    loss = DistributedDataParallel(RobustLoss(model))
    train(model, loss, slice(dist.get_rank(), None, dist.get_world_size()))
    if dist.get_rank() == 0:
        torch.save(model.state_dict(), file)
    # What holds on to the processes' group keeps its threads, which abort the interpreter's end.
    del loss
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
