"""Refutations as they count: the dual function on the whole network, rounded so that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bounds.dual.dual import DualPoint, backward_pass
from bounds.network.memory import parts_that_fit, pass_numbers
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import down, gamma, plain_arithmetic, smallest, weighted
from bounds.search.relu_tree import Bound, Refutation


@torch.no_grad()
def refuted(
    relaxation: Relaxation,
    refutations: Sequence[Refutation],
    *,
    reserve: float = 0.0,
    earlier: Sequence[Refutation] = (),
) -> Tensor:
    """Lower bounds, over the reals, of the weighted rows where the phases hold, what is used does,
    and for a bound, the neuron is beyond its end; (refutations,). What is NaN or not above 0
    refutes nothing.

    relaxation: of one input, with the rows of the disjunct, in float64; l and u hold for its
    network, and phases are of its unstable neurons. reserve: how often the rounding of the pass is
    taken off besides. earlier: what `uses` are positions of; whether these hold is not asked here.

    Raises ValueError for a use that may not be, or a bound of a neuron that is not unstable.
    """
    network, bounds, C, d = (
        relaxation.network, relaxation.relu_bounds, relaxation.C[0], relaxation.d[0]
    )  # fmt: skip
    with plain_arithmetic():
        ranges = relaxation.ranges()
        values = []
        for images, _ in parts_that_fit(
            C.new_zeros(len(refutations), 1), pass_numbers(network), None
        ):
            part = [refutations[i] for i in images.tolist()]
            expand = partial(_repeated, count=len(part))
            within = [each.convert(expand) for each in ranges]
            used = [each.used(earlier) for each in part]
            layers = [_left(k, neurons, part, used) for k, neurons in enumerate(bounds)]
            weights = torch.stack([each.weights for each in part]).to(C)
            rows = (weights @ C.flatten(1)).reshape(len(part), 1, *C.shape[1:])
            offset = (weights @ d).unsqueeze(1)
            # What the weighted rows are off by, against what they multiply.
            sizes = (weights @ C.flatten(1).abs()).reshape(rows.shape)
            reach = weighted(sizes, within[-1].magnitude) + (weights @ d.abs()).unsqueeze(1)
            excess = gamma(len(d) + C[0].numel(), C.dtype) * reach
            excess = excess + 8 * C.numel() * smallest(C.dtype) * (1 + within[-1].magnitude.amax())
            nu = [torch.stack([r.multipliers[k] for r in part]) for k in range(len(bounds))]

            def rule(
                position: int, arriving: Tensor, _: ReluBounds, nu: list[Tensor] = nu
            ) -> Tensor:
                return nu[position].reshape(arriving.shape)

            point = backward_pass(network, layers, len(network.nodes) - 1, rows, rule, within)
            input_set = relaxation.input_set.convert(expand)
            value = point.value_below(input_set, layers, offset - excess)[:, 0]
            value = _beyond(value, point, part)
            assert point.rounding is not None
            values.append(down(value - reserve * point.rounding[:, 0]) if reserve else value)
    return torch.cat(values)


def _repeated(tensor: Tensor, count: int) -> Tensor:
    return tensor.expand(count, *tensor.shape[1:])


def _left(
    position: int,
    neurons: ReluBounds,
    refutations: Sequence[Refutation],
    used: Sequence[Sequence[Bound]],
) -> ReluBounds:
    """The bounds of a layer with the vertices that each refutation leaves. Of the neuron that one
    bounds, those of its side of 0, with 0 in the place of the end.

    A neuron that is left no room below 0, or above, counts as kept: it has a multiplier still.
    """
    shape = neurons.lower.shape[1:]
    lower, upper = (
        each.expand(len(refutations), *shape).flatten(1).clone()
        for each in (neurons.lower, neurons.upper)
    )
    sides: list[tuple[int, int, int]] = []
    ends: dict[int, list[tuple[int, int, float]]] = {1: [], -1: []}
    bounded: set[int] = set()
    for row, (one, others) in enumerate(zip(refutations, used, strict=True)):
        sides += [(row, i, side) for (k, i), side in one.phases.items() if k == position]
        for other in others:
            if other.neuron[0] == position:
                bounded.add(other.neuron[1])
                if other.end == 0:
                    sides.append((row, other.neuron[1], other.side))
                else:
                    ends[other.side].append((row, other.neuron[1], other.end))
        if one.bound is not None and one.bound.neuron[0] == position:
            bounded.add(one.bound.neuron[1])
            sides.append((row, one.bound.neuron[1], -one.bound.side))
    if not bool(neurons.unstable.flatten()[list(bounded)].all()):
        raise ValueError("a bound is of a neuron that is not unstable")
    for numbers, tighter, some in ((lower, "amax", ends[1]), (upper, "amin", ends[-1])):
        at = torch.tensor([row * numbers.shape[1] + i for row, i, _ in some], dtype=torch.long)
        tightest = numbers.new_tensor([end for *_, end in some])
        numbers.view(-1).scatter_reduce_(0, at.to(numbers.device), tightest, tighter)
    found = ReluBounds(lower.unflatten(1, shape), upper.unflatten(1, shape))
    # A neuron may be kept on both sides, at 0.
    for side in (1, -1):
        kept = torch.zeros_like(lower)
        places = [(row, i) for row, i, own in sides if own == side]
        kept[tuple(torch.tensor(places, dtype=torch.long).reshape(-1, 2).T)] = side
        found = found.kept(kept.unflatten(1, shape))
    return found


def _beyond(value: Tensor, point: DualPoint, refutations: Sequence[Refutation]) -> Tensor:
    """What the value is at least with the end in the place of 0, for those that are bounds.

    With its side of 0 alone, the neuron's vertices are l and 0, and at these −ν ẑ is at least
    min(−ν l, 0); with l and the end, that is larger by max(ν, 0) |end|, and on the other side by
    max(ĉ − ν, 0) |end|.
    """
    value = value.clone()
    for position, nu in point.multipliers.items():
        own = [
            (row, one.bound)
            for row, one in enumerate(refutations)
            if one.bound is not None and one.bound.neuron[0] == position
        ]
        if own:
            rows = torch.tensor([row for row, _ in own])
            places = torch.tensor([bound.neuron[1] for _, bound in own])
            below = nu.new_tensor([bound.side for _, bound in own]) > 0
            size = nu.new_tensor([abs(bound.end) for _, bound in own])
            own_nu, arriving = (
                each.flatten(2)[rows, 0, places] for each in (nu, point.arriving[position])
            )
            slope = torch.where(below, own_nu, down(arriving - own_nu)).clamp(min=0)
            value[rows] = down(value[rows] + down(slope * size))
    return value
