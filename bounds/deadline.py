"""Until when a call may work: looked at wherever work comes in parts, and told of parts done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from bounds.interrupt import interrupted

#: Seconds of a limit where none are left.
LEAST = 1e-9


class Deadline:
    """A point in time, or that of Ctrl-C if it is earlier. seconds: from now; None is never.

    tell: is told how much more of the work is done.

    noticed: whether anybody has looked after it was passed, and left work undone.
    """

    def __init__(
        self, seconds: float | None = None, tell: Callable[[float], None] = lambda _: None
    ) -> None:
        self.noticed, self.tell = False, tell
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds, none below 0; None where there is no end."""
        if interrupted():
            return 0.0
        return None if math.isinf(self._end) else max(0.0, self._end - time.monotonic())

    @property
    def limit(self) -> float | None:
        """What is left as the time limit of another call, none of which take 0: that call stops at
        once."""
        left = self.left
        return None if left is None else max(left, LEAST)

    @property
    def passed(self) -> bool:
        self.noticed |= interrupted() or time.monotonic() >= self._end
        return self.noticed


class _Never(Deadline):
    """Of calls that have no answer for work left undone, whatever comes."""

    left = None
    passed = False


#: For calls without a limit.
NEVER = _Never()
