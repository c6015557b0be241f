"""Bounds by passes of their own: l ≤ ẑ ≤ u of single neurons, and lower bounds of rows.

Thousands of neurons, each with a pass through the layers below (`bounds.one_pass`), in parts that
fit. For gradients the parts of a layer keep what their passes computed only as far as that is
little, and otherwise compute it again: a layer's passes may hold more than all the memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bounds.fixed_slope import Faces
from bounds.input_sets import InputSet
from bounds.memory import numbers_at_once, pass_numbers
from bounds.network import Network
from bounds.one_pass import OnePass
from bounds.ranges import Range
from bounds.relaxation import Relaxation
from bounds.rounding import plain_arithmetic
from bounds.triangle import ReluBounds

Ends = tuple[Tensor, Tensor]

#: Numbers that the passes of a layer may keep for gradients.
KEPT = 2**25


def neuron_bounds(
    network: Network,
    input_set: InputSet,
    below: Sequence[ReluBounds],
    ranges: Sequence[Range],
    start: int,
    wanted: Tensor,
    *,
    slope: str,
    max_memory: int | None,
) -> ReluBounds:
    """The bounds of those neurons of node `start` that are wanted, infinite for the others.

    wanted: (batch, *shape), of bools. below, ranges: of the ReLUs and nodes below. slope: "fixed"
    or "adaptive".
    """
    flat = wanted.flatten(1)
    found = flat.nonzero()[:, 1]
    counts = flat.sum(1)
    begins = counts.cumsum(0) - counts
    # Inputs with about as many neurons share a pass: each has as many rows as the largest.
    counts, images = counts.sort(descending=True, stable=True)
    sort = partial(torch.index_select, dim=0, index=images)
    begins, sorted_set = sort(begins), input_set.convert(sort)
    faces = [Faces.of(neurons, slope).convert(sort) for neurons in below]
    sorted_ranges = [each.convert(sort) for each in ranges[: start + 1]]
    room = numbers_at_once(input_set.lower, max_memory)
    lowers, uppers, positions = [], [], []
    passes = OnePass(network, sorted_set, faces, sorted_ranges, start, odd=slope == "fixed")
    run = _keeping(passes.neurons, len(found) * passes.numbers)
    for some, rows in _parts(counts.tolist(), room // max(1, passes.numbers)):
        row = torch.arange(rows.start, rows.stop, device=flat.device)
        own = row < counts[some].unsqueeze(1)
        # Inputs with fewer neurons fill up with their last one.
        row = row.minimum(counts[some].unsqueeze(1) - 1)
        neurons = found[begins[some].unsqueeze(1) + row]
        lower, upper = run(some, neurons, 1.0)
        if slope == "adaptive":
            upper = -run(some, neurons, -1.0)[0]
        lowers.append(lower[own])
        uppers.append(upper[own])
        positions.append((flat.shape[1] * images[some].unsqueeze(1) + neurons)[own])

    def merge(values: list[Tensor], otherwise: float) -> Tensor:
        like = input_set.lower
        result = torch.full((wanted.numel(),), otherwise, dtype=like.dtype, device=like.device)
        if values:
            result = result.scatter(0, torch.cat(positions), torch.cat(values))
        return result.reshape(wanted.shape)

    return ReluBounds(merge(lowers, -math.inf), merge(uppers, math.inf))


def row_bounds(relaxation: Relaxation) -> Tensor:
    """The lower bounds that `solve(relaxation, method="fixed_slope")` gives, up to how their
    rounding is bounded, and nothing else; (batch, rows)."""
    network, C = relaxation.network, relaxation.C
    faces = [Faces.of(neurons, "fixed") for neurons in relaxation.relu_bounds]
    last, numbers = len(network.nodes) - 1, C.shape[1] * pass_numbers(network)
    passes = OnePass(network, relaxation.input_set, faces, relaxation.ranges(), last, odd=True)
    run = _keeping(passes.rows, len(C) * numbers)
    together = max(1, numbers_at_once(C, None) // numbers)
    parts = [slice(first, first + together) for first in range(0, len(C), together)]
    return torch.cat([run(some, C[some], relaxation.d[some])[0] for some in parts])


def _keeping(work: Callable[..., Ends], numbers: int) -> Callable[..., Ends]:
    """`work`, of which gradients keep nothing where its calls would keep more than KEPT."""
    if numbers <= KEPT:
        return work
    return partial(
        checkpoint,
        work,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), plain_arithmetic()),
    )


def _parts(counts: list[int], rows: int) -> Iterator[tuple[slice, range]]:
    """Inputs, whose numbers of neurons fall, and which of their neurons a pass of so many rows
    takes."""
    image = 0
    while image < len(counts) and counts[image] > 0:
        count = counts[image]
        together = max(1, rows // count)
        share = -(-count // -(-count // max(1, rows)))
        for first in range(0, count, share):
            yield slice(image, image + together), range(first, min(count, first + share))
        image += together
