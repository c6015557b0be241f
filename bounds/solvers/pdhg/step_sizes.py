"""The step sizes of the primal–dual method, one a variable, and the norm that goes with them.

Pock & Chambolle (2011, doi 10.1109/ICCV.2011.6126441): with K = [A L −I] in units u of its columns
and q of its rows, the steps τ_j = u_j / Σ_i |K_ij| / q_i and σ_i = 1 / (q_i Σ_j |K_ij| u_j) make
the scaled matrix no longer than 1. The units are the widths of x and of the triangles, so that all
variables move within numbers of order 1. But where a triangle is much narrower than what its ẑ is
made of, as one whose ẑ is 0 but for rounding, its width would leave x no room to move: there the
unit is a part of what the row can add up to. Passes with |W| in place of W bound the sums from
above, which only shortens steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bounds.network.graph import AffineNode, Network
from bounds.relaxation.relaxation import Relaxation
from bounds.sets.box import Box
from bounds.solvers.pdhg.matrix_free import MatrixFreeLP

#: The least that a column of the scaled K counts for: a variable that hardly any neuron depends on
#: still takes a finite step.
FLOOR = 1e-6
#: The least unit of a neuron, in parts of the largest sum of its row. More would slow down networks
#: that have no such neurons.
NARROW = 0.1


@dataclass(frozen=True, eq=False)
class StepSizes:
    """τ of x (B, 1, d), ẑ and z, and σ of ν, each (B, 1, n). inverse: of all of them, in a row."""

    x: Tensor
    pre: Tensor
    z: Tensor
    nu: Tensor
    inverse: Tensor

    @staticmethod
    def of(lp: MatrixFreeLP) -> StepSizes:
        absolute = replace(lp, relaxation=_absolute(lp))
        box = lp.relaxation.input_set
        width = (box.upper - box.lower).flatten(1).unsqueeze(1)
        reach = absolute.forward(width, lp.upper)
        q = torch.maximum(lp.upper - lp.lower, NARROW * reach)
        nothing = torch.zeros_like(absolute.relaxation.C[:, :1])
        _, on_x, on_z = absolute.backward(nothing, 1 / q)
        if not isinstance(box, Box):
            # A ball is projected onto in the Euclidean norm: one step for all coordinates.
            on_x = on_x.amax(-1, keepdim=True).expand_as(on_x)
            width = width.mean(-1, keepdim=True).expand_as(width)
        column_x = (on_x * width).clamp(min=FLOOR)
        column_z = (on_z * lp.upper).clamp(min=FLOOR)
        row = (reach + q) / q
        x, z, nu = width**2 / column_x, lp.upper**2 / column_z, 1 / (q**2 * row)
        steps = torch.cat((x, q**2, z, nu), -1)
        # A coordinate of no width does not move, and a length of 0 / 0 would be no number.
        return StepSizes(x, q**2, z, nu, torch.where(steps > 0, 1 / steps, 0.0))

    def take(self, images: Tensor) -> StepSizes:
        return StepSizes(*(t[images] for t in (self.x, self.pre, self.z, self.nu, self.inverse)))

    def lengths(self, dw: Tensor) -> tuple[Tensor, Tensor]:
        """Of a move of (x, ẑ, z, ν), the primal and the dual length, each (B, S, 1)."""
        squares = dw**2 * self.inverse
        n = self.nu.shape[-1]
        primal, dual = squares.split([squares.shape[-1] - n, n], -1)
        return primal.sum(-1, keepdim=True).sqrt(), dual.sum(-1, keepdim=True).sqrt()

    def length(self, dw: Tensor, weight: Tensor) -> Tensor:
        """Both in one, under the primal weight ω."""
        primal, dual = self.lengths(dw)
        return (weight * primal**2 + dual**2 / weight).sqrt()

    def primal_weight(self, lp: MatrixFreeLP, nu: Tensor) -> Tensor:
        """The length of ν over that of half the ranges of x, ẑ and z: a first guess of how far each
        side has to travel, in the units of the objective; (B, S, 1)."""
        box = lp.relaxation.input_set
        width = (box.upper - box.lower).flatten(1).unsqueeze(1)
        triangles = (lp.upper - lp.lower) * lp.unstable, lp.upper * lp.unstable
        ranges = torch.cat((width, *triangles), -1).expand(-1, nu.shape[1], -1)
        primal, dual = self.lengths(torch.cat((ranges / 2, nu), -1))
        ratio = dual / primal
        return torch.where((ratio > 0) & torch.isfinite(ratio), ratio, 1.0)


def _absolute(lp: MatrixFreeLP) -> Relaxation:
    """The relaxation of the network with |W| in place of W, and without biases."""
    nodes = lp.relaxation.network.nodes
    absolute = (
        replace(node, operation=node.operation.absolute()) if isinstance(node, AffineNode) else node
        for node in nodes
    )
    return replace(lp.relaxation, network=Network(tuple(absolute)))
