"""When an iterative method may leave an LP: at its optimum, or where its sign is decided."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from bounds.solution.solution import gap_closed

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
        self, lower: Tensor, upper: Tensor, gap: Tensor, magnitude: Tensor, rounding: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Whether each LP is at its optimum, and whether it may end because its sign is decided,
        where that is enough.

        gap: upper − lower. magnitude: the sum of the magnitudes that make up the bounds. rounding:
        what they can be off by.
        """
        largest = torch.maximum(lower.abs(), upper.abs())
        closed = gap_closed(gap, largest, self.tolerance, rounding)
        if not self.sign_only:
            return closed, None
        away = torch.maximum(DECIDED * magnitude, 2 * rounding)
        return closed, (gap >= -rounding) & ((lower > away) | (upper < -away))
