"""HiGHS without the lines that version 1.16 prints while it is constructed, before any option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import highspy

_HIGHS = highspy.Highs


class _QuietHighs(highspy.Highs):
    def enableCallbacks(self) -> None:  # its constructor calls this, which prints
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()


@contextmanager
def quiet_highs() -> Iterator[None]:
    """Let cvxpy, which constructs HiGHS itself, construct a quiet one inside."""
    highspy.Highs = _QuietHighs  # type: ignore[misc]
    try:
        yield
    finally:
        highspy.Highs = _HIGHS  # type: ignore[misc]
