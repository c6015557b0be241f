"""One instance, as `bounds verify` in a process of its own, with a timeout of its own.

Without torch, which only that process needs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bounds.benchmark.instances import VERDICTS, Instance, existing

#: Seconds after its timeout in which a process may still write what it found.
GRACE = 5.0


@dataclass(frozen=True)
class Answer:
    """content: of the result file: the verdict and, after "sat", the assignment; after "error" what
    the process said."""

    verdict: str
    seconds: float
    content: bytes


@dataclass(frozen=True)
class Runs:
    """Instances of a folder, which is there on every machine that runs one."""

    folder: Path

    def __call__(self, instance: Instance) -> Answer:
        with TemporaryDirectory() as output:
            return self._run(instance, Path(output) / "result.txt")

    def _run(self, instance: Instance, target: Path) -> Answer:
        model, query = (existing(self.folder, name) for name in (instance.model, instance.query))
        command = [sys.executable, "-m", "bounds.engines.child", str(os.getpid())]
        command += ["bounds", "verify", os.fspath(query)]
        command += ["--network", f"./{model}" if not model.is_absolute() else os.fspath(model)]
        command += ["--timeout", repr(instance.timeout), "--result", os.fspath(target)]
        start, late = time.monotonic(), False
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # to end whatever it starts with it
        )
        try:
            _, said = process.communicate(timeout=instance.timeout + GRACE)
        except subprocess.TimeoutExpired:
            said, late = "", True
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - start
        content = target.read_bytes() if target.is_file() else b""
        verdict = content.partition(b"\n")[0].strip().decode(errors="replace")
        if verdict not in VERDICTS:
            # One that gave up by itself has written nothing either, and ends with 0.
            verdict = "timeout" if late or process.returncode == 0 else "error"
            said = said.strip() or f"the process ended with {process.returncode}"
            content = "\n".join([verdict, said] if verdict == "error" else [verdict]).encode()
        return Answer(verdict, seconds, content)
