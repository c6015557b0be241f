"""Arithmetic that proves: real balls, and rationals.

A ball is a midpoint and a radius. Each operation on balls gives one that holds the exact result for
every choice of numbers from its operands, so what is true of a whole ball is true of the exact
number; every float64 is a ball of radius 0. The balls are those of Arb (Johansson 2017, IEEE
Trans. Computers 66, https://arblib.org), the rationals those of FLINT, both through python-flint.

Comparisons of balls are true only where they are proved: of `a >= b` and `a < b` both may be false,
and with a NaN both are.

Arrays of numbers are numpy arrays of dtype object, which compute element by element.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bounds.arguments import shown
from bounds.errors import BoundsError, InvalidInputError

if TYPE_CHECKING:
    pass

Array = np.ndarray  # of dtype object
#: Bits of the midpoints: fewer than a float64 has prove nothing of use, more than these take ages.
PRECISIONS = range(64, 4097)


class Arithmetic:
    """One kind of number, and the matrices of it, which multiply fast.

    number: makes one from a float64, exactly. matrix: from its numbers of rows and of columns, and
    the entries row by row.
    """

    def __init__(self, number: Any, matrix: Any) -> None:
        self.matrix = matrix
        self._numbers = np.frompyfunc(number, 1, 1)

    def numbers(self, floats: np.ndarray) -> Array:
        """Exactly these float64."""
        return np.asarray(self._numbers(np.asarray(floats, dtype=np.float64)), dtype=object)

    def zeros(self, *shape: int) -> Array:
        return np.broadcast_to(self.numbers(np.zeros(())), shape).copy()

    def constant(self, floats: np.ndarray) -> Any:
        """The matrix of exactly these float64, (rows, columns)."""
        return self.matrix(*floats.shape, self.numbers(floats).ravel().tolist())

    def product(self, left: Array, right: Any) -> Array:
        """An array (n, k) times a matrix (k, m), as an array (n, m)."""
        rows, columns = len(left), right.ncols()
        entries = np.empty(rows * columns, dtype=object)
        entries[:] = (self.matrix(*left.shape, left.ravel().tolist()) * right).entries()
        return entries.reshape(rows, columns)

    def dot(self, left: Array, right: Array) -> Array:
        """An array (n, k) times a vector (k,), as an array (n,)."""
        return self.product(left, self.matrix(len(right), 1, right.tolist()))[:, 0]


@cache
def balls() -> Arithmetic:
    from flint import arb, arb_mat

    return Arithmetic(arb, arb_mat)


@cache
def rationals() -> Arithmetic:
    from flint import fmpq, fmpq_mat

    def number(value: float) -> fmpq:
        return fmpq(*float(value).as_integer_ratio())

    return Arithmetic(number, fmpq_mat)


def require_precision(call: str, bits: int) -> None:
    """Raises InvalidInputError for too few bits, or too many."""
    if isinstance(bits, bool) or not isinstance(bits, int) or bits not in PRECISIONS:
        raise InvalidInputError(
            f"{call}(precision={shown(bits)}): expected a number of bits from "
            f"{PRECISIONS.start} to {PRECISIONS.stop - 1}."
        )


@contextmanager
def ball_precision(bits: int) -> Iterator[None]:
    """Compute with balls of this precision inside.

    Raises:
        InvalidInputError: too few bits, or too many. BoundsError: python-flint is not installed.
    """
    require_precision("check", bits)
    try:
        from flint import ctx
    except ImportError as error:
        raise BoundsError(
            "checking this needs python-flint, which is not installed: "
            "pip install relu-bounds[check]."
        ) from error
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


def smaller(first: Array, second: Array) -> Array:
    """The smaller of both, or balls that hold it; numpy's own minimum would guess where these
    overlap."""
    return np.asarray(np.frompyfunc(_smaller, 2, 1)(first, second), dtype=object)


def _smaller(first: Any, second: Any) -> Any:
    return first.min(second) if hasattr(first, "min") else min(first, second)


def larger(first: Array, second: Array) -> Array:
    return -smaller(-first, -second)


def midpoints(numbers: Array) -> np.ndarray:
    """The float64 next to each ball's midpoint: good for choices, no proof of anything."""
    floats = [float(number) for number in numbers.ravel().tolist()]
    return np.array(floats, dtype=np.float64).reshape(numbers.shape)


def proved_below(number: Any) -> float:
    """A float64 at most as large as the number, or as every one of the ball; −inf where there is
    none."""
    if hasattr(number, "lower"):
        end = number.lower()
        below = float(end)
    else:
        end = number
        try:
            below = int(number.p) / int(number.q)
        except OverflowError:
            return -math.inf
    while math.isfinite(below) and not end >= _exactly(end, below):
        below = math.nextafter(below, -math.inf)
    return below if math.isfinite(below) else -math.inf


def _exactly(like: Any, number: float) -> Any:
    """A float64 as what it can be compared with."""
    return number if hasattr(like, "lower") else type(like)(*number.as_integer_ratio())


def proved_above(number: Any) -> float:
    """A float64 at least as large; inf where there is none."""
    return -proved_below(-number)
