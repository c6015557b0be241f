"""Refutations as they count: the dual function on the whole network, rounded so that it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from bounds.dual.dual import DualPoint, backward_pass
from bounds.network.memory import parts_that_fit, pass_numbers
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import down, gamma, plain_arithmetic, smallest, weighted
from bounds.search.relu_tree import Bound, Refutation


@dataclass(frozen=True, eq=False)
class Claims:
    """That weighted rows are positive, by multipliers, (claims, neurons) of each ReLU, where the
    neurons are as in layers; and those named beyond their ends, by the claim."""

    weights: Tensor
    multipliers: Sequence[Tensor]
    layers: Sequence[ReluBounds]
    beyond: Sequence[tuple[int, Bound]]

    def take(self, some: Tensor) -> Claims:
        """Those of these numbers."""
        place = {number: place for place, number in enumerate(some.tolist())}
        return Claims(
            self.weights[some],
            [each[some] for each in self.multipliers],
            [layer.convert(lambda tensor: tensor[some]) for layer in self.layers],
            [(place[row], bound) for row, bound in self.beyond if row in place],
        )


@torch.no_grad()
def refuted(
    relaxation: Relaxation,
    refutations: Sequence[Refutation],
    *,
    earlier: Sequence[Refutation] = (),
) -> Tensor:
    """Lower bounds, over the reals, of the weighted rows where the phases hold, what is used does,
    and for a bound, the neuron is beyond its end; (refutations,). What is NaN or not above 0
    refutes nothing.

    relaxation: of one input, with the rows of the disjunct, in float64; l and u hold for its
    network, and phases are of its unstable neurons. earlier: what `uses` are positions of; whether
    these hold is not asked here.

    Raises ValueError for a use that may not be, or a bound of a neuron that is not unstable.
    """

    def some(at: Tensor) -> Claims:
        return claims_of(relaxation, [refutations[i] for i in at.tolist()], earlier)

    return values_of(relaxation, len(refutations), some)


def claims_of(
    relaxation: Relaxation, refutations: Sequence[Refutation], earlier: Sequence[Refutation]
) -> Claims:
    """What these claim, which are one at least; arguments and errors as of `refuted`."""
    bounds = relaxation.relu_bounds
    return Claims(
        torch.stack([each.weights for each in refutations]).to(relaxation.C),
        [torch.stack([r.multipliers[k] for r in refutations]) for k in range(len(bounds))],
        _layers(bounds, refutations, earlier),
        [(row, each.bound) for row, each in enumerate(refutations) if each.bound is not None],
    )


@torch.no_grad()
def values_of(
    relaxation: Relaxation, count: int, some: Callable[[Tensor], Claims], *, reserve: float = 0.0
) -> Tensor:
    """As `refuted`. some: those of the claims that have these numbers. reserve: how often the
    rounding of the pass is taken off besides."""
    network, C, d = relaxation.network, relaxation.C[0], relaxation.d[0]
    values = [C.new_zeros(0)]
    if not count:
        return values[0]
    with plain_arithmetic():
        ranges = relaxation.ranges()
        for numbers, _ in parts_that_fit(C.new_zeros(count, 1), pass_numbers(network), None):
            part = some(numbers)
            expand = partial(_repeated, count=len(numbers))
            within = [each.convert(expand) for each in ranges]
            weights = part.weights.to(C)
            rows = (weights @ C.flatten(1)).reshape(len(numbers), 1, *C.shape[1:])
            offset = (weights @ d).unsqueeze(1)
            # What the weighted rows are off by, against what they multiply.
            sizes = (weights @ C.flatten(1).abs()).reshape(rows.shape)
            reach = weighted(sizes, within[-1].magnitude) + (weights @ d.abs()).unsqueeze(1)
            excess = gamma(len(d) + C[0].numel(), C.dtype) * reach
            excess = excess + 8 * C.numel() * smallest(C.dtype) * (1 + within[-1].magnitude.amax())

            def rule(position: int, arriving: Tensor, _: ReluBounds, part: Claims = part) -> Tensor:
                return part.multipliers[position].reshape(arriving.shape)

            point = backward_pass(network, part.layers, len(network.nodes) - 1, rows, rule, within)
            input_set = relaxation.input_set.convert(expand)
            value = point.value_below(input_set, part.layers, offset - excess)[:, 0]
            value = _beyond(value, point, part.beyond)
            assert point.rounding is not None
            values.append(down(value - reserve * point.rounding[:, 0]) if reserve else value)
    return torch.cat(values)


def _repeated(tensor: Tensor, count: int) -> Tensor:
    return tensor.expand(count, *tensor.shape[1:])


@dataclass(eq=False)
class _Left:
    """What some refutations leave of the neurons of one ReLU, by their rows and the neurons' flat
    indices. sides: where only ẑ ≥ 0 is left (1), or ẑ ≤ 0 (−1). ends: of the bounds that they use,
    by the side. bounded: all neurons that a bound is of."""

    sides: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: {1: [], -1: []})
    ends: dict[int, list[tuple[int, int, float]]] = field(default_factory=lambda: {1: [], -1: []})
    bounded: set[int] = field(default_factory=set)

    def of(self, neurons: ReluBounds, count: int) -> ReluBounds:
        """The bounds with the vertices that are left.

        A neuron that is left no room below 0, or above, counts as kept: it has a multiplier still.
        """
        lower, upper = (
            _repeated(each, count).flatten(1).clone() for each in (neurons.lower, neurons.upper)
        )
        if not bool(neurons.unstable.flatten()[list(self.bounded)].all()):
            raise ValueError("a bound is of a neuron that is not unstable")
        for numbers, side, tightest in ((lower, 1, "amax"), (upper, -1, "amin")):
            own = self.ends[side]
            at = torch.tensor([row * numbers.shape[1] + i for row, i, _ in own], dtype=torch.long)
            ends = numbers.new_tensor([end for *_, end in own])
            numbers.view(-1).scatter_reduce_(0, at.to(numbers.device), ends, tightest)
        held = []
        for places in self.sides.values():
            kept = torch.zeros_like(lower, dtype=torch.bool)
            kept[tuple(torch.tensor(places, dtype=torch.long).reshape(-1, 2).T)] = True
            held.append(kept)
        return bounds_left(neurons, lower, upper, held)


def _layers(
    bounds: Sequence[ReluBounds], part: Sequence[Refutation], earlier: Sequence[Refutation]
) -> list[ReluBounds]:
    """The bounds of all layers with the vertices that each refutation leaves. Of the neuron that
    one bounds, those of its side of 0, with 0 in the place of the end."""
    left = [_Left() for _ in bounds]
    for row, one in enumerate(part):
        for (k, i), side in one.phases.items():
            left[k].sides[side].append((row, i))
        for other in one.used(earlier):
            k, i = other.neuron
            left[k].bounded.add(i)
            if other.end == 0:
                left[k].sides[other.side].append((row, i))
            else:
                left[k].ends[other.side].append((row, i, other.end))
        if one.bound is not None:
            k, i = one.bound.neuron
            left[k].bounded.add(i)
            left[k].sides[-one.bound.side].append((row, i))
    return [each.of(neurons, len(part)) for each, neurons in zip(left, bounds, strict=True)]


def bounds_left(
    neurons: ReluBounds, lower: Tensor, upper: Tensor, kept: Sequence[Tensor]
) -> ReluBounds:
    """These l and u, (rows, neurons), in the place of a layer's own. kept: where only ẑ ≥ 0 is
    left, and where ẑ ≤ 0; a neuron may be kept on both sides, at 0."""
    shape = neurons.lower.shape[1:]
    found = ReluBounds(lower.unflatten(1, shape), upper.unflatten(1, shape))
    for side, held in zip((1.0, -1.0), kept, strict=True):
        found = found.kept((held * side).unflatten(1, shape))
    return found


def _beyond(value: Tensor, point: DualPoint, bounded: Sequence[tuple[int, Bound]]) -> Tensor:
    """What the value is at least with the end in the place of 0, for those that are bounds, by the
    row.

    With its side of 0 alone, the neuron's vertices are l and 0, and at these −ν ẑ is at least
    min(−ν l, 0); with l and the end, that is larger by max(ν, 0) |end|, and on the other side by
    max(ĉ − ν, 0) |end|.
    """
    value = value.clone()
    of: dict[int, list[tuple[int, Bound]]] = {}
    for row, bound in bounded:
        of.setdefault(bound.neuron[0], []).append((row, bound))
    for position, own in of.items():
        if position not in point.multipliers:
            continue  # the rows do not depend on it
        rows = torch.tensor([row for row, _ in own])
        places = torch.tensor([bound.neuron[1] for _, bound in own])
        nu, arriving = (
            each[position].flatten(2)[rows, 0, places]
            for each in (point.multipliers, point.arriving)
        )
        below = nu.new_tensor([bound.side for _, bound in own]) > 0
        size = nu.new_tensor([abs(bound.end) for _, bound in own])
        slope = torch.where(below, nu, down(arriving - nu)).clamp(min=0)
        value[rows] = down(value[rows] + down(slope * size))
    return value
