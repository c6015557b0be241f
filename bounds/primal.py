"""Feasible points of the LP: the upper side of every gap.

Take any x in the input set, push it through the network, and clamp each unstable z into its triangle,
max(0, ẑ) ≤ z ≤ u (ẑ − l) / (u − l): the point is feasible, so its objective is at least the LP optimum.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bounds.relaxation import Relaxation

#: Suggests z from the position of the ReLU, its smallest and its largest feasible value, each (batch, rows, *shape).
Choice = Callable[[int, Tensor, Tensor], Tensor]

#: A pre-activation may leave [l, u] by this much of |l| + |u| and still count as rounding.
FEASIBILITY = 1e-12


def upper_bound(relaxation: Relaxation, x: Tensor, choose: Choice) -> Tensor:
    """The objective of the feasible point that x and `choose` describe; (batch, rows).

    x: (batch, rows, *input_shape). Infinity where the point is not feasible: where x lies outside the box, or where
    bounds l, u that the relaxation was given cut it off.
    """
    batch, rows = x.shape[:2]
    box = relaxation.box
    feasible = ((x >= box.lower.unsqueeze(1)) & (x <= box.upper.unsqueeze(1))).flatten(2).all(2)

    def relu(position: int, flat: Tensor) -> Tensor:
        nonlocal feasible
        neurons = relaxation.relu_bounds[position]
        pre = flat.unflatten(0, (batch, rows))
        active, unstable = neurons.active.unsqueeze(1), neurons.unstable.unsqueeze(1)
        lower, upper = neurons.lower.unsqueeze(1), neurons.upper.unsqueeze(1)
        slack = FEASIBILITY * (lower.abs() + upper.abs())
        inside = (pre >= lower - slack) & (pre <= upper + slack)
        feasible = feasible & (inside | ~unstable).flatten(2).all(2)
        low, high = pre.clamp(min=0), neurons.face(pre)
        z = torch.maximum(torch.minimum(choose(position, low, high), high), low)
        return torch.where(unstable, z, torch.where(active, pre, 0.0)).flatten(0, 1)

    output = relaxation.network.evaluate(x.flatten(0, 1), relu).unflatten(0, (batch, rows))
    value = (relaxation.C * output).flatten(2).sum(2) + relaxation.d
    return torch.where(feasible, value, torch.inf)


def greedy(arriving: dict[int, Tensor]) -> Choice:
    """Each z as small or as large as its triangle allows, by the sign of the ĉ that a backward pass found."""

    def choose(position: int, low: Tensor, high: Tensor) -> Tensor:
        return torch.where(arriving[position] < 0, high, low)

    return choose
