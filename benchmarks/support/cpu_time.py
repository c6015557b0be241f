"""Time limits in CPU seconds, so that what else the machine does changes no verdict."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import bounds.deadline
from bounds.cli import main


def limits_in_cpu_seconds() -> AbstractContextManager[Any]:
    """What calls of `bounds` take their limits for meanwhile; of all threads of this process."""
    return patch.object(bounds.deadline, "time", SimpleNamespace(monotonic=time.process_time))


if __name__ == "__main__":  # `python -m benchmarks.support.cpu_time certify …`: `bounds`, so timed
    with limits_in_cpu_seconds():
        sys.exit(main())
