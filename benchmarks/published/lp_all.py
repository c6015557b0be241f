"""Table 1 of Salman et al. 2019, LP-ALL included, on one machine.

LP-ALL solves two exact LPs for every unstable neuron of every layer of every image. Their cluster
of 1,000 CPUs took about 22 CPU-years for the table, whose integer programs are not measured here.

    python benchmarks/published/lp_all.py --model FILE --radius 0.1 --data ../shared/data \\
        --json row.json
    python benchmarks/published/lp_all.py --table --data ../shared/data \\
        --json benchmarks/results/lp_all.json

    python benchmarks/published/lp_all.py --table --engine ray --address HOST:PORT \\
        --json row.json

The last has a cluster of Ray do it, on whose machines this checkout is there by the same path.
Every image is written to a journal, its bounds included, when it is decided: a file for each model
and radius in a folder beside the JSON file, of the same name. The same command goes on from there,
however it was ended. Exit status 1 where an error differs from the published one by more than 0.05.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import bounds
from benchmarks.published import tables as published
from benchmarks.published.escalate import Chunk, Escalation, Found, Group
from benchmarks.published.instances import FOLDER, data_folder, load_model
from benchmarks.support import environment
from benchmarks.support.journal import save
from benchmarks.support.line_journal import append, entries, open_journal, require_done
from bounds.engines.choice import opened
from bounds.engines.queue import Engine
from bounds.errors import BoundsError
from bounds.read.load import load
from bounds.solution.certificate_file import network_digest

Record = dict[str, Any]
#: Images that a worker takes at a time.
CHUNK = {"cpu": 250, "cuda": 1000}
#: Percentage points that an error may differ from the published one by.
EQUAL = 0.05


@dataclass(frozen=True)
class Row:
    """A model and a radius; published: what the table says, if it has them."""

    model: Path
    radius: float
    published: published.Row

    @property
    def name(self) -> str:
        name = self.model.name.removesuffix(".pth").removesuffix(".onnx")
        return f"{name}_{self.radius:g}"


def table_rows(data: Path) -> list[Row]:
    folder = data / FOLDER / "experiment_1"
    return [
        Row(folder / row["weights"], float(row["epsilon"]), row)
        for row in published.rows(data, "table1")
    ]


read_images = functools.cache(published.mnist)


@functools.cache
def read_network(model: Path, device: str) -> bounds.Network:
    """A .pth state dict, a folder of .npy matrices, or an .onnx file, in float64."""
    if model.suffix == ".onnx":
        network = load(model, dtype=torch.float64)
    else:
        network = bounds.from_torch(load_model(model), (1, 28, 28))
    return network.detach().to(device)


def run(
    row: Row, options: argparse.Namespace, engine: Engine, folder: Path, progress: Progress
) -> Record:
    """All images that the journal does not have; the row's summary."""
    journal, network = folder / f"{row.name}.jsonl", read_network(row.model, "cpu")
    digest = network_digest(network)
    about = {"model": row.model.name, "radius": row.radius, "network": digest}
    open_journal(journal, about)
    done = images_of(entries(journal))
    left = [image for image in range(options.images) if image not in done]
    size, start = CHUNK[options.device], time.perf_counter()
    bar = progress.add_task(row.name, total=options.images, completed=options.images - len(left))
    tasks = [Chunk(tuple(left[first : first + size])) for first in range(0, len(left), size)]
    x, y = (part[: options.images] for part in read_images(options.data))
    images = range(options.images)
    work = Escalation(network, x, y, row.radius, options.device, images)

    def decided(task: Chunk | Group, found: Found | None) -> Sequence[Group]:
        found = require_done(task, found)
        append(journal, [outcome.record() for outcome in found.outcomes])
        progress.update(bar, advance=len(found.outcomes))
        return found.left

    try:
        engine.run(work, tasks, decided)
    finally:
        spent = time.perf_counter() - start
        append(journal, [{"session": {"seconds": spent, "workers": options.workers}}])
    return summary(row, options.images, entries(journal))


def images_of(lines: list[Record]) -> dict[int, Record]:
    """The outcomes in a journal, by image."""
    return {line["image"]: line for line in lines if "image" in line}


# -- what came out


def summary(row: Row, images: int, lines: list[Record]) -> Record:
    every = [one for image, one in images_of(lines).items() if image < images]
    decided = Counter(one["decided"] for one in every)
    proved = Counter(one["decided"] for one in every if one["certified"])
    lps: Counter[str] = Counter()
    for one in every:
        lps.update(one["lps"] or {})
    by_lp = [one["seconds"] for one in every if one["lps"]]
    share = 100 / len(every)
    return {
        "model": row.model.name,
        "radius": row.radius,
        "images": len(every),
        "percent": {
            "test_error": share * decided["clean"],
            "pgd": share * (decided["clean"] + decided["attack"]),
            "lp_all": 100 - share * proved.total(),
            "lp_last": 100 - share * (proved["lp_greedy"] + proved["lp_last"]),
            "lp_greedy": 100 - share * proved["lp_greedy"],
        },
        "published": {k: float(row.published[k]) for k in COLUMNS if k in row.published},
        "decided": dict(decided),
        "undecided": sum(one["undecided"] for one in every),
        "lps": {method: round(count) for method, count in lps.items()},
        "lps_per_worker_second": lps.total() / sum(by_lp) if by_lp else None,
        "worker_seconds": sum(one["seconds"] for one in every),
        "seconds": sum(line["session"]["seconds"] for line in lines if "session" in line),
    }


COLUMNS = ("test_error", "pgd", "lp_all", "lp_greedy")


def differences(record: Record) -> list[str]:
    """Where our errors are not the published ones, in words; of whole rows."""
    return [
        f"{row['model']} {row['radius']}: {column} is {row['percent'][column]:.2f}, published "
        f"{row['published'][column]:.2f}"
        for row in record["rows"]
        if row["images"] == published.IMAGES and row["published"]
        for column in ("test_error", "lp_all", "lp_greedy")
        if abs(row["percent"][column] - row["published"][column]) > EQUAL + 1e-9
    ]


def table(record: Record) -> Table:
    shown = Table(title="errors in percent: ours, and (in brackets) published")
    shown.add_column("model")
    for column in ("radius", "images", *COLUMNS, "undecided", "LPs", "seconds"):
        shown.add_column(column, justify="right")
    for row in record["rows"]:
        cells = [
            f"{row['percent'][column]:.2f}"
            + (f" ({row['published'][column]:.2f})" if row["published"] else "")
            for column in COLUMNS
        ]
        numbers = row["undecided"], sum(row["lps"].values()), round(row["seconds"])
        shown.add_row(
            row["model"], f"{row['radius']:g}", str(row["images"]), *cells, *map(str, numbers)
        )
    return shown


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path, help=".pth state dict, folder of .npy, or .onnx")
    what.add_argument("--table", action="store_true", help="all eleven rows of the table")
    parser.add_argument("--radius", type=float)
    parser.add_argument(
        "--data", type=Path, default=data_folder(), help="with mnist/ and the table"
    )
    parser.add_argument("--images", type=int, default=published.IMAGES, help="the first ones")
    parser.add_argument("--device", choices=tuple(CHUNK), default="cpu")
    parser.add_argument("--workers", type=int, help="processes; default: one a core, one a GPU")
    parser.add_argument("--engine", choices=("processes", "ray"), default="processes")
    parser.add_argument("--address", metavar="HOST:PORT", help="of a cluster of Ray")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if not (options.data / "mnist").is_dir():
        parser.error(f"{options.data} has no folder mnist: give the data folder with --data")
    if options.model is not None and not options.model.exists():
        parser.error(f"--model {options.model} does not exist")
    if (options.model is None) != (options.radius is None):
        parser.error("--radius goes with --model, and --model with --radius")
    if not 1 <= options.images <= published.IMAGES:
        parser.error(f"--images {options.images}: expected 1 to {published.IMAGES}")
    if options.engine == "ray" and options.device != "cpu":
        parser.error("--engine ray is for the CPUs of a cluster: leave --device out")
    if options.engine == "processes" and options.workers is None:
        options.workers = (os.cpu_count() or 1) if options.device == "cpu" else 1
    return options


def main() -> int:
    options = parse()
    console = Console(width=None if sys.stdout.isatty() else 132)
    rows = table_rows(options.data)
    if options.model is not None:
        known = [row.published for row in rows if row.model.resolve() == options.model.resolve()
                 and row.radius == options.radius]  # fmt: skip
        rows = [Row(options.model, options.radius, known[0] if known else {})]
    record: Record = {
        "benchmark": "lp_all",
        **environment.describe(torch.device(options.device)),
        "workers": options.workers,
        "rows": [],
    }
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with (
        opened("lp_all", options.engine, jobs=options.workers, address=options.address) as engine,
        TemporaryDirectory() as temporary,
        Progress(*columns, console=console) as progress,
    ):
        folder = options.json.with_suffix("") if options.json else Path(temporary)
        try:
            for row in rows:
                record["rows"].append(run(row, options, engine, folder, progress))
                save(options.json, record)
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from here" if options.json else "")
            return 130
    console.print(table(record))
    for difference in differences(record):
        console.print(f"[red]{difference}", highlight=False)
    return 1 if differences(record) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BoundsError as error:
        sys.exit(f"lp_all: {error}")
