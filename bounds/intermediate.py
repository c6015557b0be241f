"""Pre-activation bounds l ≤ ẑ ≤ u of every ReLU, layer by layer.

"interval" propagates boxes. "backward" improves on them by the dual bound of the layers below (Wong
& Kolter 2018, Alg. 1), for the neurons that the box leaves unstable: only these enter the
relaxation. "optimised" takes the best that "backward" finds with either slope and, for neurons that
are unstable even so, the backward bounds with the best slopes for each (`bounds.ascent`). All round
outward by a margin that covers the rounding of the passes to first order, so that no point of the
input set leaves its own bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from bounds.ascent import ascend
from bounds.dual import DualPoint, backward_pass
from bounds.fixed_slope import RULES
from bounds.input_sets import Box, InputSet
from bounds.memory import pass_numbers, rows_at_once
from bounds.network import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.triangle import ReluBounds

Intermediate = Literal["interval", "backward", "optimised"]
Slope = Literal["fixed", "adaptive"]

#: Rounding margin in units of the dtype's epsilon times the sum of the magnitudes that a
#: pre-activation is made of.
MARGIN = 64
#: Iterations on the slopes of an optimised bound, and how many rows of a pass a row counts for
#: meanwhile: by its state, and for the sake of the processor's cache.
ITERATIONS, WEIGHT = 10, 32


@dataclass(frozen=True, eq=False)
class _Range:
    """What interval arithmetic knows of one node.

    magnitude: of the terms that the node's values are sums of. box: every point of [lower, upper]
    is attained. exact: each bound is attained by itself.
    """

    lower: Tensor
    upper: Tensor
    magnitude: Tensor
    box: bool
    exact: bool


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
    ranges: list[_Range] = []
    found: list[ReluBounds] = []
    magnitudes: list[Tensor] = []
    for node in network.nodes:
        match node:
            case InputNode():
                magnitude = torch.maximum(input_set.lower.abs(), input_set.upper.abs())
                box = isinstance(input_set, Box)
                ranges.append(
                    _Range(input_set.lower, input_set.upper, magnitude, box=box, exact=box)
                )
            case AffineNode(parents=(parent,)):
                ranges.append(_affine_range(node, ranges[parent]))
            case SumNode(parents=parents):
                terms = [ranges[p] for p in parents]
                ranges.append(
                    _Range(
                        torch.stack([t.lower for t in terms]).sum(0),
                        torch.stack([t.upper for t in terms]).sum(0),
                        torch.stack([t.magnitude for t in terms]).sum(0),
                        box=False,
                        exact=False,
                    )
                )
            case ReluNode(parents=(parent,)):
                before = ranges[parent]
                magnitude = before.magnitude.detach()
                margin = MARGIN * torch.finfo(magnitude.dtype).eps * magnitude
                neurons = ReluBounds(before.lower - margin, before.upper + margin)
                for other in known:
                    neurons = neurons.intersection(other[len(found)])
                magnitudes.append(magnitude)
                if method != "interval" and not before.exact:
                    neurons = _tighten(
                        network,
                        input_set,
                        found,
                        magnitudes,
                        parent,
                        neurons,
                        None if method == "optimised" else slope,
                        max_memory,
                    )
                found.append(neurons)
                after = neurons.convert(lambda bound: bound.clamp(min=0))
                ranges.append(_Range(after.lower, after.upper, after.upper, box=False, exact=False))
            case _:
                raise TypeError(f"relu_bounds does not know {type(node).__name__}.")
    return tuple(found)


def _affine_range(node: AffineNode, before: _Range) -> _Range:
    operation = node.operation
    absolute = operation.absolute()
    middle = operation.forward((before.lower + before.upper) / 2)
    radius = absolute.linear((before.upper - before.lower) / 2)
    magnitude = absolute.linear(before.magnitude)
    if operation.offset is not None:
        magnitude = magnitude + operation.offset.abs()
    return _Range(
        middle - radius,
        middle + radius,
        magnitude,
        box=before.box and operation.elementwise,
        exact=before.box or (before.exact and operation.elementwise),
    )


def _tighten(
    network: Network,
    input_set: InputSet,
    below: list[ReluBounds],
    magnitudes: list[Tensor],
    start: int,
    neurons: ReluBounds,
    slope: Slope | None,
    max_memory: int | None,
) -> ReluBounds:
    """Improve the bounds of node `start` by backward bounds, for each input's unstable neurons.

    slope: of the backward bounds; None: the best that an ascent finds for each.
    """
    unstable = neurons.unstable.flatten(1)
    batch, count = len(unstable), int(unstable.sum(1).max())
    # Each input's unstable neurons first; inputs with fewer fill up with stable ones.
    chosen = torch.argsort(unstable, dim=1, descending=True, stable=True)[:, :count]
    numbers = batch * pass_numbers(network, start) * (WEIGHT if slope is None else 1)
    own = MARGIN * torch.finfo(neurons.lower.dtype).eps * magnitudes[-1].flatten(1)
    lowers, uppers = [], []

    def dual_point(rows: Tensor) -> DualPoint:
        if slope is None:
            return ascend(network, below, input_set, start, rows, iterations=ITERATIONS)
        return backward_pass(network, below, start, rows, RULES[slope])

    for part in chosen.split(rows_at_once(own, numbers, max_memory), dim=1):
        rows = torch.zeros(*part.shape, unstable.shape[1], dtype=own.dtype, device=own.device)
        rows.scatter_(2, part.unsqueeze(2), 1.0)
        rows = rows.unflatten(2, neurons.lower.shape[1:])
        point = dual_point(rows)
        slack = own.gather(1, part) + rounding(point, below, magnitudes)
        lowers.append(point.value(input_set, below) - slack)
        if slope == "fixed":
            point = point.negated()
        else:
            point = dual_point(-rows)
            slack = own.gather(1, part) + rounding(point, below, magnitudes)
        uppers.append(slack - point.value(input_set, below))

    def merge(old: Tensor, new: list[Tensor], better: Callable[..., Tensor]) -> Tensor:
        flat = old.flatten(1)
        held = flat.gather(1, chosen)
        # Stable neurons keep the bounds of their box: an input's LP is not its batch's business.
        found = torch.where(unstable.gather(1, chosen), better(held, torch.cat(new, 1)), held)
        return flat.scatter(1, chosen, found).reshape(old.shape)

    return ReluBounds(
        merge(neurons.lower, lowers, torch.maximum), merge(neurons.upper, uppers, torch.minimum)
    )


def rounding(point: DualPoint, below: Sequence[ReluBounds], magnitudes: Sequence[Tensor]) -> Tensor:
    """What the rounding of a backward pass can add to its value, to first order; (batch, rows).

    A pass that rounds its coefficients on a layer by δ gives a valid bound of a form that is off
    by ⟨δ, z⟩, and |δ| ≤ γ |Wᵀ| |c| for the coefficients c on the pre-activations above: in all,
    γ times the sum of |c| against the magnitudes of the pre-activations.
    """
    total = torch.zeros_like(point.constant)
    for position, nu in point.multipliers.items():
        c = nu + point.arriving[position] * below[position].active.unsqueeze(1)
        total = total + (c.detach().abs() * magnitudes[position].unsqueeze(1)).flatten(2).sum(2)
    return MARGIN * torch.finfo(total.dtype).eps * total
