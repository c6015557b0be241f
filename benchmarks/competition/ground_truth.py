"""Nothing of ours contradicts what is known of published properties, networks and tables.

Every instance of VNN-COMP in the data folder: our verdict against the competition's, our
counterexamples in ONNX Runtime again, and at each counterexample of other tools what our lower
bounds claim (`benchmarks/competition/instances.py`). And the two tables of Salman et al.
(`published.py`).

    python benchmarks/competition/ground_truth.py --json benchmarks/results/ground_truth.json

The JSON file is written after every instance. The same command goes on from there, however it was
ended, unless the commit or the timeout is another. Exit status 1 where something contradicts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.competition import instances as competition
from benchmarks.published import tables as published
from benchmarks.support import command, environment, journal
from benchmarks.support.journal import Record, save
from bounds.errors import BoundsError

#: What is measured: of each suite by name, what gives an entry of the record.
Tasks = dict[str, dict[str, Callable[[], Record]]]
TABLES = {
    "table1": (
        published.errors,
        published.IMAGES // published.CHUNK,
        published.contradicted_errors,
    ),
    "table2": (published.radii, published.TEN, published.contradicted_radii),
}


def tasks(data: Path, suites: list[str], timeout: float) -> Tasks:
    found: Tasks = {}
    for suite in suites:
        if suite in TABLES:
            measure, parts, _ = TABLES[suite]
            found[suite] = {
                f"{published.name(row)} {part}": (
                    lambda measure=measure, row=row, part=part: measure(data, row, part)
                )
                for row in published.rows(data, suite)
                for part in range(parts)
            }
        else:
            found[suite] = {
                instance.name: (lambda i=instance: competition.check(i, timeout=timeout))
                for instance in competition.instances(data, suite)
            }
    return found


def timed(task: Callable[[], Record]) -> Record:
    """The entry of a task; what cannot be read is one too."""
    start = time.perf_counter()
    try:
        entry = task()
    except BoundsError as error:
        entry = {"error": str(error)}
    return {**entry, "seconds": round(time.perf_counter() - start, 3)}


def resumed(path: Path | None, record: Record) -> Record:
    """The record that the file has, if it is one of the same commit and timeout."""
    return journal.resumed(path, record, same=("benchmark", "commit", "timeout"))


def measure(todo: Tasks, record: Record, path: Path | None, console: Console) -> None:
    with journal.progress(console) as progress:
        for suite, entries in todo.items():
            done = record["suites"].setdefault(suite, {})
            bar = progress.add_task(suite, total=len(entries), completed=len(entries.keys() & done))
            for name in [name for name in entries if name not in done]:
                progress.update(bar, description=name)
                done[name] = timed(entries[name])
                for what in done[name].get("contradictions", []):
                    console.print(f"[red]{name}: {what}", highlight=False)
                save(path, record)
                progress.advance(bar)
            progress.update(bar, description=suite)


# -- what came out


def contradictions(data: Path, record: Record) -> list[str]:
    """All of them, in words; those of a table once all of its parts are measured."""
    found = []
    for suite, entries in record["suites"].items():
        for name, entry in entries.items():
            found += [f"{name}: {what}" for what in entry.get("contradictions", [])]
            found += [f"{name}: {entry['error']}"] if "error" in entry else []
        if suite in TABLES:
            for row in published.rows(data, suite):
                ours = table_values(suite, row, entries)
                if ours is not None:
                    name = published.name(row)
                    found += [f"{name}: {what}" for what in TABLES[suite][2](row, ours)]
    return found


def table_values(suite: str, row: published.Row, entries: Record) -> dict[str, float] | None:
    """Our numbers of a row: percent, or the mean; None where a part is missing."""
    parts = [entries.get(f"{published.name(row)} {k}") for k in range(TABLES[suite][1])]
    if any(part is None or "error" in part for part in parts):
        return None
    share = 100 / published.IMAGES if suite == "table1" else 1 / len(parts)
    keys = [key for key in parts[0] if key != "seconds"]
    return {key: share * sum(part[key] for part in parts) for key in keys}


def competition_table(record: Record) -> Table:
    shown = Table(title="instances of VNN-COMP, and what contradicts their answers")
    for column in (
        "suite",
        "instances",
        "unsat",
        "sat",
        "unknown",
        "points",
        "contradicted",
        "seconds",
    ):
        shown.add_column(column, justify="left" if column == "suite" else "right")
    for suite, entries in record["suites"].items():
        if suite not in TABLES:
            every = list(entries.values())
            verdicts = [entry.get("verdict") for entry in every]
            shown.add_row(
                suite,
                str(len(every)),
                *(str(verdicts.count(name)) for name in ("unsat", "sat", "unknown")),
                str(sum(entry.get("compared", 0) > 0 for entry in every)),
                str(sum(bool(entry.get("contradictions")) for entry in every)),
                f"{sum(entry['seconds'] for entry in every):.0f}",
            )
    return shown


def published_table(data: Path, suite: str, entries: Record) -> Table:
    """Theirs beside ours, of the rows that are measured."""
    shown = Table(title=f"{suite} of Salman et al.: theirs, and ours")
    for row in published.rows(data, suite):
        ours = table_values(suite, row, entries)
        if ours is not None:
            theirs = {
                k: v for k, v in row.items() if k not in ("network", "weights", "mode", "epsilon")
            }
            if not shown.columns:
                for column in ("network", *theirs, *ours):
                    shown.add_column(column, justify="left" if column == "network" else "right")
            shown.add_row(
                published.name(row), *theirs.values(), *(f"{v:.2f}" for v in ours.values())
            )
    return shown


def main() -> int:
    parser = command.parser(__doc__)
    parser.add_argument(
        "--timeout", type=float, default=10.0, help="seconds an instance; %(default)s"
    )
    parser.add_argument("--suite", nargs="+", metavar="NAME", help="default: all")
    console = Console()
    options = command.options_of(parser, console)
    known = [*competition.suites(options.data), *TABLES]
    unknown = [suite for suite in options.suite or [] if suite not in known]
    if unknown:
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(known)}")
    fresh: Record = {
        "benchmark": "ground_truth",
        **environment.describe(torch.device("cpu")),
        "timeout": options.timeout,
        "suites": {},
    }
    record = resumed(options.json, fresh)
    try:
        measure(
            tasks(options.data, options.suite or known, options.timeout),
            record,
            options.json,
            console,
        )
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here" if options.json else "stopped")
        return 130
    console.print(competition_table(record))
    for suite in TABLES:
        if suite in record["suites"]:
            console.print(published_table(options.data, suite, record["suites"][suite]))
    found = contradictions(options.data, record)
    for what in found:
        console.print(f"[red]{what}", highlight=False)
    console.print(f"{len(found)} contradictions", style="bold red" if found else "bold green")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
