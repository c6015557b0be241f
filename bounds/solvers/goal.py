"""When an iterative method may leave an LP: at its optimum, or where its sign is decided."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from bounds.solution.solution import gap_closed
from bounds.solution.status import Status

#: A bound decides the sign where it is further from 0 than this part of the sum of the magnitudes
#: that make it up: far enough to survive that the proof is rounded outward.
DECIDED = 1e-9


@dataclass(frozen=True)
class Goal:
    """tolerance: the gap relative to the larger of |lower| and |upper|. sign_only: whether it is
    enough that lower > 0 or upper < 0."""

    tolerance: float
    sign_only: bool = False

    def times(self, factor: float) -> Self:
        """With this factor on the tolerance."""
        return replace(self, tolerance=factor * self.tolerance)

    def reached(
        self, lower: Tensor, upper: Tensor, magnitude: Tensor, rounding: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Whether each LP may end, and the `Status` that it then has.

        magnitude: the sum of the magnitudes that make up the bounds. rounding: what they can be off
        by.
        """
        closed = gap_closed(lower, upper, self.tolerance, rounding)
        status = torch.where(closed, int(Status.OPTIMAL), int(Status.SIGN))
        if not self.sign_only:
            return closed, status
        away = torch.maximum(DECIDED * magnitude, 2 * rounding)
        agree = upper - lower >= -rounding
        return closed | agree & ((lower > away) | (upper < -away)), status
