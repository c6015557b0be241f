"""Pre-activation bounds from linear functions of the input, carried forward layer by layer.

Every number z of the network lies between two functions of x, M(x) − R(x) ≤ z ≤ M(x) + R(x), both
linear, R ≥ 0 on the box. An affine operation takes them to W M + b and |W| R, a ReLU to what lies
between a slope through 0 and the chord of its triangle (Zhang et al. 2018, "forward mode" of Xu et
al. 2020). For n inputs that costs some 2 n passes through the network, however many neurons there
are, where backward bounds cost one for every neuron that is unstable; they are the tighter ones.
So these come first, where few inputs meet many neurons: they settle what they can.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import accumulate

import torch
from torch import Tensor

from bounds.network.affine import Affine, per_row
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import floor, gamma, smallest, up
from bounds.sets.box import Box
from bounds.solvers.cost import node_flops, pass_flops

#: Slopes are multiples of this, so that half their sum and difference with 0 or 1 are exact.
GRID = 2.0**-20
#: They are rounded up from here on, as slopes of 1/2 are common: so a checker, whose rounding is
#: another, finds the same.
MORE = 0.3
#: Backward bounds of a box are dear where they cost as much as forward ones of so many times the
#: 2ⁿ boxes that halving all of its n sides makes: these tell more.
DEAR = 2


@dataclass(frozen=True, eq=False)
class Planes:
    """M and R of each number of a node, (batch, 1 + inputs, *shape): the constant, and coefficients
    on inputs that are shifted and scaled to [-1, 1]. size: Σ |M_j| + Σ |R_j|, (batch, *shape)."""

    middle: Tensor
    spread: Tensor

    @cached_property
    def size(self) -> Tensor:
        return self.middle.abs().sum(1) + self.spread.abs().sum(1)

    @classmethod
    def within(cls, middle: Tensor, spread: Tensor, errors: Tensor) -> Planes:
        """From what was computed with these errors, (batch, *shape), and what little underflowed;
        the spread is changed in place."""
        spread[:, 0] += errors + 16 * middle.shape[1] * smallest(errors.dtype)
        return cls(middle, spread)

    @property
    def count(self) -> int:
        return self.middle.shape[1]


def pays(network: Network, box: Box) -> bool:
    """Whether bounds carried forward come before backward ones: those of all neurons are dear."""
    numbers = [math.prod(network.nodes[index].shape) for index in network.relus]
    return sum(map(operator.mul, numbers, _backward(network))) > _limit(network, box)


def dear(network: Network, box: Box, layers: Sequence[ReluBounds]) -> Tensor:
    """Of which boxes backward bounds of the unstable neurons are dear; (batch,)."""
    numbers = torch.stack([layer.unstable.flatten(1).sum(1) for layer in layers], 1).double()
    return numbers @ numbers.new_tensor(_backward(network)) > _limit(network, box)


def passes(box: Box) -> int:
    """How many passes of one row bounds carried forward cost: M, R, and sizes."""
    return 2 * _moving(box) + 3


def _moving(box: Box) -> int:
    """How many inputs do, in any of the boxes."""
    return int((box.upper > box.lower).flatten(1).any(0).sum())


def _backward(network: Network) -> list[int]:
    """The operations of one row from each ReLU back to the input."""
    below = list(accumulate(node_flops(network)))
    return [below[index] for index in network.relus]


def _limit(network: Network, box: Box) -> float:
    """The operations from which on backward bounds are dear."""
    boxes = 2.0 ** min(_moving(box), 99)  # more is beyond any network
    return DEAR * boxes * passes(box) * pass_flops(network)


def forward_bounds(
    network: Network, box: Box, known: Sequence[ReluBounds]
) -> tuple[ReluBounds, ...]:
    """Bounds of every ReLU's input on boxes, rounded outward, no looser than those that are known;
    infinite where nothing can be said."""
    planes: list[Planes] = []
    found: list[ReluBounds] = []
    for node in network.nodes:
        match node:
            case InputNode():
                planes.append(_inputs(box))
            case AffineNode(parents=(parent,), operation=operation):
                planes.append(_affine(operation, planes[parent]))
            case SumNode(parents=parents):
                planes.append(_sum([planes[parent] for parent in parents]))
            case ReluNode(parents=(parent,)):
                found.append(_ends(planes[parent]).intersection(known[len(found)]))
                planes.append(_relu(planes[parent], found[-1]))
                if len(found) == len(network.relus):
                    break
            case _:
                raise TypeError(f"forward_bounds does not know {type(node).__name__}.")
    return tuple(found)


def _inputs(box: Box) -> Planes:
    """Of boxes that are no smaller, as far as rounding makes a difference."""
    centre = box.lower / 2 + box.upper / 2
    reach = torch.maximum(box.upper - centre, centre - box.lower)
    reach = torch.where(box.upper > box.lower, up(reach), reach).flatten(1)
    moving = (reach > 0).any(0)
    slopes = torch.diag_embed(reach)[:, moving].unflatten(2, centre.shape[1:])
    middle = torch.cat([centre.unsqueeze(1), slopes], 1)
    return Planes(middle, torch.zeros_like(middle))


def _affine(operation: Affine, before: Planes) -> Planes:
    """W M + b and |W| R; the rounding of both as in `bounds.relaxation.ranges.affine_ends`."""
    dtype, count = before.middle.dtype, before.count
    share, little = gamma(operation.fan_in, dtype) + operation.inexact, count * floor(dtype)
    size = before.size.unsqueeze(1)
    middle = per_row(operation.linear, before.middle)
    spread = per_row(operation.absolute().linear, torch.cat([before.spread, size + little], 1))
    spread, products = spread[:, :count], spread[:, count]
    largest = size.flatten(1).amax(1).reshape(-1, *[1] * (products.dim() - 1))
    errors = share * (products + little / count * (largest + 4 * count))
    if operation.offset is not None:
        middle[:, 0] += operation.offset
        errors = errors + share * operation.offset.abs()
    return Planes.within(middle, spread, errors)


def _sum(terms: Sequence[Planes]) -> Planes:
    middle, spread, sizes = (
        reduce(torch.add, parts)
        for parts in zip(*((each.middle, each.spread, each.size) for each in terms), strict=True)
    )
    return Planes.within(middle, spread, gamma(len(terms), sizes.dtype) * sizes)


def _relu(before: Planes, neurons: ReluBounds) -> Planes:
    """Between α ẑ, where α is 0 or 1, and s ẑ + t ≥ max(ẑ, 0) on [l, u]; what is between two linear
    functions of x is so between two others, with (s ± α) / 2 of them."""
    unstable, (lower, upper) = neurons.unstable, (neurons.lower, neurons.upper)
    active = neurons.active.to(lower)
    chord = (upper / (upper - lower) / GRID + MORE).ceil() * GRID
    s = torch.where(unstable, chord.clamp(max=1), active)
    alpha = torch.where(unstable, neurons.mostly_active.to(lower), active)
    t = torch.where(unstable, up(torch.maximum(-s * lower, (1 - s) * upper)), 0.0)
    p, q = ((s + alpha) / 2).unsqueeze(1), ((s - alpha) / 2).unsqueeze(1)
    middle = p * before.middle + q * before.spread
    spread = q * before.middle + p * before.spread
    middle[:, 0] += t / 2
    spread[:, 0] += t / 2
    errors = gamma(2, t.dtype) * (before.size + t)
    return Planes.within(middle, spread, torch.where(unstable, errors, 0.0))


def _ends(planes: Planes) -> ReluBounds:
    """The least of M − R and the largest of M + R."""
    least, most = planes.middle - planes.spread, planes.middle + planes.spread
    rounding = gamma(3 * planes.count, least.dtype) * planes.size
    rounding = rounding + 16 * planes.count * smallest(least.dtype)
    lower = least[:, 0] - least[:, 1:].abs().sum(1) - rounding
    upper = most[:, 0] + most[:, 1:].abs().sum(1) + rounding
    numbers = lower.isfinite() & upper.isfinite()
    return ReluBounds(
        torch.where(numbers, lower, -torch.inf), torch.where(numbers, upper, torch.inf)
    )
