"""Feasible points of the LP: the upper side of every gap.

Take any x in the input set, push it through the network, and clamp each unstable z into its
triangle, max(0, ẑ) ≤ z ≤ u (ẑ − l) / (u − l): the point is feasible, so its objective is at least
the LP optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.relaxation import Relaxation

#: Suggests z from the position of the ReLU, its smallest and its largest feasible value, each
#: (batch, rows, *shape).
Choice = Callable[[int, Tensor, Tensor], Tensor]

#: A pre-activation may leave [l, u] by this many epsilons of |l| + |u| and still count as rounding.
FEASIBILITY = 4096


@dataclass(frozen=True, eq=False)
class PrimalPoint:
    """x (batch, rows, *input_shape), z at each ReLU (batch, rows, *shape), the objective there and
    the sum of the magnitudes of its terms, both (batch, rows).

    The value is infinite where the point is not feasible: where x lies outside the input set, or
    where bounds l, u that the relaxation was given cut it off.
    """

    x: Tensor
    z: tuple[Tensor, ...]
    value: Tensor
    magnitude: Tensor


def push_forward(relaxation: Relaxation, x: Tensor, choose: Choice) -> PrimalPoint:
    """The feasible point that x (batch, rows, *input_shape) and the choice of each z describe."""
    batch, rows = x.shape[:2]
    feasible = relaxation.input_set.contains(x)
    chosen: list[Tensor] = []

    def relu(position: int, flat: Tensor) -> Tensor:
        nonlocal feasible
        neurons = relaxation.relu_bounds[position]
        pre = flat.unflatten(0, (batch, rows))
        active, unstable = neurons.active.unsqueeze(1), neurons.unstable.unsqueeze(1)
        lower, upper = neurons.lower.unsqueeze(1), neurons.upper.unsqueeze(1)
        slack = FEASIBILITY * torch.finfo(pre.dtype).eps * (lower.abs() + upper.abs())
        inside = (pre >= lower - slack) & (pre <= upper + slack)
        feasible = feasible & (inside | ~unstable).flatten(2).all(2)
        low, high = pre.clamp(min=0), neurons.face(pre)
        z = torch.maximum(torch.minimum(choose(position, low, high), high), low)
        chosen.append(torch.where(unstable, z, torch.where(active, pre, 0.0)))
        return chosen[-1].flatten(0, 1)

    output = relaxation.network.evaluate(x.flatten(0, 1), relu).unflatten(0, (batch, rows))
    terms = (relaxation.C * output).flatten(2)
    value = torch.where(feasible, terms.sum(2) + relaxation.d, torch.inf)
    return PrimalPoint(x, tuple(chosen), value, terms.abs().sum(2) + relaxation.d.abs())
