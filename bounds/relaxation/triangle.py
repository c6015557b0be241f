"""The relaxation of one ReLU layer: the kinds of neuron, and the triangle of the unstable ones.

| kind     | when              | constraint on (ẑ, z)                                            |
|----------|-------------------|-----------------------------------------------------------------|
| active   | l ≥ 0             | z = ẑ                                                           |
| dead     | u ≤ 0             | z = 0                                                           |
| unstable | l < 0 < u         | z ≥ 0, z ≥ ẑ, (u − l) z ≤ u (ẑ − l): vertices (l,0) (0,0) (u,u) |
| split    | kept at ẑ ≥ 0 = l | z = ẑ ≥ 0: vertices (0,0) (u,u)                                 |
| split    | kept at ẑ ≤ 0 = u | z = 0 ≥ ẑ: vertices (l,0) (0,0)                                 |

The rows of an unstable neuron say that of a split one, too, once its l or u is 0: a triangle with
a vertex less. So it counts as unstable everywhere: it has a multiplier, that of its row on ẑ, which
branch and bound splits by. A stable neuron has no such row.

This table is the one place where the kinds are told apart; the dual, the interior point, the primal
points and `lp_reference` all read it. docs/mathematics/relaxation.md has pictures of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bounds.network.affine import Convert

#: How much larger than −l a larger u is, at least: a checker, whose rounding is another, is to
#: choose the same slopes.
TIE = 1.0 + 2.0**-30


@dataclass(frozen=True, eq=False)
class ReluBounds:
    """Pre-activation bounds l ≤ ẑ ≤ u of one ReLU layer, each of shape (batch, *shape).

    split: of the same shape, the l or u of split neurons that 0 stands in the place of, and 0 of
    others; None where none is split.

    >>> neurons = ReluBounds(torch.tensor([[-1.0, 0.5, -2.0]]), torch.tensor([[3.0, 1.0, -1.0]]))
    >>> neurons.unstable.tolist(), neurons.active.tolist(), neurons.slope.tolist()
    ([[True, False, False]], [[False, True, False]], [[0.75, 0.0, 0.0]])
    """

    lower: Tensor
    upper: Tensor
    split: Tensor | None = None

    @cached_property
    def active(self) -> Tensor:
        active = self.lower >= 0
        return active if self.split is None else active & (self.split == 0)

    @cached_property
    def unstable(self) -> Tensor:
        unstable = (self.lower < 0) & (self.upper > 0)
        return unstable if self.split is None else unstable | (self.split != 0)

    @cached_property
    def side(self) -> Tensor:
        """1 where a split neuron is kept at ẑ ≥ 0, −1 where at ẑ ≤ 0, and 0 where none is split."""
        if self.split is None:
            return torch.zeros_like(self.lower)
        return -self.split.sign()

    @property
    def whole(self) -> ReluBounds:
        """The same with no neuron split."""
        if self.split is None:
            return self
        return ReluBounds(
            torch.where(self.split < 0, self.split, self.lower),
            torch.where(self.split > 0, self.split, self.upper),
        )

    @cached_property
    def stable(self) -> Tensor:
        return ~self.unstable

    @cached_property
    def dead(self) -> Tensor:
        return self.stable > self.active

    def kept(self, phases: Tensor) -> ReluBounds:
        """The same with unstable neurons kept where ẑ ≥ 0 (phases > 0) or ẑ ≤ 0 (phases < 0)."""
        before = torch.zeros_like(self.lower) if self.split is None else self.split
        return ReluBounds(
            torch.where(phases > 0, 0.0, self.lower),
            torch.where(phases < 0, 0.0, self.upper),
            torch.where(
                phases > 0, self.lower, torch.where(phases < 0, self.upper, before)
            ).detach(),
        )

    @cached_property
    def mostly_active(self) -> Tensor:
        """Whether u > −l, and by more than rounding makes of u = −l, which is common."""
        return self.upper > -TIE * self.lower

    @cached_property
    def slope(self) -> Tensor:
        """u / (u − l), the slope of the triangle's upper face; 0 where the neuron is not
        unstable."""
        return self._triangle[1] / self.width

    @cached_property
    def width(self) -> Tensor:
        """u − l; 1 where the neuron is not unstable."""
        depth, height = self._triangle
        return (depth + height).masked_fill(self.stable, 1.0)

    @cached_property
    def _triangle(self) -> tuple[Tensor, Tensor]:
        """−l and u, or 0 where the neuron is not unstable: of each input, as a mask costs much more
        for each row."""
        return (
            (-self.lower).masked_fill(self.stable, 0.0),
            self.upper.masked_fill(self.stable, 0.0),
        )

    @cached_property
    def largest(self) -> Tensor:
        """The largest |l| or |u| of each input; (batch,)."""
        sizes = torch.maximum(-self.lower.detach(), self.upper.detach())
        return sizes.flatten(1).amax(1)

    def minimum(self, nu: Tensor, arriving: Tensor) -> Tensor:
        """min of ĉ z − ν ẑ over each unstable neuron's triangle, 0 elsewhere; for (batch, rows,
        *shape)."""
        depth, height = (end.unsqueeze(1) for end in self._triangle)
        return torch.minimum(nu * depth, (arriving - nu) * height).clamp(max=0)

    def face(self, pre_activation: Tensor) -> Tensor:
        """The largest feasible z of unstable neurons, u (ẑ − l) / (u − l), for ẑ of shape (batch,
        rows, *shape)."""
        return self.slope.unsqueeze(1) * (pre_activation - self.lower.unsqueeze(1))

    def project(
        self, pre: Tensor, post: Tensor, steps: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The nearest point (ẑ, z) of each triangle, for (batch, rows, *shape).

        steps: τ and τ' of the metric (Δẑ)² / τ + (Δz)² / τ' that distances are measured in. Every
        neuron counts as unstable here.
        """
        lower, upper = self.lower.unsqueeze(1), self.upper.unsqueeze(1)
        width = upper - lower
        weight, weight_z = 1 / steps[0], 1 / steps[1]

        def distance(to_pre: Tensor, to_post: Tensor) -> Tensor:
            return weight * (pre - to_pre) ** 2 + weight_z * (post - to_post) ** 2

        # The nearest point of each side: z = 0, z = ẑ, and the upper face.
        on_zero = torch.maximum(pre, lower).clamp(max=0)
        mean = (weight * pre + weight_z * post) / (weight + weight_z)
        on_diagonal = torch.minimum(mean.clamp(min=0), upper)
        along = weight * (pre - lower) * width + weight_z * post * upper
        share = (along / (weight * width**2 + weight_z * upper**2)).clamp(0, 1)
        on_face, on_face_z = lower + share * width, share * upper

        far, far_d = distance(on_zero, torch.zeros_like(post)), distance(on_diagonal, on_diagonal)
        diagonal = far_d < far
        nearest = torch.where(diagonal, on_diagonal, on_zero)
        nearest_z = torch.where(diagonal, on_diagonal, 0.0)
        face = distance(on_face, on_face_z) < torch.minimum(far, far_d)
        nearest = torch.where(face, on_face, nearest)
        nearest_z = torch.where(face, on_face_z, nearest_z)
        inside = (post >= 0) & (post >= pre) & (width * post <= upper * (pre - lower))
        return torch.where(inside, pre, nearest), torch.where(inside, post, nearest_z)

    def intersection(self, other: ReluBounds) -> ReluBounds:
        """The better of either bound for each neuron."""
        return ReluBounds(
            torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper)
        )

    def convert(self, convert: Convert) -> ReluBounds:
        split = None if self.split is None else convert(self.split)
        return ReluBounds(convert(self.lower), convert(self.upper), split)
