"""Until when a call may work: looked at wherever work comes in parts."""

from __future__ import annotations

import math
import time

#: Seconds of a limit where none are left.
LEAST = 1e-9


class Deadline:
    """A point in time. seconds: from now; None is never.

    noticed: whether anybody has looked after it was passed, and left work undone.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.noticed = False
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds, none below 0; None where there is no end."""
        return None if math.isinf(self._end) else max(0.0, self._end - time.monotonic())

    @property
    def limit(self) -> float | None:
        """What is left as the time limit of another call, none of which take 0: that call stops at
        once."""
        left = self.left
        return None if left is None else max(left, LEAST)

    @property
    def passed(self) -> bool:
        self.noticed |= time.monotonic() >= self._end
        return self.noticed


#: For calls without a limit.
NEVER = Deadline()
