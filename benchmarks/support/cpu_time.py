"""Time limits in CPU seconds, so that what else the machine does changes no verdict."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import bounds.deadline


def limits_in_cpu_seconds() -> AbstractContextManager[Any]:
    """What calls of `bounds` take their limits for meanwhile; of all threads of this process."""
    return patch.object(bounds.deadline, "time", SimpleNamespace(monotonic=time.process_time))
