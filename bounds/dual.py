"""The dual function d(ν): a lower bound of the LP for every real ν, computed in one backward pass.

Give each unstable neuron i the multiplier ν_i of its definition ẑ_i = (affine in x and earlier z). What is left of the
Lagrangian separates into a support function of the input set and, for each unstable neuron, the minimum of a linear form
over the three vertices (l, 0), (0, 0), (u, u) of its triangle:

    d(ν) = constant + min over X of ⟨c, x⟩ + Σ_i min(−ν_i l_i, 0, (ĉ_i − ν_i) u_i),

where ĉ_i is the coefficient that arrives at z_i from later layers (Wong & Kolter 2018, eq. 5, for any choice of ν
rather than their one). d is concave and d(ν) ≤ LP optimum; max d = LP optimum. Every method of this package ends here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.input_sets import Box
from bounds.network import Network
from bounds.triangle import ReluBounds

#: Chooses ν from the position of the ReLU in `Network.relus`, the arriving ĉ (batch, rows, *shape) and the neurons'
#: bounds. Its values at stable neurons are ignored.
MultiplierRule = Callable[[int, Tensor, ReluBounds], Tensor]


@dataclass(frozen=True, eq=False)
class DualPoint:
    """Where d was evaluated: its value (batch, rows), ν and ĉ at each ReLU, and c at the input."""

    value: Tensor
    multipliers: tuple[Tensor, ...]
    arriving: tuple[Tensor, ...]
    at_input: Tensor


def evaluate(
    network: Network,
    box: Box,
    relu_bounds: Sequence[ReluBounds],
    start: int,
    coefficients: Tensor,
    rule: MultiplierRule,
) -> DualPoint:
    """d(ν) for the rows ⟨coefficients, node `start`⟩, with ν chosen by `rule` as the pass reaches each ReLU.

    coefficients: (batch, rows, *shape of the node). The value does not include the specification's d.
    """
    triangles = coefficients.new_zeros(coefficients.shape[:2])
    multipliers: dict[int, Tensor] = {}
    arrived: dict[int, Tensor] = {}

    def through(position: int, arriving: Tensor) -> Tensor:
        nonlocal triangles
        neurons = relu_bounds[position]
        nu = torch.where(neurons.unstable.unsqueeze(1), rule(position, arriving, neurons), 0.0)
        triangles = triangles + neurons.minimum(nu, arriving).flatten(2).sum(2)
        multipliers[position], arrived[position] = nu, arriving
        return nu + arriving * neurons.active.unsqueeze(1)

    constant, at_input = network.backward(start, coefficients, through)
    positions = sorted(multipliers)
    return DualPoint(
        value=constant + box.minimum(at_input) + triangles,
        multipliers=tuple(multipliers[k] for k in positions),
        arriving=tuple(arrived[k] for k in positions),
        at_input=at_input,
    )
