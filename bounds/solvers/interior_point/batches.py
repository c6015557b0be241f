"""Which LPs are solved together: of inputs with alike numbers of unstable neurons, to pad
little."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bounds.network.memory import Numbers
from bounds.relaxation.relaxation import Relaxation

#: Numbers in all the matrices T of the LPs that are solved together: what stays in a processor's
#: cache, or what fills a GPU.
BATCH = Numbers(cpu=2**22, device=2**27)


def alike(relaxation: Relaxation) -> Iterator[Tensor]:
    """The inputs of each batch, in ascending order."""
    sizes = torch.tensor(relaxation.unstable)
    order = torch.argsort(sizes)
    first = 0
    while first < len(order):
        count = int((sizes[order] <= 1.25 * int(sizes[order[first]]) + 32).sum()) - first
        widest = int(sizes[order[first + count - 1]])
        count = min(count, places(relaxation, widest) // relaxation.C.shape[1])
        images = order[first : first + max(1, count)]
        yield images.sort().values.to(relaxation.C.device)
        first += len(images)


def places(relaxation: Relaxation, n: int) -> int:
    """How many LPs of n unstable neurons to solve at a time."""
    return max(1, BATCH.on(relaxation.C) // max(1, n) ** 2)
