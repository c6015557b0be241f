"""Seconds and memory of a training step on the losses of intervals and attacks, beside auto_LiRPA.

    pip install -e ".[benchmarks,peers]"
    python benchmarks/training/losses.py --json benchmarks/results/losses.json

The wide network of `examples/mnist.py`, untrained, on random images, ℓ∞ within [0, 1], Adam in
float32. auto_LiRPA's interval bounds and CROWN-IBP take the margins as rows, and the attack of the
mixed loss is the same one step. Each has a process of its own; the first two steps do not count,
and seconds are the median of the CPU's. Memory is what a process held at most beyond what it held
after its first step, which is on two inputs: all that is loaded once. Theirs account for no
rounding; nor do our mixed losses.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import bounds
from benchmarks.measure import peers
from benchmarks.support import command, environment
from benchmarks.support.journal import save
from examples.image_data import MODELS

RADIUS, MIXTURE = 0.1, 0.1
PIXELS: dict[str, Any] = {"radius": RADIUS, "lower": 0.0, "upper": 1.0}
OURS: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "interval": lambda m, x, y: bounds.interval_loss(m, x, y, **PIXELS).loss,
    "crown-ibp": lambda m, x, y: bounds.crown_ibp_loss(m, x, y, **PIXELS).loss,
    "crown-ibp fused": lambda m, x, y: bounds.crown_ibp_loss(m, x, y, fused=True, **PIXELS).loss,
    "mixed": lambda m, x, y: bounds.mixed_loss(m, x, y, mixture=MIXTURE, **PIXELS).loss,
    "small-box": lambda m, x, y: (
        bounds.small_box_loss(m, x, y, share=MIXTURE, steps=1, **PIXELS).loss
    ),
}


class Theirs:
    """The same losses by auto_LiRPA."""

    LOSSES = ("interval", "crown-ibp", "mixed", "small-box")

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        package = peers.load("auto_LiRPA")
        self._package, self._model = package, model
        self._bounded = package.BoundedModule(model, torch.zeros_like(x), device=x.device)

    def __call__(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        low, high = (x - RADIUS).clamp(0, 1), (x + RADIUS).clamp(0, 1)
        if name == "interval":
            return self._bounds(low, high, y, "IBP")
        if name == "crown-ibp":
            return self._bounds(low, high, y, "CROWN-IBP")
        points = self._attacked(low, high, y)
        if name == "mixed":
            attacked = F.cross_entropy(self._model(points), y)
            return (1 - MIXTURE) * attacked + MIXTURE * self._bounds(low, high, y, "IBP")
        reach = MIXTURE * (high - low) / 2
        middle = points.clamp(low + reach, high - reach)
        return self._bounds(middle - reach, middle + reach, y, "IBP")

    def _bounds(self, low: Tensor, high: Tensor, y: Tensor, method: str) -> Tensor:
        ends = self._package.PerturbationLpNorm(x_L=low, x_U=high)
        inside = self._package.BoundedTensor((low + high) / 2, ends)
        C = bounds.margins(y, 10).C.to(low)
        margin, _ = self._bounded.compute_bounds(x=(inside,), C=C, method=method, bound_upper=False)
        return torch.log1p((-margin).exp().sum(1)).mean()

    def _attacked(self, low: Tensor, high: Tensor, y: Tensor) -> Tensor:
        points = (low + torch.rand_like(low) * (high - low)).requires_grad_()
        losses = F.cross_entropy(self._model(points), y, reduction="sum")
        [gradient] = torch.autograd.grad(losses, points)
        step = 1.25 * (high - low) / 2 * gradient.sign()
        return (points.detach() + step).clamp(low, high)


def worker(queue: Any, who: str, name: str, batch: int, steps: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers, shape = MODELS["wide"]
    model, x, y = layers(), torch.rand(batch, *shape), torch.arange(batch) % 10
    theirs = Theirs(model, x) if who == "auto_LiRPA" else None
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(x: Tensor, y: Tensor) -> float:
        start = time.process_time()
        loss = OURS[name](model, x, y) if theirs is None else theirs(name, x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return time.process_time() - start

    step(x[:2], y[:2])
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = [step(x, y) for _ in range(1 + steps)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put({"seconds": statistics.median(seconds[1:]), "megabytes": (peak - base) / 1024})


def measured(who: str, name: str, options: argparse.Namespace) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (queue, who, name, options.batch, options.steps)
    process = context.Process(target=worker, args=arguments, daemon=True)
    process.start()
    found: dict[str, float] = queue.get(timeout=600)
    process.join()
    return found


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5, help="that count")
    console = Console()
    options = command.options_of(parser, console)
    if absent := peers.absent("auto_LiRPA"):
        console.print(absent)
    table = Table("loss", "whose", "seconds", "megabytes", title=f"a step of batch {options.batch}")
    record: dict[str, Any] = {
        "benchmark": "losses",
        **environment.describe(torch.device("cpu")),
        "batch": options.batch,
        "steps": options.steps,
        "losses": {},
    }
    for name in OURS:
        record["losses"][name] = {"bounds": measured("bounds", name, options)}
        if not absent and name in Theirs.LOSSES:
            record["losses"][name]["auto_LiRPA"] = measured("auto_LiRPA", name, options)
        for who, found in record["losses"][name].items():
            table.add_row(name, who, f"{found['seconds']:.3f}", f"{found['megabytes']:.0f}")
    console.print(table)
    save(options.json, record)


if __name__ == "__main__":
    main()
