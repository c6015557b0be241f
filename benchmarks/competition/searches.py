"""Which instances of VNN-COMP `certify` decides by its searches, in CPU seconds of one thread.

    OMP_NUM_THREADS=1 python benchmarks/competition/searches.py --suite acasxu \
        --json benchmarks/results/searches.json

Reading the model is counted, starting Python is not; the time limit counts CPU seconds as well, so
that what else the machine does changes no verdict. The JSON file is written after every instance,
and the same command goes on from there. Exit status 1 where a verdict is not the competition's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.console import Console
from rich.table import Table

import bounds
from benchmarks.competition.instances import Instance, instances, suite_options
from benchmarks.support import command, environment, journal
from benchmarks.support.cpu_time import limits_in_cpu_seconds
from benchmarks.support.journal import Record
from bounds.read.vnnlib import read_vnnlib


def measure(instance: Instance, *, timeout: float) -> Record:
    """One instance by the rule that `certify` goes by; CPU seconds."""
    start = time.process_time()
    stated = read_vnnlib(instance.property)
    with limits_in_cpu_seconds():
        found = bounds.certify_vnnlib(instance.model, stated, timeout=timeout)
    searches = [search for search in found.searches if search is not None]
    return {
        "truth": instance.truth,
        "verdict": found.verdict,
        "methods": sorted(set(found.methods)),
        "domains": sum(search.domains for search in searches),
        "open": sum(search.open for search in searches),
        "seconds": round(time.process_time() - start, 3),
    }


def contradictions(entries: Record) -> list[str]:
    return [
        f"{name}: we say {entry['verdict']}, the competition {entry['truth']}"
        for name, entry in entries.items()
        if entry["truth"] and entry["verdict"] not in (entry["truth"], "unknown")
    ]


def table(record: Record) -> Table:
    columns = ("unsat", "sat", "unknown", "unknown, truth known", "domains", "CPU s", "slowest")
    shown = Table(title=f"{record['timeout']:g} CPU s an instance, {record['threads']} thread(s)")
    for column in ("suite", "instances", *columns):
        shown.add_column(column, justify="left" if column == "suite" else "right")
    for suite, entries in record["suites"].items():
        every = list(entries.values())
        verdicts = [entry["verdict"] for entry in every]
        seconds = [entry["seconds"] for entry in every]
        shown.add_row(
            suite,
            str(len(every)),
            *(str(verdicts.count(verdict)) for verdict in ("unsat", "sat", "unknown")),
            str(sum(e["verdict"] == "unknown" and bool(e["truth"]) for e in every)),
            str(sum(entry["domains"] for entry in every)),
            f"{sum(seconds):.1f}",
            f"{max(seconds, default=0.0):.1f}",
        )
    return shown


def main() -> int:
    parser = command.parser(__doc__)
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="CPU seconds an instance; %(default)s"
    )
    console = Console()
    options = suite_options(parser, console)
    torch.set_num_threads(1)
    fresh: Record = {
        "benchmark": "searches",
        **environment.describe(torch.device("cpu")),
        "timeout": options.timeout,
        "suites": {},
    }
    record = journal.resumed(options.json, fresh, same=("benchmark", "commit", "timeout"))
    with journal.progress(console) as progress:
        for suite in options.suite:
            done = record["suites"].setdefault(suite, {})
            left = [i for i in instances(options.data, suite) if i.name not in done]
            bar = progress.add_task(suite, total=len(left) + len(done), completed=len(done))
            for instance in left:
                progress.update(bar, description=instance.name)
                done[instance.name] = measure(instance, timeout=options.timeout)
                journal.save(options.json, record)
                progress.advance(bar)
    console.print(table(record))
    found = [what for entries in record["suites"].values() for what in contradictions(entries)]
    for what in found:
        console.print(f"[red]{what}", highlight=False)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
