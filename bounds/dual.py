"""The dual function d(ν): a lower bound of the LP for every real ν, computed in one backward pass.

Give each unstable neuron i the multiplier ν_i of its definition ẑ_i = (affine in x and earlier z).
What is left of the Lagrangian separates into a support function of the input set and, for each
unstable neuron, the minimum of a linear form over the three vertices (l, 0), (0, 0), (u, u) of its
triangle:

    d(ν) = constant + min over X of ⟨c, x⟩ + Σ_i min(−ν_i l_i, 0, (ĉ_i − ν_i) u_i),

where ĉ_i is the coefficient that arrives at z_i from later layers (Wong & Kolter 2018, arXiv
1711.00851, eq. 5, for any choice of ν rather than theirs). d is concave and d(ν) ≤ LP optimum; max
d = LP optimum. Every method ends here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.input_sets import InputSet
from bounds.network import Network
from bounds.triangle import ReluBounds

#: Chooses ν from the position of the ReLU in `Network.relus`, the arriving ĉ (batch, rows, *shape)
#: and the neurons' bounds. Its values at stable neurons are ignored.
MultiplierRule = Callable[[int, Tensor, ReluBounds], Tensor]


@dataclass(frozen=True, eq=False)
class DualPoint:
    """One ν a row, and all that the backward pass learnt with it.

    constant: (batch, rows). at_input: c, (batch, rows, *input_shape). multipliers and arriving: ν
    and ĉ at each ReLU that the rows depend on, keyed by its position in `Network.relus`, each
    (batch, rows, *shape).
    """

    constant: Tensor
    at_input: Tensor
    multipliers: dict[int, Tensor]
    arriving: dict[int, Tensor]

    def value(self, input_set: InputSet, relu_bounds: Sequence[ReluBounds]) -> Tensor:
        """d(ν), of shape (batch, rows)."""
        value = self.constant + input_set.minimum(self.at_input)
        for position, nu in self.multipliers.items():
            neurons = relu_bounds[position]
            value = value + neurons.minimum(nu, self.arriving[position]).flatten(2).sum(2)
        return value

    def negated(self) -> DualPoint:
        """−ν for the negated rows: what the same pass gives for them where the rule is odd in ĉ."""
        return DualPoint(
            -self.constant,
            -self.at_input,
            {k: -nu for k, nu in self.multipliers.items()},
            {k: -c for k, c in self.arriving.items()},
        )


def backward_pass(
    network: Network,
    relu_bounds: Sequence[ReluBounds],
    start: int,
    coefficients: Tensor,
    rule: MultiplierRule,
) -> DualPoint:
    """The dual point of the rows ⟨coefficients, node `start`⟩, with ν chosen by `rule` as the pass
    reaches each ReLU.

    coefficients: (batch, rows, *shape of the node). The specification's d is no part of the point.
    """
    multipliers: dict[int, Tensor] = {}
    arrived: dict[int, Tensor] = {}

    def through(position: int, arriving: Tensor) -> Tensor:
        neurons = relu_bounds[position]
        nu = torch.where(neurons.unstable.unsqueeze(1), rule(position, arriving, neurons), 0.0)
        multipliers[position], arrived[position] = nu, arriving
        return nu + arriving * neurons.active.unsqueeze(1)

    constant, at_input = network.backward(start, coefficients, through)
    return DualPoint(constant, at_input, multipliers, arrived)
