"""The ball that cuts the box of an LP's input, with its own support function in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bounds import InvalidInputError
from bounds.sets.box import Box, InputSet
from bounds.sets.norm_balls import L1Ball, L2Ball
from lp_reference.matrices import float64


@dataclass(frozen=True, eq=False)
class NormBall:
    """‖x − centre‖ <= radius in the norm of order 1 or 2; centre: (inputs,)."""

    order: int
    centre: np.ndarray
    radius: float

    def excess(self, x: np.ndarray) -> float:
        """How much further x is from the centre than the radius; negative inside."""
        return float(np.linalg.norm(x - self.centre, self.order) - self.radius)

    def minimum(self, costs: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
        """min ⟨costs, x⟩ over the ball and the box, by bisection on the multiplier λ >= 0 of the
        row ‖x − centre‖ᵖ / p <= radiusᵖ / p.

        The dual function is a sum of one minimum a coordinate, and what these minimisers exceed the
        row by is its slope. Its value bounds the minimum from below whatever λ is.
        """

        def dual(multiplier: float) -> tuple[float, float]:
            nearest = np.clip(self.centre, lower, upper)
            if multiplier > 0 and self.order == 2:
                x = np.clip(self.centre - costs / multiplier, lower, upper)
            else:
                corners = np.stack([nearest, lower, upper])
                lengths = multiplier * np.abs(corners - self.centre)
                x = corners[(costs * corners + lengths).argmin(0), np.arange(len(costs))]
            powers = (np.abs(x - self.centre) ** self.order).sum() - self.radius**self.order
            slope = float(powers) / self.order
            return float(costs @ x) + multiplier * slope, slope

        low, high = 0.0, 1.0
        if dual(low)[1] > 0:
            while dual(high)[1] > 0 and high < 1e300:
                high *= 2
            while low < (middle := (low + high) / 2) < high:
                low, high = (middle, high) if dual(middle)[1] > 0 else (low, middle)
        return max(dual(low)[0], dual(high)[0])


def norm_ball(input_set: InputSet, index: int) -> NormBall | None:
    """The ball of input `index` of a batch, None for a box.

    Raises:
        InvalidInputError: a kind of set that is not known here.
    """
    match input_set:
        case Box():
            return None
        case L1Ball() | L2Ball():
            centre = float64(input_set.centre[index]).ravel()
            return NormBall(input_set.order, centre, float(input_set.radius[index]))
    raise InvalidInputError(
        f"lp_reference got the input set {type(input_set).__name__}, expected a box or a ball of "
        "norm 1 or 2: add it to lp_reference/ball.py."
    )
