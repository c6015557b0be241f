"""What ℓ1 and ℓ2 balls within a box have in common; `norm_balls` has their algorithms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bounds.network.affine import Convert, row_sums
from bounds.network.memory import Numbers
from bounds.rounding import difference_below, down, floor, gamma, smallest
from bounds.sets.box import Box, InputSet

#: By how many units of rounding of its radius a point may leave a ball and still count as inside.
#: `minimum` allows for twice as much, so that it holds for every such point.
ULPS = 8
#: Numbers to search multipliers for at a time: what stays in a core's own cache, and is too little
#: for its memory to be given back to the system and asked for anew, which costs more.
BLOCK = Numbers(cpu=2**16, device=2**62)


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

    @property
    @abstractmethod
    def centred(self) -> bool:
        """Whether a point of the box is the centre of a ball that cuts out the same set."""

    @property
    @abstractmethod
    def around(self) -> tuple[Tensor, Tensor]:
        """That point and the radius around it, rounded up; (batch, *input_shape) and (batch,)."""

    def minimum_below(self, coefficients: Tensor) -> Tensor:
        middle, below, _ = self.spread(coefficients, _whole, cut=not self.uncut, above=False)
        return down(middle - below)

    def spread(
        self, coefficients: Tensor, seen: Callable[[Tensor], Tensor], *, cut: bool, above: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """m, s and t, each (batch, rows), of a centred set: over it, ⟨c, x⟩ lies between m − s and
        m + t, whatever rounding did to m, s and t; differentiable.

        seen: what of numbers (batch, *input_shape) the coefficients (batch, rows, *what they see)
        are on. cut: whether the box may cut the ball. above: whether t is wanted; else it is s.
        """
        dtype, count = coefficients.dtype, coefficients.shape[2:].numel()
        centre, radius = self.around
        flat = coefficients.flatten(2)
        if cut:
            # Of either side of the centre, rounded up.
            ends = difference_below(self.lower, centre), difference_below(-self.upper, -centre)
            rooms = [seen(-end).flatten(2) for end in ends]
            parts = [self._sides(*some, radius, above) for some in _blocks(flat, *rooms)]
            sides = [torch.cat(side, 1) for side in zip(*parts, strict=True)]
        else:
            sides = [radius.unsqueeze(1) * self.dual_norm(flat)]
        size = centre.detach().abs()
        terms = row_sums(flat.detach().abs(), seen(size + floor(dtype)).flatten(2))
        largest = (size.flatten(1).amax(1) + radius.detach()).unsqueeze(1)
        share, underflow = gamma(count, dtype), count * smallest(dtype) * (3 + largest)
        sides = [side + (share * (side.detach() + terms) + underflow) for side in sides]
        return row_sums(coefficients, seen(centre)), sides[0], sides[-1]

    def _sides(
        self, coefficients: Tensor, left: Tensor, right: Tensor, radius: Tensor, above: bool
    ) -> Sequence[Tensor]:
        """How far ⟨c, x⟩ lies below its value at the centre and, where it is wanted, above it."""
        sizes, sign = coefficients.abs(), coefficients.detach()
        # One of both is 0. (`torch.where` takes many times as long.)
        positive = torch.gt(sign, 0, out=torch.empty_like(sign))
        negative = torch.le(sign, 0, out=torch.empty_like(sign))
        rooms = [torch.addcmul(negative * right, positive, left)]
        if above:
            rooms.append(torch.addcmul(negative * left, positive, right))
        return self._spreads(sizes, rooms, radius)

    @abstractmethod
    def _spreads(self, sizes: Tensor, rooms: list[Tensor], radius: Tensor) -> Sequence[Tensor]:
        """max Σ v t over 0 ≤ t ≤ rooms with ‖t‖ ≤ radius, or more, up to `gamma` of the number of
        coordinates, for each of these rooms; sizes v and rooms: (batch, rows, coordinates), radius:
        (batch,)."""

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


def _whole(numbers: Tensor) -> Tensor:
    return numbers.unsqueeze(1)


def _blocks(rows: Tensor, left: Tensor, right: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Some of the rows at a time, and what belongs to them of rooms, of each row or of all."""
    count = max(1, BLOCK.on(rows) // max(1, rows[:, :1].numel()))
    for first in range(0, max(1, rows.shape[1]), count):
        some = slice(first, first + count)
        if left.shape[1] == 1:
            yield rows[:, some], left, right
        else:
            yield rows[:, some], left[:, some], right[:, some]
