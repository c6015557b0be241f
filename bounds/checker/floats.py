"""Arithmetic in float64 whose rounding is accounted for: fast, where balls are slow.

IEEE arithmetic, rounding to nearest with unit u = 2⁻⁵³ and with gradual underflow: an operation
returns its exact result times 1 + δ, |δ| ≤ u, and a product that underflows may be off by 2⁻¹⁰⁷⁵
besides. So a sum of k products, in any order and fused or not, is off by at most

    γ_k Σ |a| |b|  +  k 2⁻¹⁰⁷⁵,    γ_k = k u / (1 − k u)

(Higham, Accuracy and Stability of Numerical Algorithms, 2002, ch. 3). `gamma(k)` is four times as
large and has room for eight more operations: that pays for all the rounding in sums of positive
numbers that bound rounding, each off by a part of less than 1/4, and for a few factors around them.
`FLOOR` is added to sizes, so that γ times them is more than what underflow did to them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.sparse import csr_array

from bounds.checker.arithmetic import Arithmetic, Array
from bounds.errors import BoundsError

UNIT = 2.0**-53
FLOOR = 2.0**-900
#: By what u has to be larger than −l for the adaptive slope to be 1: no rounding makes that of a
#: tie.
TIE = 1 + 2.0**-30
#: A matrix of so many numbers is large, and of few if this share is not 0.
LARGE, SHARE = 2**14, 1 / 32
#: The longest sums that anything is proved of.
TERMS = 2**40


def gamma(terms: int) -> float:
    return 4 * (terms + 8) * UNIT if terms < TERMS else math.inf


@dataclass(frozen=True)
class _Numbers:
    """A matrix, as those of other arithmetics."""

    array: np.ndarray | csr_array

    def lines(self, numbers: np.ndarray) -> np.ndarray:
        """Rows by their numbers, (*numbers.shape, columns)."""
        if isinstance(self.array, np.ndarray):
            return np.asarray(self.array[numbers])
        return np.asarray(self.array[numbers.ravel()].toarray()).reshape(*numbers.shape, -1)

    def nrows(self) -> int:
        return int(self.array.shape[0])

    def ncols(self) -> int:
        return int(self.array.shape[1])


class Floats(Arithmetic):
    """float64 as it is."""

    def __init__(self) -> None:
        pass

    def numbers(self, floats: np.ndarray) -> Array:
        return np.asarray(floats, dtype=np.float64)

    def zeros(self, *shape: int) -> Array:
        return np.zeros(shape)

    def constant(self, floats: np.ndarray) -> _Numbers:
        """Without its zeros, where most of a large matrix is."""
        array = np.ascontiguousarray(floats, dtype=np.float64)
        few = array.size >= LARGE and np.count_nonzero(array) <= SHARE * array.size
        return _Numbers(csr_array(array) if few else array)

    def product(self, left: Array, right: _Numbers) -> Array:
        return np.asarray(left @ right.array)

    def dot(self, left: Array, right: Array) -> Array:
        return np.matmul(left, right)


@cache
def floats() -> Floats:
    return Floats()


def require_gradual_underflow() -> None:
    """Raises BoundsError where this thread flushes small numbers to zero."""
    smallest = np.full(4, 5e-324)
    if not (smallest * 1.0 == smallest).all() or not (smallest + 0.0 > 0).all():
        raise BoundsError(
            "this process flushes subnormal numbers to zero, which the checker's proofs do not "
            "allow for: call torch.set_flush_denormal(False) before."
        )


def down(numbers: np.ndarray) -> np.ndarray:
    """The next smaller ones."""
    return np.nextafter(numbers, -np.inf)


def up(numbers: np.ndarray) -> np.ndarray:
    """The next larger ones."""
    return np.nextafter(numbers, np.inf)
