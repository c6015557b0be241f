"""A quiet HiGHS for cvxpy, which constructs it itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import highspy

from bounds.highs import QuietHighs

_HIGHS = highspy.Highs
_lock, _inside = threading.Lock(), 0


@contextmanager
def quiet_highs() -> Iterator[None]:
    """Let cvxpy construct a quiet one inside. All threads do, until the last has left."""
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    global _inside
    with _lock:
        _inside += change
        highspy.Highs = QuietHighs if _inside else _HIGHS  # type: ignore[misc]
