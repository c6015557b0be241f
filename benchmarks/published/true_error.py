"""The true adversarial error, of which Table 1 of Salman et al. 2019 has but bounds.

Every image that one pass and a quick attack leave is searched (`bounds.certify`): proved, or shown
a counterexample that was replayed, or open when its time is up. So the error lies between that of
the counterexamples and that with the open ones added.

    python benchmarks/published/true_error.py --model LPD_MLP_B_0.1.pth LPD_MLP_B_0.2.pth \\
        --data ../shared/data --json benchmarks/results/true_error.json

Every image is written to a journal in the folder beside the JSON file when it is decided, and the
same command goes on from there; with a longer `--timeout` it searches again what a shorter one has
left open. Seconds are those of CPUs, in limits too, and of every search of an image; images share
what is done for them together. A row stays in the JSON file until it is measured anew.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import bounds
from benchmarks.published import tables as published
from benchmarks.published.attack import attacked
from benchmarks.published.instances import data_folder
from benchmarks.published.lp_all import Row, images_of, read_images, read_network, table_rows
from benchmarks.support import environment
from benchmarks.support.cpu_time import limits_in_cpu_seconds
from benchmarks.support.journal import resumed, save
from benchmarks.support.line_journal import append, entries, open_journal, require_done
from bounds.engines.processes import Processes
from bounds.solution.certificate_file import network_digest

Record = dict[str, Any]
#: Images, by their numbers, and the CPU seconds that each has taken already.
Task = tuple[tuple[int, ...], float]
#: Images that are bounded and attacked together; those that this leaves are searched one by one.
CHUNK = 100


def measure(row: Row, data: Path, seconds: float, task: Task) -> tuple[list[Record], list[Task]]:
    """What becomes of these test images, and those that are left to search."""
    images, spent = task
    start, network = time.process_time(), read_network(row.model, "cpu")
    x, y = (part[list(images)] for part in read_images(data))
    if spent:
        with limits_in_cpu_seconds():
            found = bounds.certify(
                network, x, y, radius=row.radius, lower=0.0, upper=1.0, timeout=seconds
            )
        [verdict], [method], [search] = found.verdicts, found.methods, found.searches
        spent += time.process_time() - start
        domains = search.domains if search is not None else 0
        return [_line(images[0], method, verdict, domains, spent) | {"timeout": seconds}], []
    ball = bounds.Ball(x, radius=row.radius, lower=0.0, upper=1.0)
    relaxation = bounds.relax(network, ball, bounds.margins(y, 10))
    quick = bounds.solve(relaxation, method="adaptive_slope")
    right = network(x).flatten(1).argmax(1) == y
    by = ["one_pass" if proved else "" for proved in quick.verified]
    by = [name if ok else "clean" for name, ok in zip(by, right.tolist(), strict=True)]
    left = torch.tensor([k for k, name in enumerate(by) if not name], dtype=torch.long)
    if len(left):
        part = relaxation.take(left, torch.arange(quick.lower.shape[1]))
        fooled = attacked(part, quick.certificate.x[left], quick.lower[left]).tolist()
        for k, is_fooled in zip(left.tolist(), fooled, strict=True):
            by[k] = "attack" if is_fooled else ""
    spent = (time.process_time() - start) / len(images)
    decided = [
        _line(image, name, "unsat" if name == "one_pass" else "sat", 0, spent)
        for image, name in zip(images, by, strict=True)
        if name
    ]
    return decided, [((image,), spent) for image, name in zip(images, by, strict=True) if not name]


def _line(image: int, by: str, verdict: str, domains: int, seconds: float) -> Record:
    return {
        "image": image, "by": by, "verdict": verdict, "domains": domains, "seconds": seconds
    }  # fmt: skip


def run(row: Row, options: argparse.Namespace, folder: Path, progress: Progress) -> Record:
    """All images that the journal does not have; the row's summary."""
    journal = folder / f"{row.name}.jsonl"
    about = {
        "model": row.model.name,
        "radius": row.radius,
        "network": network_digest(read_network(row.model, "cpu")),
    }
    open_journal(journal, about)
    done = images_of(entries(journal))
    new = [image for image in range(options.images) if image not in done]
    tasks: list[Task] = [
        (tuple(new[first : first + CHUNK]), 0.0) for first in range(0, len(new), CHUNK)
    ]
    again = [image for image in range(options.images) if is_short(done.get(image), options.timeout)]
    tasks += [((image,), done[image]["seconds"]) for image in again]
    left = len(new) + len(again)
    bar = progress.add_task(row.name, total=options.images, completed=options.images - left)

    def decided(task: Task, found: tuple[list[Record], list[Task]] | None) -> list[Task]:
        lines, more = require_done(task, found)
        append(journal, lines)
        progress.update(bar, advance=len(lines))
        return more

    Processes(options.workers).run(
        functools.partial(measure, row, options.data, options.timeout), tasks, decided
    )
    return summary(row, options.images, list(images_of(entries(journal)).values()))


def is_short(line: Record | None, timeout: float) -> bool:
    """Whether the image is open after a search that was given less time than this."""
    return line is not None and line["verdict"] == "unknown" and line["timeout"] < timeout


def summary(row: Row, images: int, lines: list[Record]) -> Record:
    every = [line for line in lines if line["image"] < images]
    verdicts = Counter(line["verdict"] for line in every)
    share = 100 / len(every)
    return {
        "model": row.model.name,
        "radius": row.radius,
        "images": len(every),
        "timeout": max((line["timeout"] for line in every if "timeout" in line), default=0.0),
        "true_error": [
            share * verdicts["sat"],
            share * (verdicts["sat"] + verdicts["unknown"]),
        ],
        "open": verdicts["unknown"],
        "open_images": sorted(line["image"] for line in every if line["verdict"] == "unknown"),
        "decided": dict(Counter(f"{line['by']}: {line['verdict']}" for line in every)),
        "domains": sum(line["domains"] for line in every),
        "seconds": sum(line["seconds"] for line in every),
        "published": {k: float(v) for k, v in row.published.items() if k in COLUMNS},
    }


COLUMNS = ("pgd", "milp_lower", "lp_all")


def put(rows: list[Record], new: Record) -> None:
    """In the place of the row that it measures anew, or at the end."""
    for k, row in enumerate(rows):
        if (row["model"], row["radius"]) == (new["model"], new["radius"]):
            rows[k] = new
            return
    rows.append(new)


def table(record: Record) -> Table:
    shown = Table(title="true adversarial error in percent")
    shown.add_column("model")
    for column in ("radius", "images", "from", "to", "open", "timeout", "domains", "seconds"):
        shown.add_column(column, justify="right")
    for row in record["rows"]:
        low, high = row["true_error"]
        shown.add_row(
            row["model"],
            f"{row['radius']:g}",
            str(row["images"]),
            f"{low:.2f}",
            f"{high:.2f}",
            str(row["open"]),
            f"{row['timeout']:g}",
            str(row["domains"]),
            f"{row['seconds']:.0f}",
        )
    return shown


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--model", nargs="+", required=True, help="names of weights in the table")
    parser.add_argument("--radius", type=float, help="of the row; default: all of the model")
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--images", type=int, default=published.IMAGES, help="the first ones")
    parser.add_argument("--timeout", type=float, default=60.0, help="CPU seconds an image; 60")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    if not (options.data / "mnist").is_dir():
        parser.error(f"{options.data} has no folder mnist: give the data folder with --data")
    if not 1 <= options.images <= published.IMAGES:
        parser.error(f"--images {options.images}: expected 1 to {published.IMAGES}")
    return options


def main() -> int:
    options = parse()
    console = Console(width=None if sys.stdout.isatty() else 132)
    rows = [
        row
        for row in table_rows(options.data)
        if row.model.name in options.model and options.radius in (None, row.radius)
    ]
    if not rows:
        names = ", ".join(sorted({row.model.name for row in table_rows(options.data)}))
        raise SystemExit(f"the table has no such row; its models are {names}.")
    record: Record = {
        "benchmark": "true_error",
        **environment.describe(torch.device("cpu")),
        "rows": [],
    }
    record["rows"] = resumed(options.json, record, same=("benchmark",))["rows"]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        try:
            for row in rows:
                found = run(row, options, options.json.with_suffix(""), progress)
                put(record["rows"], {**found, "commit": record["commit"]})
                save(options.json, record)
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from here")
            return 130
    console.print(table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
