"""Pre-activation bounds l ≤ ẑ ≤ u of every ReLU, layer by layer.

"interval" propagates boxes. "backward" improves on them by the dual bound of the layers below (Wong
& Kolter 2018, Alg. 1), for the neurons that the box leaves unstable: only these enter the
relaxation. "optimised" takes the best that "backward" finds with either slope and, for neurons that
are unstable even so, the backward bounds with the best slopes for each (`bounds.ascent`). All hold
for the network over the reals: they are rounded outward by `bounds.ranges` and
`DualPoint.value_below`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from bounds.ascent import ascend
from bounds.dual import DualPoint, backward_pass
from bounds.fixed_slope import fixed
from bounds.input_sets import InputSet
from bounds.memory import pass_numbers, rows_at_once
from bounds.network import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.neuron_bounds import neuron_bounds
from bounds.ranges import Range, affine_range, input_range, relu_range, sum_range
from bounds.triangle import ReluBounds

Intermediate = Literal["interval", "backward", "optimised"]
Slope = Literal["fixed", "adaptive"]

#: l and u are wider than rounding asks for by this part of their terms. Bounds that a corner of
#: the input set attains leave the LP no interior there, and solvers fail on triangles of width
#: 1e-15.
WIDENING = 2.0**-44
#: Iterations on the slopes of an optimised bound, and how many rows of a pass a row counts for
#: meanwhile: by its state, and for the sake of the processor's cache.
ITERATIONS, WEIGHT = 10, 32


def relu_bounds(
    network: Network,
    input_set: InputSet,
    *,
    method: Intermediate,
    slope: Slope,
    max_memory: int | None = None,
) -> tuple[ReluBounds, ...]:
    """The bounds of each ReLU's input, in the order of `network.relus`; see `bounds.relax`."""
    at_once = rows_at_once(input_set.lower, pass_numbers(network), max_memory)
    images = torch.arange(len(input_set), device=input_set.lower.device)
    parts = []
    for some in images.split(at_once):
        part = input_set.convert(partial(torch.index_select, dim=0, index=some))
        parts.append(_relu_bounds(network, part, method, slope, max_memory))
    return tuple(
        ReluBounds(torch.cat([k.lower for k in layer]), torch.cat([k.upper for k in layer]))
        for layer in zip(*parts, strict=True)
    )


def _relu_bounds(
    network: Network,
    input_set: InputSet,
    method: Intermediate,
    slope: Slope,
    max_memory: int | None,
) -> tuple[ReluBounds, ...]:
    known: list[tuple[ReluBounds, ...]] = []
    if method == "optimised":
        known = [
            _relu_bounds(network, input_set, "backward", each, max_memory)
            for each in get_args(Slope)
        ]
    found: list[ReluBounds] = []
    ranges: list[Range] = []
    for node in network.nodes:
        match node:
            case InputNode():
                ranges.append(input_range(input_set))
            case AffineNode(parents=(parent,)):
                ranges.append(affine_range(network, node, ranges[parent]))
            case SumNode(parents=parents):
                ranges.append(sum_range([ranges[p] for p in parents]))
            case ReluNode(parents=(parent,)):
                before = ranges[parent]
                margin = _margin(before)
                neurons = ReluBounds(before.lower - margin, before.upper + margin)
                for other in known:
                    neurons = neurons.intersection(other[len(found)])
                if method != "interval" and not before.exact:
                    neurons = _tighten(
                        network,
                        input_set,
                        found,
                        ranges,
                        parent,
                        neurons,
                        None if method == "optimised" else slope,
                        max_memory,
                    )
                found.append(neurons)
                ranges.append(relu_range(before, neurons, implied=True))
            case _:
                raise TypeError(f"relu_bounds does not know {type(node).__name__}.")
    return tuple(found)


def _margin(pre_activations: Range) -> Tensor:
    return WIDENING * pre_activations.terms


def _tighten(
    network: Network,
    input_set: InputSet,
    below: list[ReluBounds],
    ranges: list[Range],
    start: int,
    neurons: ReluBounds,
    slope: Slope | None,
    max_memory: int | None,
) -> ReluBounds:
    """Improve the bounds of node `start` by backward bounds, for each input's unstable neurons.

    slope: of the backward bounds; None: the best that an ascent finds for each.
    """
    if slope is None:
        found = _optimised(network, input_set, below, ranges, start, neurons, max_memory)
    else:
        found = neuron_bounds(
            network,
            input_set,
            below,
            ranges,
            start,
            neurons.unstable,
            slope=slope,
            max_memory=max_memory,
        )
    own = _margin(ranges[start])
    # Stable neurons keep the bounds of their box: an input's LP is not its batch's business.
    return neurons.intersection(ReluBounds(found.lower - own, found.upper + own))


def _optimised(
    network: Network,
    input_set: InputSet,
    below: list[ReluBounds],
    ranges: list[Range],
    start: int,
    neurons: ReluBounds,
    max_memory: int | None,
) -> ReluBounds:
    """The bounds of the unstable neurons with the best slopes for each; infinite for the others."""
    unstable = neurons.unstable.flatten(1)
    batch, count = len(unstable), int(unstable.sum(1).max())
    # Each input's unstable neurons first; inputs with fewer fill up with stable ones.
    chosen = torch.argsort(unstable, dim=1, descending=True, stable=True)[:, :count]
    numbers = batch * pass_numbers(network, start) * WEIGHT
    lowers, uppers = [], []

    def dual_point(rows: Tensor) -> DualPoint:
        best = ascend(network, below, input_set, start, rows, iterations=ITERATIONS)

        def rule(k: int, arriving: Tensor, layer: ReluBounds) -> Tensor:
            # On the upper face d has a kink in l and u; ν follows it, as the best one does.
            return torch.where(arriving < 0, fixed(k, arriving, layer), best[k])

        return backward_pass(network, below, start, rows, rule, ranges)

    like = neurons.lower
    for part in chosen.split(rows_at_once(like, numbers, max_memory), dim=1):
        rows = torch.zeros(*part.shape, unstable.shape[1], dtype=like.dtype, device=like.device)
        rows.scatter_(2, part.unsqueeze(2), 1.0)
        rows = rows.unflatten(2, neurons.lower.shape[1:])
        lowers.append(dual_point(rows).value_below(input_set, below))
        uppers.append(-dual_point(-rows).value_below(input_set, below))

    def merge(values: list[Tensor], otherwise: float) -> Tensor:
        found = torch.where(unstable.gather(1, chosen), torch.cat(values, 1), otherwise)
        return torch.full_like(unstable, otherwise, dtype=like.dtype).scatter(1, chosen, found)

    return ReluBounds(
        merge(lowers, -math.inf).reshape(like.shape), merge(uppers, math.inf).reshape(like.shape)
    )
