"""HiGHS without the lines that version 1.16 prints while it is constructed, before any option."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import highspy

_HIGHS = highspy.Highs
_lock, _inside = threading.Lock(), 0


class _QuietHighs(highspy.Highs):
    def enableCallbacks(self) -> None:  # its constructor calls this, which prints
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()


@contextmanager
def quiet_highs() -> Iterator[None]:
    """Let cvxpy, which constructs HiGHS itself, construct a quiet one inside. All threads do, until
    the last has left."""
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    global _inside
    with _lock:
        _inside += change
        highspy.Highs = _QuietHighs if _inside else _HIGHS  # type: ignore[misc]
