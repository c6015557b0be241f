"""What an iterative method keeps of the LPs at work: the best bounds so far, and who has ended."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import fixed
from bounds.dual.primal import PrimalPoint, suggested
from bounds.relaxation.relaxation import Relaxation
from bounds.solution.certificate import Certificate
from bounds.solution.solution import Solution, gap_closed
from bounds.solution.status import Status
from bounds.solvers.goal import Goal

#: A gap below this part of the sum of the magnitudes that make up the bounds is rounding.
ROUNDING = 64


@dataclass(eq=False, kw_only=True)
class Progress:
    """B inputs × S rows, and the best that each LP has reached; a method adds its own iterates.

    images (B,) and rows (B, S) say which LPs of the whole batch these are. running marks the rows
    that still iterate: an input keeps as many places as its fellows, so some places hold LPs that
    have ended. rounding (B, S): that of `Relaxation.scale`. best_nu, best_x and best_z: the
    multipliers behind lower, and the point behind upper.
    """

    images: Tensor
    rows: Tensor
    rounding: Tensor
    lower: Tensor
    upper: Tensor
    best_nu: Tensor
    best_x: Tensor
    best_z: Tensor
    iterations: Tensor
    last_progress: Tensor
    magnitude: Tensor
    status: Tensor
    running: Tensor

    #: What an LP leaves behind when it has ended.
    RESULTS = (
        "lower",
        "upper",
        "best_nu",
        "best_x",
        "best_z",
        "iterations",
        "magnitude",
        "status",
        "running",
    )

    @staticmethod
    def beginning(x: Tensor, z: Tensor, nu: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """The fields of LPs that have no bounds yet, and x, z and ν to begin with."""
        B, S = nu.shape[:2]
        number = nu.new_zeros(B, S)
        count = torch.zeros(B, S, dtype=torch.long, device=nu.device)
        return {
            "images": torch.arange(B, device=nu.device),
            "rows": torch.arange(S, device=nu.device).expand(B, S),
            "rounding": _rounding(scale) * scale,
            "lower": number - torch.inf,
            "upper": number + torch.inf,
            "best_nu": nu.clone(),
            "best_x": x.clone(),
            "best_z": z.clone(),
            "iterations": count.clone(),
            "last_progress": count.clone(),
            "magnitude": number.clone(),
            "status": count + int(Status.NUMERICAL_ERROR),
            "running": torch.ones_like(count, dtype=torch.bool),
        }

    def record(
        self,
        iteration: Tensor | int,
        lower: Tensor,
        nu: Tensor,
        upper: Tensor,
        x: Tensor,
        z: Tensor,
        magnitude: Tensor,
        *,
        goal: Goal,
        patience: float,
    ) -> None:
        """Keep the better bounds, and end the LPs whose gap has closed or stopped closing."""
        running = self.running
        # A NaN compares false: it never replaces a bound.
        higher, smaller = running & (lower > self.lower), running & (upper < self.upper)
        before = self.upper - self.lower
        self.lower = torch.where(higher, lower, self.lower)
        self.upper = torch.where(smaller, upper, self.upper)
        smaller = smaller.unsqueeze(-1)
        self.best_nu = torch.where(higher.unsqueeze(-1), nu, self.best_nu)
        self.best_x = torch.where(smaller, x, self.best_x)
        self.best_z = torch.where(smaller, z, self.best_z)
        self.iterations = torch.where(running, iteration, self.iterations)
        self.magnitude = torch.where(running, magnitude, self.magnitude)

        # What makes up the bounds may vanish together with them: then the rounding of the points
        # that they are between does not.
        rounding = torch.add(self.rounding, magnitude, alpha=_rounding(lower))
        gap = self.upper - self.lower
        ends, decided = goal.reached(self.lower, self.upper, gap, magnitude, rounding)
        self.last_progress = torch.where(gap < 0.9 * before, iteration, self.last_progress)
        stalled = iteration - self.last_progress > patience
        if decided is not None:
            self.status = self.status.masked_fill(running & decided, int(Status.SIGN))
        self.status = self.status.masked_fill(running & ends, int(Status.OPTIMAL))
        ends = ends | stalled if decided is None else ends | stalled | decided
        self.running = (running > ends) & (magnitude < torch.inf)

    def end(self, status: Status) -> None:
        """End every LP that is still running."""
        self.status = torch.where(self.running, int(status), self.status)
        self.running = torch.zeros_like(self.running)

    def put_back(self, everything: Self) -> None:
        """Write what the LPs at work have reached into the whole batch."""
        if self is everything:
            return
        at = self.images.unsqueeze(1), self.rows
        for name in self.RESULTS:
            getattr(everything, name)[at] = getattr(self, name)

    def tell(self, deadline: Deadline, told: int) -> int:
        """Tell of the LPs that have ended since so many had; how many have by now."""
        ended = int((~self.running).sum())
        deadline.tell(ended - told)
        return ended

    def running_places(self) -> tuple[Tensor, Tensor] | None:
        """The inputs with running rows and, of each, the places that the busiest of them needs.

        None if that is all of them.
        """
        counts = self.running.sum(1).tolist()
        images = [i for i, count in enumerate(counts) if count]
        if len(images) == len(counts) and max(counts) == self.running.shape[1]:
            return None
        return self.places(images, max(counts))

    def places(self, images: list[int], places: int) -> tuple[Tensor, Tensor]:
        """These inputs and, of each, so many places, with running rows first."""
        chosen = torch.tensor(images).to(self.images.device)
        order = torch.argsort(self.running[chosen], dim=1, descending=True, stable=True)
        return chosen, order[:, :places]

    def take(self, images: Tensor, rows: Tensor) -> Self:
        """These inputs (B',) and, of each, these places (B', S')."""
        at = images.unsqueeze(1)
        picked = {
            field.name: getattr(self, field.name)[at, rows]
            for field in fields(self)
            if field.name != "images"
        }
        return type(self)(images=self.images[images], **picked)


def _rounding(like: Tensor) -> float:
    """The part of magnitudes that is rounding, in the dtype of `like`."""
    return ROUNDING * torch.finfo(like.dtype).eps


def late(relaxation: Relaxation, *, goal: Goal, method: str) -> Solution:
    """What a single pass proves of LPs that there is no time to iterate on."""
    network, relu_bounds = relaxation.network, relaxation.relu_bounds
    point = backward_pass(network, relu_bounds, len(network.nodes) - 1, relaxation.C, fixed)
    nothing = torch.zeros_like(relaxation.d, dtype=torch.long)
    return certified(
        relaxation,
        tuple(point.multipliers[k] for k in range(len(relu_bounds))),
        suggested(relaxation, point),
        nothing + int(Status.TIME_LIMIT),
        nothing,
        magnitude=torch.zeros_like(relaxation.d),
        goal=goal,
        method=method,
    )


def certified(
    relaxation: Relaxation,
    multipliers: tuple[Tensor, ...],
    point: PrimalPoint,
    status: Tensor,
    iterations: Tensor,
    *,
    magnitude: Tensor,
    goal: Goal,
    method: str,
) -> Solution:
    """The solution whose bounds are those of the multipliers and the point on the network itself.

    An LP that ended at the goal, and is not there by those bounds, has broken down.
    """
    certificate = Certificate(multipliers, point.x, point.z)
    lower, upper = certificate.lower(relaxation, sound=False), point.value
    # Of the LP that was solved, and of the network, whose constants may cancel.
    terms = magnitude + point.magnitude + relaxation.scale()
    rounding = 4 * ROUNDING * torch.finfo(lower.dtype).eps * terms
    largest = torch.maximum(lower.abs(), upper.abs())
    closed = gap_closed(upper - lower, largest, goal.tolerance, rounding)
    undecided = ~((lower > 0) | (upper < 0))
    failed = (status == Status.OPTIMAL) & ~closed | (status == Status.SIGN) & undecided
    failed |= ~torch.isfinite(lower)
    status = torch.where(failed, int(Status.NUMERICAL_ERROR), status)
    return Solution(lower, upper, status, iterations, certificate, method)
