"""ℓ1 and ℓ2 balls within a box: support function, minimiser and projection, by finite algorithms.

Write x = c + η, where c is the point of the box nearest to the centre x₀, and o = c − x₀. Where o
is not 0, c lies on the face of the box that x₀ looks at, so η points away from x₀ and |o + η| = |o|
+ |η|. Hence, for x in the box,

    ‖x − x₀‖₁ ≤ r    ⇔    Σ |η|         ≤  r − ‖o‖₁       (an ℓ1 ball around c)
    ‖x − x₀‖₂ ≤ r    ⇔    Σ η (η + 2 o) ≤  r² − ‖o‖₂²

and any η may be shortened, coordinate by coordinate, without leaving the set: points are rounded
towards c. `minimum` evaluates the dual function of the ball's constraint at the best multiplier,
which sorting finds. `minimum_below` measures from the centre of a ball that lies in the box
(`bounds.sets.spread`): for ℓ1 from c, for ℓ2 from x₀. Where that lies outside, it splits c into q
+ (c − q), of which the ball bounds the one and the box the other: for every q,

    ⟨c, x⟩  ≥  ⟨q, x₀⟩ − r ‖q‖₂  +  min over the box of ⟨c − q, x⟩;

the best multiplier has a q with which both sides are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bounds.network.memory import on_cpu
from bounds.rounding import difference_below, down, floor, gamma, smallest, weighted
from bounds.sets.box import Box
from bounds.sets.norm_ball import ULPS, NormBall
from bounds.sets.spread import l1_spread, l2_spread

#: So many of the largest coefficients are tried before all are sorted.
FIRST = 32


class L1Ball(NormBall):
    """An ℓ1 ball within a box."""

    order = 1

    @property
    def budget(self) -> Tensor:
        """r − ‖c − x₀‖₁: the radius of the same set's ball around c; (batch,)."""
        return (self.radius - (self.nearest - self.centre).abs().flatten(1).sum(1)).clamp(min=0)

    def minimum(self, coefficients: Tensor) -> Tensor:
        # max over λ ≥ 0 of ⟨c, x⟩ − λ budget − Σ (|c| − λ)₊ room, a kink of which is the maximum.
        budget = (self.budget + 2 * ULPS * self._eps * self.radius).reshape(-1, 1, 1)
        sizes, rooms, _ = self._greedy(coefficients)
        filled = rooms.detach().cumsum(2) < budget
        # Differentiable, as sizes are: the last coordinate takes what the others leave.
        after = filled.sum(2, keepdim=True)
        padded = torch.cat((sizes, torch.zeros_like(sizes[:, :, :1])), 2)
        multiplier = padded.gather(2, after)
        saved = torch.where(filled, (sizes - multiplier) * rooms, 0.0).sum(2)
        at_nearest = (coefficients * self.nearest.unsqueeze(1)).flatten(2).sum(2)
        return at_nearest - (multiplier * budget).squeeze(2) - saved

    @property
    def centred(self) -> bool:
        return True

    @property
    def around(self) -> tuple[Tensor, Tensor]:
        nearest = self.nearest
        away = (nearest - self.centre).abs().flatten(1)
        count, dtype = away.shape[1], away.dtype
        least = away.sum(1) * (1 - gamma(count, dtype))
        return nearest, -difference_below(least, self.radius).clamp(max=0)

    def _spreads(self, sizes: Tensor, rooms: list[Tensor], radius: Tensor) -> Sequence[Tensor]:
        # In one search: most of what it takes is calls.
        every, count = torch.cat(rooms, 1), len(rooms)
        return l1_spread(torch.cat([sizes] * count, 1), every, radius.unsqueeze(1)).chunk(count, 1)

    def dual_norm(self, q: Tensor) -> Tensor:
        return q.abs().amax(2)

    def _use(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        used = steps.abs().sum(2, keepdim=True)
        return used / self._unit, self.budget.reshape(-1, 1, 1) / self._unit

    def argmin(self, coefficients: Tensor) -> Tensor:
        _, rooms, order = self._greedy(coefficients)
        left = self.budget.reshape(-1, 1, 1) - (rooms.cumsum(2) - rooms)
        sign = coefficients.flatten(2).sign()
        spent = torch.zeros_like(sign).scatter(2, order, rooms.minimum(left.clamp(min=0)))
        return self._place(self._within(-sign * spent))

    def _greedy(self, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """|c|, the longest η against c, and the coordinates, sorted by |c| from the largest on, as
        far as the budget reaches if that is known."""
        _, lower, upper = self._frame
        flat = coefficients.flatten(2)
        sizes, rooms = flat.abs(), torch.where(flat > 0, -lower, upper)
        if on_cpu(flat) and flat.shape[2] > FIRST:  # elsewhere it would wait
            largest, order = sizes.topk(FIRST, 2)
            own = rooms.gather(2, order)
            if bool((own.sum(2) > 2 * self.radius.unsqueeze(1)).all()):
                return largest, own, order
        sizes, order = sizes.sort(2, descending=True)
        return sizes, rooms.gather(2, order), order

    def _project(self, points: Tensor) -> Tensor:
        # η = ± min((|p − c| − λ)₊, room) for the smallest λ ≥ 0 within the budget.
        nearest, lower, upper = self._frame
        away = points.flatten(2) - nearest
        size, room = away.abs(), torch.where(away > 0, upper, -lower)
        budget = self.budget.reshape(-1, 1, 1)

        def lengths(threshold: Tensor) -> Tensor:
            return (size - threshold).clamp(min=0).minimum(room)

        def used(threshold: Tensor) -> Tensor:
            return lengths(threshold).sum(2, keepdim=True)

        stops = torch.cat((size, (size - room).clamp(min=0), torch.zeros_like(size[:, :, :1])), 2)
        stop = _last_within(stops.sort(2, descending=True).values, used, budget)
        # From there on the lengths of these coordinates grow together.
        growing = ((size >= stop) & (size - room < stop)).sum(2, keepdim=True)
        threshold = stop - (budget - used(stop)) / growing.clamp(min=1)
        return self._place(self._within(away.sign() * lengths(threshold.clamp(min=0))))

    def _within(self, steps: Tensor) -> Tensor:
        """η shortened to the budget, which the rounding of long sums exceeds."""
        length = steps.abs().sum(2, keepdim=True)
        budget = self.budget.reshape(-1, 1, 1)
        return steps * torch.where(length > budget, budget / length, 1.0)


class L2Ball(NormBall):
    """An ℓ2 ball within a box.

    Minimisers and projections lie on paths η(τ) = clip(τ g − o) that leave c in a direction g, as
    far along as the ball allows. Lengths are in units of the radius, so that no square overflows.
    """

    order = 2

    def minimum(self, coefficients: Tensor) -> Tensor:
        # max over μ ≥ 0 of the minimum over the box of ⟨c, x⟩ + μ/2 (Σ η (η + 2 o) − budget).
        nearest, *_ = self._frame
        path, budget = self._path(-coefficients.flatten(2), 2 * ULPS * self._eps)
        with torch.no_grad():
            tau, whole = path.furthest(budget)
            multiplier = torch.where(whole, 0.0, path.scale / torch.where(whole, 1.0, tau))
            moving = path.at(tau)
        # Where the box does not hold η, it minimises: its gradient would be multiplied by 0.
        steps = torch.where(tau >= path.reaches, path.end, moving)
        excess = path.used(steps) - budget
        x = nearest + self._unit * steps
        linear = (coefficients.flatten(2) * x).sum(2, keepdim=True)
        return (linear + self._unit * multiplier / 2 * excess).squeeze(2)

    @property
    def centred(self) -> bool:
        return torch.equal(self.nearest, self.centre)

    @property
    def around(self) -> tuple[Tensor, Tensor]:
        return self.centre, self.radius

    def minimum_below(self, coefficients: Tensor) -> Tensor:
        if self.centred:
            return super().minimum_below(coefficients)
        with torch.no_grad():
            below = self._split_minimum(coefficients)
        if not torch.is_grad_enabled():
            return below
        # The gradients of what it lies below: those of a split are others at ties and zeros.
        minimum = self.minimum(coefficients)
        return below + (minimum - minimum.detach())

    def _spreads(self, sizes: Tensor, rooms: list[Tensor], radius: Tensor) -> Sequence[Tensor]:
        # In units in which no square overflows; what underflows is charged.
        largest, reach = sizes.detach().amax(2, keepdim=True), self._unit
        unit = torch.where(largest > 0, largest, 1.0)
        sizes, radii = sizes / unit, radius.unsqueeze(1) / reach.squeeze(2)
        flushed = math.sqrt(sizes.shape[2] * smallest(sizes.dtype)) * largest.squeeze(2)
        spreads = (l2_spread(sizes, each / reach, radii) for each in rooms)
        return [(each * unit.squeeze(2) + flushed) * reach.squeeze(2) for each in spreads]

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

    def _split(self, coefficients: Tensor) -> Tensor:
        """q, the part of the coefficients that the ball bounds rather than the box."""
        # Where the box does not hold η, the gradient of the Lagrangian is 0: q is all of c.
        path, budget = self._path(-coefficients.flatten(2))
        tau, whole = path.furthest(budget)
        multiplier = torch.where(whole, 0.0, path.scale / torch.where(whole, 1.0, tau))
        held = -multiplier * (path.at(tau) + path.offset)
        free = (path.leaves < tau) & (tau < path.reaches) & ~whole
        return torch.where(free, coefficients.flatten(2), held).reshape(coefficients.shape)

    def dual_norm(self, q: Tensor) -> Tensor:
        largest = q.detach().abs().amax(2, keepdim=True)
        unit = torch.where(largest > 0, largest, 1.0)
        return unit.squeeze(2) * torch.linalg.vector_norm(q / unit, dim=2)

    def _use(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        path, budget = self._path(steps)
        return path.used(steps / self._unit), budget

    def argmin(self, coefficients: Tensor) -> Tensor:
        path, budget = self._path(-coefficients.flatten(2))
        tau, _ = path.furthest(budget)
        return self._place(self._unit * path.at(tau))

    def _project(self, points: Tensor) -> Tensor:
        # The nearest point is clip(x₀ + θ (p − x₀)) for the largest θ ≤ 1 within the ball.
        away = (points - self.centre.unsqueeze(1)).flatten(2) / self._unit
        path, budget = self._path(away)
        tau, _ = path.furthest(budget)
        return self._place(self._unit * path.at(tau.minimum(path.scale)))

    def _path(self, direction: Tensor, slack: float = 0.0) -> tuple[_Path, Tensor]:
        """The path in a direction, and the ball's budget for Σ η (η + 2 o); (batch, 1, 1)."""
        nearest, lower, upper = self._frame
        unit = self._unit
        offset = (nearest - self.centre.flatten(1).unsqueeze(1)) / unit
        radius = self.radius.reshape(-1, 1, 1) / unit * (1 + slack)
        budget = (radius**2 - (offset**2).sum(2, keepdim=True)).clamp(min=0)
        return _Path(direction, offset, lower / unit, upper / unit), budget


class _Path:
    """η(τ) = clip(τ g − o), where scale · g = direction and the largest entry of g is 1.

    η_j stays 0 until τ = leaves, moves to its end of the box, and stays there from reaches on.
    """

    def __init__(self, direction: Tensor, offset: Tensor, lower: Tensor, upper: Tensor) -> None:
        largest = direction.abs().amax(2, keepdim=True)
        self.scale = torch.where(largest == 0, 1.0, largest)
        g = direction / self.scale
        # What is so small adds nothing that rounding would leave, but its τ would overflow.
        self.g = torch.where(g.abs() < torch.finfo(g.dtype).eps ** 2, 0.0, g)
        self.offset, self.lower, self.upper = offset, lower, upper
        self.end = torch.where(self.g > 0, upper, torch.where(self.g < 0, lower, 0.0))
        sign, size = self.g.sign(), torch.where(self.g == 0, 1.0, self.g.abs())
        self.leaves = (sign * offset).clamp(min=0) / size
        self.reaches = (sign * (self.end + offset)).clamp(min=0) / size

    def at(self, tau: Tensor) -> Tensor:
        """η(τ), for τ (batch, rows, 1)."""
        moving = torch.clamp(tau * self.g - self.offset, self.lower, self.upper)
        moved = torch.where(tau <= self.leaves, 0.0, moving)
        return torch.where(tau >= self.reaches, self.end, moved)

    def used(self, steps: Tensor) -> Tensor:
        """Σ η (η + 2 o), none of whose terms is negative on a path."""
        return (steps * (steps + 2 * self.offset)).sum(2, keepdim=True)

    def furthest(self, budget: Tensor) -> tuple[Tensor, Tensor]:
        """The largest τ within the budget, and whether that is the path's end; (batch, rows, 1)."""
        if not bool(self.offset.any()):
            return self._furthest_from_centre(budget)
        stops = torch.cat((self.leaves, self.reaches), 2).sort(2).values
        stop = _last_within(stops, lambda tau: self.used(self.at(tau)), budget)
        whole = stop == stops[:, :, -1:]
        # From there on Σ η (η + 2 o) grows as τ² Σ g² over the coordinates that move.
        moving = (self.leaves <= stop) & (stop < self.reaches)
        growth = torch.where(moving, self.g**2, 0.0).sum(2, keepdim=True)
        left = (budget - self.used(self.at(stop))).clamp(min=0)
        tau = (stop**2 + left / torch.where(whole, 1.0, growth)).sqrt()
        return torch.where(whole, stop, tau), whole

    def _furthest_from_centre(self, budget: Tensor) -> tuple[Tensor, Tensor]:
        """The same where all coordinates move from the first: without sorting.

        Let those that have arrived stay, and the others take what they leave: no fewer arrive then.
        """
        squares, ends = self.g**2, self.end**2
        moving, tau = self.g != 0, torch.zeros_like(budget)
        while True:
            growth = torch.where(moving, squares, 0.0).sum(2, keepdim=True)
            left = budget - torch.where(moving, 0.0, ends).sum(2, keepdim=True)
            whole = growth == 0
            further = (left.clamp(min=0) / torch.where(whole, 1.0, growth)).sqrt()
            tau = torch.maximum(tau, further)  # which only rounding can make smaller
            still = moving & (tau < self.reaches)
            if torch.equal(still, moving):
                return torch.where(whole, self.reaches.amax(2, keepdim=True), tau), whole
            moving = still


def _last_within(stops: Tensor, used: Callable[[Tensor], Tensor], budget: Tensor) -> Tensor:
    """The last stop of each row at which no more than the budget is used; (batch, rows, 1).

    stops: (batch, rows, stops), in the order in which what is used grows; the first uses nothing.
    """
    first = torch.zeros_like(stops[:, :, :1], dtype=torch.long)
    last = first + stops.shape[2] - 1
    for _ in range(stops.shape[2].bit_length()):
        middle = (first + last + 1) // 2
        within = used(stops.gather(2, middle)) <= budget
        first, last = torch.where(within, middle, first), torch.where(within, last, middle - 1)
    return stops.gather(2, first)
