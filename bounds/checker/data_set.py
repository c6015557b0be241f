"""Which images of a data set the cases of proofs are about, in rational numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

from bounds.checker.proof import ProvedCase


class DataSetBalls:
    """The ℓ∞ balls around images that a box cuts, at several radii.

    x: (images, inputs), finite, in float32 or float64. labels: (images,). radii: exact. lower,
    upper: the ends of the box, None for none.
    """

    def __init__(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        radii: Sequence[Fraction],
        lower: float | None,
        upper: float | None,
    ) -> None:
        self._x, self._labels, self._radii = x.astype(np.float64), labels, radii
        self._low = -np.inf if lower is None else lower
        self._high = np.inf if upper is None else upper
        self.proved = np.zeros((len(radii), len(x)), dtype=bool)

    def count(self, cases: Iterable[ProvedCase]) -> None:
        """Note in `proved`, (radii, images), whose balls lie in the box of a case that proves their
        label."""
        for case in cases:
            if not case.proved or case.label is None:
                continue
            own = np.flatnonzero(self._labels == case.label)
            nearest = self._x[own].clip(self._low, self._high)
            near = ((case.lower <= nearest) & (nearest <= case.upper)).all(1)
            for image in own[near].tolist():
                for k, radius in enumerate(self._radii):
                    if not self.proved[k, image]:
                        self.proved[k, image] = self._inside(case, self._x[image], radius)

    def _inside(self, case: ProvedCase, x: np.ndarray, radius: Fraction) -> bool:
        """Whether max(x − r, low) ≥ the lower ends of the case, and min(x + r, high) ≤ the upper
        ones."""
        below = _away(x, case.lower, self._low < case.lower)
        above = _away(case.upper, x, self._high > case.upper)
        return all(_difference(*pair) >= radius for pair in below | above)


def _away(larger: np.ndarray, smaller: np.ndarray, open_: np.ndarray) -> set[tuple[float, float]]:
    """The pairs, each once, of which the first has to be a radius above the second: those where
    the box does not end the ball."""
    return set(zip(larger[open_].tolist(), smaller[open_].tolist(), strict=True))


@lru_cache(2**18)
def _difference(larger: float, smaller: float) -> Fraction:
    return Fraction(larger) - Fraction(smaller)
