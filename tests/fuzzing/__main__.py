"""python -m tests.fuzzing KIND … --cases N --seed S"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.fuzzing import driver
from tests.fuzzing.targets import TARGETS

#: Where cases are written: in memory, where the system has such a folder.
MEMORY = Path("/dev/shm")


def alike(failures: dict[str, str]) -> dict[str, list[str]]:
    """The files of each failure, told apart by the last line of it; numbers count as equal."""
    found: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    for name, failure in failures.items():
        kind = re.sub(r"\d+", "0", failure.strip().rsplit("\n", 1)[-1])[:200]
        found.setdefault(kinds.setdefault(kind, failure), []).append(name)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzzing", allow_abbrev=False)
    parser.add_argument("kinds", nargs="*", choices=[*TARGETS, []], metavar="KIND", default=[])
    parser.add_argument("--cases", type=int, default=100_000, help="of each kind; %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--save", type=Path, default=driver.CORPUS, help="folder for failures; default: the corpus"
    )
    options = parser.parse_args()
    console, failed = Console(highlight=False), False
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        for kind in options.kinds or TARGETS:
            console.print(f"{kind}: cases are written to {folder}/case.{kind}")
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
                bar = progress.add_task(kind, total=options.cases)

                def tick(
                    report: driver.Report, progress: Progress = progress, bar: int = bar
                ) -> None:
                    progress.update(
                        bar, completed=report.cases, description=f"{len(report.failures)} failures"
                    )

                report = driver.run(
                    TARGETS[kind],
                    cases=options.cases,
                    seed=options.seed,
                    folder=Path(folder),
                    save_in=options.save / kind,
                    tick=tick,
                )
            for what, names in alike(report.failures).items():
                where = options.save / kind / names[0]
                console.print(f"{where}, {len(names)} like it: {what}", markup=False)
            counts = ", ".join(f"{n} {outcome}" for outcome, n in report.outcomes.most_common())
            console.print(
                f"{kind}: {report.cases} cases, seed {options.seed}: {counts}; "
                f"{report.cases / report.seconds:.0f} a second, slowest {report.slowest:.2f} s, "
                f"{report.pool} kept to start others from"
            )
            failed |= bool(report.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
