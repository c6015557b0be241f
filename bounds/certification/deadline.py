"""How much time is left, and what it was spent on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Deadline:
    """A point in time. timeout: seconds from now; None is never."""

    def __init__(self, timeout: float | None) -> None:
        self._end = math.inf if timeout is None else time.perf_counter() + timeout

    @property
    def left(self) -> float | None:
        """Seconds, None where there is no end."""
        return None if math.isinf(self._end) else self._end - time.perf_counter()

    @property
    def passed(self) -> bool:
        return time.perf_counter() >= self._end


class Stopwatch:
    """seconds: of each kind of work, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, work: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[work] = self.seconds.get(work, 0.0) + spent
