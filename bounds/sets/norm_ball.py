"""What ℓ1 and ℓ2 balls within a box have in common; `norm_balls` has their algorithms."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bounds.network.affine import Convert
from bounds.rounding import down, floor, gamma, smallest, weighted
from bounds.sets.box import Box, InputSet

#: By how many units of rounding of its radius a point may leave a ball and still count as inside.
#: `minimum` allows for twice as much, so that it holds for every such point.
ULPS = 8


@dataclass(frozen=True, eq=False)
class NormBall(InputSet):
    """The points of the box [lower, upper] within `radius` of `centre`.

    lower, upper: (batch, *input_shape), within centre ± radius. centre: (batch, *input_shape), in
    the box or not. radius: (batch,). The set is not empty.
    """

    centre: Tensor
    radius: Tensor

    #: Of the norm.
    order: ClassVar[int]

    @property
    def nearest(self) -> Tensor:
        """c: the point of the box that is nearest to the centre, in every norm."""
        return torch.clamp(self.centre, self.lower, self.upper)

    @property
    def uncut(self) -> bool:
        """Whether the box holds every ball of the batch."""
        reach = self.radius.reshape(-1, *[1] * (self.centre.dim() - 1))
        below, above = self.lower <= self.centre - reach, self.upper >= self.centre + reach
        return bool((below & above).all())

    def distance(self, points: Tensor) -> Tensor:
        """‖x − x₀‖ in units of the radius (of 1 where that is 0), of shape (batch, rows)."""
        away = (points - self.centre.unsqueeze(1)).flatten(2) / self._unit
        # torch.linalg.vector_norm sums one after the other and loses digits; sum() pairs them.
        return away.abs().pow(self.order).sum(2).pow(1 / self.order)

    def contains(self, points: Tensor) -> Tensor:
        """Whether each point lies in the set: in the box exactly, in the ball up to `ULPS`."""
        in_box = (points >= self.lower.unsqueeze(1)) & (points <= self.upper.unsqueeze(1))
        reach = (self.radius.reshape(-1, 1, 1) / self._unit).squeeze(2)
        in_ball = self.distance(points) <= reach * (1 + ULPS * self._eps)
        return in_box.flatten(2).all(2) & in_ball

    def minimum_below(self, coefficients: Tensor) -> Tensor:
        with torch.no_grad():
            below = self._split_minimum(coefficients)
        if not torch.is_grad_enabled():
            return below
        # The gradients of what it lies below: those of a split are others at ties and zeros.
        minimum = self.minimum(coefficients)
        return below + (minimum - minimum.detach())

    def _split_minimum(self, coefficients: Tensor) -> Tensor:
        q = self._split(coefficients)
        # That c − q is rounded is one of the spare roundings of `gamma` there.
        from_box = Box(self.lower, self.upper).minimum_below(coefficients - q)
        at_centre = (q * self.centre.unsqueeze(1)).flatten(2).sum(2)
        reach = self.radius.unsqueeze(1) * self.dual_norm(q.flatten(2))
        below = from_box + at_centre - reach
        dtype, count = q.dtype, q.flatten(2).shape[2]
        size = self.centre.abs()
        sizes = weighted(q, size + floor(dtype)) + reach + below.abs() + from_box.abs()
        largest = (size.flatten(1).amax(1) + self.radius).unsqueeze(1)
        excess = gamma(count, dtype) * sizes + count * smallest(dtype) * (3 + largest)
        return down(below - excess)

    @abstractmethod
    def _split(self, coefficients: Tensor) -> Tensor:
        """q, the part of the coefficients that the ball bounds rather than the box."""

    @abstractmethod
    def dual_norm(self, q: Tensor) -> Tensor:
        """‖q‖_* for (batch, rows, coordinates), up to `gamma` of their number; differentiable."""

    def inside(self, points: Tensor) -> tuple[Tensor, Tensor]:
        dtype = points.dtype
        spare = gamma(4 * points.flatten(2).shape[2], dtype)
        steps = points.flatten(2) - self.nearest.flatten(1).unsqueeze(1)
        # What η uses of the budget is convex in η, and 0 at 0.
        used, budget = self._use(steps)
        room = (self.radius.reshape(-1, 1, 1) > 0).to(budget)  # in its dtype, not the default one
        budget = (budget - 4 * spare * room).clamp(min=0)
        moved = self._place(steps * torch.where(used > budget, budget / used, 1.0))
        known = self._surely_contains(points, spare)
        shaped = known.reshape(*known.shape, *[1] * (points.dim() - 2))
        proved = self.contains(points) & (known | self._surely_contains(moved, spare))
        return torch.where(shaped, points, moved), proved

    def _surely_contains(self, points: Tensor, spare: float) -> Tensor:
        """Whether each point lies in the set for all that rounding can do; (batch, rows)."""
        distance = self.distance(points) * self._unit.squeeze(2) * (1 + spare)
        in_box = Box(self.lower, self.upper).contains(points)
        return in_box & (distance <= self.radius.unsqueeze(1))

    @abstractmethod
    def _use(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """What η (batch, rows, coordinates) uses of the ball's budget, and that; (batch, rows, 1)
        and (batch, 1, 1), in units of the radius or its square."""

    def project(self, points: Tensor) -> Tensor:
        inside = self.contains(points).reshape(*points.shape[:2], *[1] * (points.dim() - 2))
        return torch.where(inside, points, self._project(points))

    @abstractmethod
    def _project(self, points: Tensor) -> Tensor:
        """The nearest point of the set, for points that may also lie in it."""

    def convert(self, convert: Convert) -> NormBall:
        fields = self.lower, self.upper, self.centre, self.radius
        return type(self)(*(convert(tensor) for tensor in fields))

    @property
    def _eps(self) -> float:
        return torch.finfo(self.lower.dtype).eps

    @property
    def _unit(self) -> Tensor:
        """The radius, or 1 where it is 0, without gradients; (batch, 1, 1)."""
        radius = self.radius.detach().reshape(-1, 1, 1)
        return torch.where(radius > 0, radius, 1.0)

    @property
    def _frame(self) -> tuple[Tensor, Tensor, Tensor]:
        """c, and the box of η around it; each (batch, 1, coordinates)."""
        nearest = self.nearest.flatten(1).unsqueeze(1)
        lower, upper = (end.flatten(1).unsqueeze(1) for end in (self.lower, self.upper))
        return nearest, lower - nearest, upper - nearest

    def _place(self, steps: Tensor) -> Tensor:
        """The points c + η, rounded towards c; η: (batch, rows, coordinates)."""
        nearest = self.nearest.flatten(1).unsqueeze(1)
        x = nearest + steps
        x = torch.where((x - nearest).abs() > steps.abs(), torch.nextafter(x, nearest), x)
        shaped = x.unflatten(2, self.lower.shape[1:])
        return torch.clamp(shaped, self.lower.unsqueeze(1), self.upper.unsqueeze(1))
