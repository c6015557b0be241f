"""What proofs of "unsat" cost: to find, to keep and to check, in CPU seconds of one thread.

    OMP_NUM_THREADS=1 python benchmarks/competition/proofs.py \
        --suite acasxu rl_benchmarks collins_rul_cnn --json benchmarks/results/proofs.json

Every instance is decided with a proof, and the proof checked against the property. Reading the
model is counted in both, starting Python is not. The JSON file is written after every instance, and
the same command goes on from there. With `--decided`, a record of `searches.py`, instances that it
left open are left out. Exit status 1 where a proof is rejected.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
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


def measure(instance: Instance, *, timeout: float) -> Record:
    """seconds: until the proof is written; check: until it is proved again, in CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proof"
        start = time.process_time()
        with limits_in_cpu_seconds():
            found = bounds.certify_vnnlib(
                instance.model, instance.property, timeout=timeout, proof=path
            )
        proved = time.process_time()
        entry: Record = {
            "verdict": found.verdict,
            "domains": sum(search.domains for search in found.searches if search is not None),
            "seconds": round(proved - start, 3),
        }
        if found.proof is not None:
            check = bounds.check_proof(path, instance.model, vnnlib=instance.property)
            entry |= {
                "check": round(time.process_time() - proved, 3),
                "bytes": found.proof.bytes,
                "leaves": found.proof.leaves,
                "rejections": [str(each) for each in check.rejections],
            }
    return entry


def undecided(records: list[Path]) -> set[str]:
    """The instances that these records of `searches.py` left open."""
    found = [json.loads(path.read_text())["suites"].values() for path in records]
    entries = [entry for suites in found for suite in suites for entry in suite.items()]
    return {name for name, entry in entries if entry["verdict"] == "unknown"}


def proved(entries: Record) -> list[Record]:
    return [entry for entry in entries.values() if "bytes" in entry]


def table(record: Record) -> Table:
    columns = ("unsat", "accepted", "leaves", "median B", "largest B", "B a leaf there", "CPU s")
    shown = Table(title=f"{record['timeout']:g} CPU s an instance, {record['threads']} thread(s)")
    for column in ("suite", "instances", *columns, "check CPU s", "slowest check"):
        shown.add_column(column, justify="left" if column == "suite" else "right")
    for suite, entries in record["suites"].items():
        own = proved(entries)
        largest = max(own, key=lambda entry: entry["bytes"], default=None)
        if largest is not None:
            shown.add_row(
                suite,
                str(len(entries)),
                str(sum(entry["verdict"] == "unsat" for entry in entries.values())),
                str(sum(not entry["rejections"] for entry in own)),
                str(sum(entry["leaves"] for entry in own)),
                f"{statistics.median(entry['bytes'] for entry in own):.0f}",
                str(largest["bytes"]),
                f"{largest['bytes'] / largest['leaves']:.1f}",
                f"{sum(entry['seconds'] for entry in own):.1f}",
                f"{sum(entry['check'] for entry in own):.1f}",
                f"{max(entry['check'] for entry in own):.1f}",
            )
    return shown


def rejected(record: Record) -> list[str]:
    """What has no proof that is accepted, in words."""
    return [
        f"{name}: {'; '.join(entry.get('rejections', ['no proof']))}"
        for entries in record["suites"].values()
        for name, entry in entries.items()
        if entry["verdict"] == "unsat" and entry.get("rejections", True)
    ]


def main() -> int:
    parser = command.parser(__doc__)
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="CPU seconds an instance; %(default)s"
    )
    parser.add_argument("--decided", nargs="+", type=Path, metavar="JSON", default=[])
    console = Console()
    options = suite_options(parser, console)
    if missing := [path for path in options.decided if not path.is_file()]:
        parser.error(f"--decided {missing[0]}: there is no such file; give one of searches.py's")
    torch.set_num_threads(1)
    fresh: Record = {
        "benchmark": "proofs",
        **environment.describe(torch.device("cpu")),
        "timeout": options.timeout,
        "suites": {},
    }
    record = journal.resumed(options.json, fresh, same=("benchmark", "commit", "timeout"))
    with journal.progress(console) as progress:
        for suite in options.suite:
            done = record["suites"].setdefault(suite, {})
            over = done.keys() | undecided(options.decided)
            left = [i for i in instances(options.data, suite) if i.name not in over]
            bar = progress.add_task(suite, total=len(left) + len(done), completed=len(done))
            for instance in left:
                progress.update(bar, description=instance.name)
                done[instance.name] = measure(instance, timeout=options.timeout)
                journal.save(options.json, record)
                progress.advance(bar)
    console.print(table(record))
    found = rejected(record)
    for what in found:
        console.print(f"[red]{what}", highlight=False)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
