"""Another device than the CPU: the checks of `device_checks.py`, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.conftest import CHECKOUT


def test_another_device_gives_what_the_cpu_gives() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
    ended = subprocess.run(
        [*command, "tests/system/device_checks.py"], cwd=CHECKOUT, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-1000:]
    assert " passed" in ended.stdout or " skipped" in ended.stdout
