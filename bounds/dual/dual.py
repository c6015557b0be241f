"""The dual function d(ν): a lower bound of the LP for every real ν, computed in one backward pass.

Give each unstable neuron i the multiplier ν_i of its definition ẑ_i = (affine in x and earlier z).
What is left of the Lagrangian separates into a support function of the input set and, for each
unstable neuron, the minimum of a linear form over the three vertices (l, 0), (0, 0), (u, u) of its
triangle:

    d(ν) = constant + min over X of ⟨c, x⟩ + Σ_i min(−ν_i l_i, 0, (ĉ_i − ν_i) u_i),

where ĉ_i is the coefficient that arrives at z_i from later layers (Wong & Kolter 2018, arXiv
1711.00851, eq. 5, for any choice of ν rather than theirs). d is concave and d(ν) ≤ LP optimum; max
d = LP optimum. Every method ends here. With a picture: docs/mathematics/dual.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.network.affine import row_sums
from bounds.network.graph import Network
from bounds.relaxation.ranges import Range
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import down, gamma, smallest
from bounds.sets.box import InputSet

ALL = slice(None)

#: Chooses ν from the position of the ReLU in `Network.relus`, the arriving ĉ (batch, rows, *shape)
#: and the neurons' bounds. Its values at stable neurons are ignored.
MultiplierRule = Callable[[int, Tensor, ReluBounds], Tensor]


@dataclass(frozen=True, eq=False)
class DualPoint:
    """One ν a row, and all that the backward pass learnt with it.

    constant: (batch, rows). at_input: c, (batch, rows, *input_shape). multipliers and arriving: ν
    and ĉ at each ReLU that the rows depend on, keyed by its position in `Network.relus`, each
    (batch, rows, *shape). rounding: by how much the pass itself can have raised the value,
    (batch, rows), where it was watched.
    """

    constant: Tensor
    at_input: Tensor
    multipliers: dict[int, Tensor]
    arriving: dict[int, Tensor]
    rounding: Tensor | None = None

    def value(self, input_set: InputSet, relu_bounds: Sequence[ReluBounds]) -> Tensor:
        """d(ν), of shape (batch, rows), up to rounding."""
        value = self.constant + input_set.minimum(self.at_input)
        for position, nu in self.multipliers.items():
            neurons = relu_bounds[position]
            value = value + neurons.minimum(nu, self.arriving[position]).flatten(2).sum(2)
        return value

    def value_below(
        self, input_set: InputSet, relu_bounds: Sequence[ReluBounds], d: Tensor | float = 0.0
    ) -> Tensor:
        """A number below the bound d(ν) + d of a real-valued network, for a pass that was watched;
        (batch, rows)."""
        assert self.rounding is not None
        dtype = self.constant.dtype
        terms = [self.constant, input_set.minimum_below(self.at_input), self.constant * 0 + d]
        excess = self.rounding
        for position, nu in self.multipliers.items():
            neurons = relu_bounds[position]
            vertices = neurons.minimum(nu, self.arriving[position]).flatten(2)
            terms.append(vertices.sum(2))
            # No vertex is positive: the sum of their sizes is the size of their sum.
            count = vertices.shape[2]
            excess = torch.add(excess, terms[-1].detach().abs(), alpha=gamma(count, dtype))
            underflow = count * smallest(dtype) * (3 + neurons.largest)
            excess = excess + underflow.unsqueeze(1)
        every = torch.stack(terms)
        sizes = every.detach().abs().sum(0)
        excess = torch.add(excess, sizes, alpha=gamma(len(terms), dtype))
        return down(every.sum(0) - (excess + 3 * len(terms) * smallest(dtype)))


def backward_pass(
    network: Network,
    relu_bounds: Sequence[ReluBounds],
    start: int,
    coefficients: Tensor,
    rule: MultiplierRule,
    ranges: Sequence[Range] | None = None,
) -> DualPoint:
    """The dual point of the rows ⟨coefficients, node `start`⟩, with ν chosen by `rule` as the pass
    reaches each ReLU.

    coefficients: (batch, rows, *shape of the node). The specification's d is no part of the point.
    ranges: of the nodes up to `start`, where the rounding of the pass is to be bounded.
    """
    ledger = None if ranges is None else Ledger(ranges[: start + 1], coefficients)
    multipliers: dict[int, Tensor] = {}
    arrived: dict[int, Tensor] = {}

    def through(position: int, arriving: Tensor) -> Tensor:
        neurons = relu_bounds[position]
        nu = rule(position, arriving, neurons).masked_fill(neurons.stable.unsqueeze(1), 0.0)
        multipliers[position], arrived[position] = nu, arriving
        return torch.where(neurons.active.unsqueeze(1), arriving, nu)

    constant, at_input = network.backward(start, coefficients, through, ledger)
    rounding = None if ledger is None else ledger.total
    return DualPoint(constant, at_input, multipliers, arrived, rounding)


#: Numbers (batch, *shape) as rows of coefficients see them: (batch, rows or 1, *what they see).
Seen = Callable[[Tensor], Tensor]


def seen_whole(numbers: Tensor) -> Tensor:
    """By rows of coefficients on the whole tensor."""
    return numbers.unsqueeze(1)


class Ledger:
    """By how much the rounding of a backward pass can raise its value.

    Whatever coefficients on a node the pass has computed, it may go on as if they were exact: what
    they are off by counts once, where they arise, against the range of the node's values.
    """

    def __init__(self, ranges: Sequence[Range], coefficients: Tensor, images: slice = ALL) -> None:
        self._ranges, self._images = ranges, images
        underflow = torch.stack([each.underflow[images] for each in ranges]).sum(0)
        self.total = underflow.unsqueeze(1).expand(coefficients.shape[:2])

    def arrived(self, node: int, coefficients: Tensor, seen: Seen = seen_whole) -> None:
        """seen: what the coefficients see of the node's numbers."""
        price = self._ranges[node].price
        if price is not None:
            self.total = self.total + _weighted(coefficients, seen(price[self._images]))

    def added(self, node: int, coefficients: Tensor, seen: Seen = seen_whole) -> None:
        dtype = coefficients.dtype
        size = self._ranges[node].magnitude[self._images]
        underflow = 3 * smallest(dtype) * size.flatten(1).sum(1).unsqueeze(1)
        off = _weighted(coefficients, seen(gamma(1, dtype) * size))
        self.total = self.total + off + underflow


def _weighted(coefficients: Tensor, weights: Tensor) -> Tensor:
    """Σ |coefficients| · weights of each row, (batch, rows); weights (batch, rows or 1, *shape)."""
    total = row_sums(coefficients.detach().abs(), weights.detach())
    count = coefficients.shape[2:].numel()
    return total if math.isfinite(gamma(count, coefficients.dtype)) else total + math.inf
