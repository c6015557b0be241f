"""How a solve ends."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """How the solve of one LP ended. Whatever the status, `lower` is a valid bound or NaN.

    >>> Status(3).name, Status.OPTIMAL == 0
    ('TIME_LIMIT', True)
    """

    OPTIMAL = 0
    """The gap is within the tolerance, or within what rounding makes of it: lower is the LP
    optimum, proved by upper."""
    BOUND = 1
    """A one-pass method ran as intended; it does not aim at the optimum."""
    ITERATION_LIMIT = 2
    TIME_LIMIT = 3
    """The time was up, or Ctrl-C came; lower is −inf where nothing had been proved by then."""
    NUMERICAL_ERROR = 4
    """The arithmetic broke down before the gap closed, or a bound is NaN."""
    SIGN = 5
    """lower > 0 or upper < 0, which was all that was asked; the gap is open."""
