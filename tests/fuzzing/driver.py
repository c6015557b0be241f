"""Runs cases and says which are failures."""

from __future__ import annotations

import faulthandler
import hashlib
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from bounds import BoundsError

#: A case that takes longer hangs, and one that takes more memory blows up.
SECONDS, BYTES = 10.0, 2**30
#: Cases kept, beside the valid files, to start others from, and the share of those that are read.
POOL, KEPT = 1000, 0.1
CORPUS = Path(__file__).parent / "corpus"


class Target(Protocol):
    """A reader, and files for it."""

    name: str

    def seeds(self) -> list[bytes]:
        """Valid files."""

    def mutate(self, data: bytes, dice: random.Random, donors: list[bytes]) -> bytes:
        """A file like `data`, damaged; `data` may be damaged already."""

    def read(self, path: Path) -> None:
        """Read the file, and use what it holds. Any exception but BoundsError is a failure."""


@dataclass
class Report:
    """What came out. failures: what happened, by file."""

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)
    slowest: float = 0.0
    seconds: float = 0.0
    pool: int = 0


class Hang(BaseException):
    """Raised by the clock; no reader may catch it."""


def run(
    target: Target,
    *,
    cases: int,
    seed: int,
    folder: Path,
    save_in: Path | None = None,
    tick: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Damage valid files `cases` times and read each.

    Some cases that are read, and each that ends in lines of code that none before it ended in, are
    kept to start others from, so that the damage goes deeper.

    folder: where cases are written. save_in: keep the files of failures there.
    """
    report, dice, seeds = Report(), random.Random(seed), target.seeds()
    pool, seen = list(seeds), set[tuple[int, ...]]()
    path, start = folder / f"case.{target.name}", time.perf_counter()
    for data in seeds:
        path.write_bytes(data)
        target.read(path)  # what is valid is read
    for _ in range(cases):
        data = target.mutate(dice.choice(pool if dice.random() < 0.5 else seeds), dice, seeds)
        outcome, lines, failure = judge(target, data, path, report)
        report.cases += 1
        report.outcomes[outcome] += 1
        if len(pool) < POOL and (lines not in seen or (outcome == "read" and dice.random() < KEPT)):
            seen.add(lines)
            pool.append(data)
        if failure is not None:
            name = f"{hashlib.sha256(data).hexdigest()[:12]}.{target.name}"
            report.failures[name] = failure
            if save_in is not None:
                save_in.mkdir(parents=True, exist_ok=True)
                (save_in / name).write_bytes(data)
        tick(report)
    report.pool, report.seconds = len(pool), time.perf_counter() - start
    return report


def replay(target: Target, folder: Path) -> Iterator[tuple[str, str | None]]:
    """Each file of the corpus and what is wrong with it, which is nothing any more."""
    for file in sorted((CORPUS / target.name).glob("*")):
        path = folder / f"case.{target.name}"
        yield file.name, judge(target, file.read_bytes(), path, Report())[2]


def judge(
    target: Target, data: bytes, path: Path, report: Report
) -> tuple[str, tuple[int, ...], str | None]:
    """ "read", "refused" or "failed"; where in the code it ended; and what is a failure, in words.

    path: where the reader finds the data.
    """
    path.write_bytes(data)
    start, before, peak = time.perf_counter(), _resident(), _peak()
    outcome, lines, failure = "read", (), None
    warned: list[warnings.WarningMessage] = []
    try:
        with _alarm(), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            target.read(path)
    except BoundsError as error:
        outcome, lines = "refused", _lines(error)
        if "\n" in str(error):
            failure = f"its message has several lines: {error}"
    except Hang:
        failure = f"it takes over {SECONDS:.0f} s"
    except MemoryError as error:
        failure, lines = f"it asks for too much memory ({error})", _lines(error)
    except Exception as error:
        lines = _lines(error)
        failure = "".join(traceback.format_exception(error))
    taken = time.perf_counter() - start
    report.slowest = max(report.slowest, taken)
    if taken > SECONDS and failure is None:
        failure = f"it takes {taken:.0f} s"
    if warned and failure is None:
        failure = f"it warns: {warned[0].message}"
    # A peak is the process's own and never falls: what rises no further than before is not seen.
    if _peak() > peak and _peak() - before > BYTES:
        failure = failure or f"it takes {(_peak() - before) / 2**20:.0f} MiB"
    return ("failed" if failure else outcome), lines, failure


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return _peak()
    return pages * resource.getpagesize()


def _lines(error: BaseException | None) -> tuple[int, ...]:
    """The line numbers of the traceback and of those of its causes: where the reader ended."""
    found: list[int] = []
    while error is not None:
        found += [line for _, line in traceback.walk_tb(error.__traceback__)]
        error = error.__cause__
    return tuple(found)


@contextmanager
def _alarm() -> Iterator[None]:
    """Raise Hang after SECONDS; end the process where not even that comes through."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    old = signal.signal(signal.SIGALRM, ring)
    faulthandler.dump_traceback_later(10 * SECONDS, exit=True, file=sys.__stderr__)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, old)
