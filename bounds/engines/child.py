"""A module run in a process that ends with the one that started it, whose number comes first:

python -m bounds.engines.child PARENT MODULE ARGUMENTS
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

#: Of Linux: asks for a signal when the parent ends.
PARENT_DEATH = 1

if __name__ == "__main__":
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PARENT_DEATH, signal.SIGKILL)
    if os.getppid() != int(sys.argv.pop(1)):  # it has ended already
        os._exit(1)
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
