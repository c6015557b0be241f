"""Verifiers as processes of their own: what they answer, and the CPU seconds of all they start.

A process has one thread and no GPU, copies of the model and the property to itself, and ends at its
limit on CPU seconds. What is charged is the whole process with its children, its start included.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks.competition.instances import Instance
from benchmarks.support import environment
from benchmarks.support.journal import Record

ROOT = Path(__file__).resolve().parents[2]
#: What tools call what they find; anything else is an error.
VERDICTS = {
    **{word: word for word in ("unsat", "sat", "unknown", "timeout")},
    "holds": "unsat",
    "violated": "sat",
}
ALONE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "CUDA_VISIBLE_DEVICES": "",
}
#: Limits on seconds of the clock, which a busy machine stretches, in CPU seconds: what the peers
#: are given, and when a process that does nothing is ended.
PATIENCE, HANGING = 10, 20
#: Seconds between two looks at a process.
LOOK = 0.05


@dataclass(frozen=True)
class Tool(ABC):
    """folder: its checkout. python: the interpreter that has what it needs."""

    name: str
    folder: Path | None
    python: str
    program: str
    remedy: str

    @property
    def absent(self) -> str | None:
        """Why it cannot be run, and the remedy."""
        if self.folder is not None and (self.folder / self.program).is_file():
            return None
        where = "no folder is given" if self.folder is None else f"no {self.program} in it"
        return f"{self.name} is left out, {where}: {self.remedy}"

    @property
    def commit(self) -> str | None:
        return None if self.folder is None else environment.commit_of(self.folder)

    @abstractmethod
    def command(self, instance: Instance, *, limit: float, answer: Path) -> list[str]:
        """What decides the instance within limit CPU seconds, and writes the verdict to answer."""

    @abstractmethod
    def place(self) -> tuple[Path, dict[str, str]]:
        """Where it is run, and what it finds in its environment besides."""

    def verdict(self, status: int, output: str, answer: Path) -> str:
        """A peer that breaks off has decided nothing, whatever it wrote before."""
        words = answer.read_text().split() if status == 0 and answer.is_file() else []
        return VERDICTS.get(words[0], "error") if words else "error"

    def run(self, instance: Instance, *, limit: float, start: float = 0.0) -> Record:
        """verdict and CPU seconds; of errors, the last line that was printed. start: CPU seconds of
        its start, which are granted besides limit."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            copied = Instance(
                instance.suite,
                Path(shutil.copy(instance.model, folder)),
                Path(shutil.copy(instance.property, folder)),
                instance.truth,
            )
            answer, printed = folder / "answer", folder / "printed"
            cwd, besides = self.place()
            with printed.open("wb") as stream:
                process = subprocess.Popen(
                    self.command(copied, limit=limit, answer=answer),
                    cwd=cwd,
                    env={**os.environ, **ALONE, **besides},
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                status, seconds, over = _ended(process, limit + start)
            output = printed.read_text(errors="replace").strip()
            over = over or seconds > limit + start
            verdict = "timeout" if over else self.verdict(status, output, answer)
            record: Record = {"verdict": verdict, "seconds": round(seconds, 3)}
            if verdict == "error":
                record["why"] = f"status {status}: {output.splitlines()[-1:]}"
            return record


def _ended(process: subprocess.Popen[bytes], limit: float) -> tuple[int, float, bool]:
    """Exit status, CPU seconds with the children that it waited for, whether it was ended here."""
    end, over = time.monotonic() + HANGING * limit, False
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode, usage.ru_utime + usage.ru_stime, over
            if _used(process.pid) > limit or time.monotonic() > end:
                process.kill()
                over = True
            time.sleep(LOOK)
    finally:
        with contextlib.suppress(ProcessLookupError):
            # What it started and left, or all of it at Ctrl-C.
            os.killpg(process.pid, signal.SIGKILL)


def _used(pid: int) -> float:
    """CPU seconds so far, counted as those of a process that has ended are. RLIMIT_CPU counts ticks
    of the clock, a tenth more where a virtual machine is kept waiting."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Ours(Tool):
    """`bounds certify`, its time limit in CPU seconds."""

    def __init__(self) -> None:
        super().__init__("ours", ROOT, sys.executable, "bounds/__main__.py", "")

    def command(self, instance: Instance, *, limit: float, answer: Path) -> list[str]:
        module = [self.python, "-m", "benchmarks.support.cpu_time", "certify", str(instance.model)]
        return [*module, "--vnnlib", str(instance.property), "--timeout", f"{limit:g}"]

    def place(self) -> tuple[Path, dict[str, str]]:
        return ROOT, {}

    def verdict(self, status: int, output: str, answer: Path) -> str:
        return VERDICTS.get(output.split("\n")[0], "error")


class Nnenum(Tool):
    """With the settings that it chooses by itself, in one process."""

    def __init__(self, folder: Path | None, python: str) -> None:
        super().__init__(
            "nnenum",
            folder and folder.absolute(),
            python,
            "src/nnenum/nnenum.py",
            "clone github.com/stanleybak/nnenum, install its dependencies, and give --nnenum "
            "FOLDER (and --python, the interpreter that has them).",
        )

    def command(self, instance: Instance, *, limit: float, answer: Path) -> list[str]:
        files = [str(instance.model), str(instance.property)]
        return [
            *(self.python, "-m", "nnenum.nnenum"),
            *(*files, f"{PATIENCE * limit:g}", str(answer), "1"),
        ]

    def place(self) -> tuple[Path, dict[str, str]]:
        assert self.folder is not None
        return self.folder, {"PYTHONPATH": str(self.folder / "src")}


class Crown(Tool):
    """α,β-CROWN with the configuration that it ships for the suite, on the CPU. Where that asks for
    integer programs by Gurobi (mnistfc), with its own branch and bound alone."""

    CONFIGURATIONS: ClassVar = {
        "acasxu": "vnncomp21/acasxu.yaml",
        "cifar10_resnet": "vnncomp21/cifar10-resnet.yaml",
        "collins_rul_cnn": "vnncomp23/collins-rul-cnn.yaml",
        "mnistfc": "vnncomp22/mnistfc.yaml",
        "mnistfc 256x2": "vnncomp22/mnistfc_small.yaml",
        "rl_benchmarks": "vnncomp22/dubins-rejoin.yaml",
        "rl_benchmarks cartpole": "vnncomp22/cartpole.yaml",
        "rl_benchmarks lunarlander": "vnncomp22/lunarlander.yaml",
        "test": "vnncomp21/acasxu.yaml",
    }

    def __init__(self, folder: Path | None, python: str) -> None:
        super().__init__(
            "crown",
            folder and folder.absolute(),
            python,
            "complete_verifier/abcrown.py",
            "clone github.com/Verified-Intelligence/alpha-beta-CROWN with its submodule, install "
            "its requirements, and give --crown FOLDER (and --python, the interpreter that has "
            "them).",
        )

    def command(self, instance: Instance, *, limit: float, answer: Path) -> list[str]:
        model = instance.model.stem.rpartition("_")[2]
        known, suite = self.CONFIGURATIONS, instance.suite
        licensed = ["--complete_verifier", "bab"] if suite == "mnistfc" else []
        return [
            *(self.python, "abcrown.py"),
            *("--config", f"exp_configs/{known.get(f'{suite} {model}', known[suite])}"),
            *("--device", "cpu", "--root_path", "", "--csv_name", "null"),
            *("--onnx_path", str(instance.model), "--vnnlib_path", str(instance.property)),
            *("--timeout", f"{PATIENCE * limit:g}", "--results_file", str(answer)),
            *licensed,
        ]

    def place(self) -> tuple[Path, dict[str, str]]:
        assert self.folder is not None
        return self.folder / "complete_verifier", {}
