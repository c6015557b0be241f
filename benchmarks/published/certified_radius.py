"""Table 2 of Salman et al. 2019: the largest certified radius of ten MNIST images.

    python benchmarks/published/certified_radius.py --json benchmarks/results/certified_radius.json

By one pass of fixed slopes (LP-GREEDY), by the LP optimum over the same intermediate bounds
(LP-LAST), and over those that are LP optima (LP-ALL). Of networks with more than two ReLUs, LP-ALL
is not solved but bounded from below: the LP over optimised intermediate bounds proves no more than
it does. Pixels may leave [0, 1]: that is what gives their numbers. Their search goes by about 5 %,
ours by 0.5 %.

Every image is written to a journal beside the JSON file; the same command goes on from there.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
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
from benchmarks.published.instances import FOLDER, load_model, ten_images
from benchmarks.published.signs import solve_rows
from benchmarks.support import command, environment
from benchmarks.support.journal import save
from benchmarks.support.line_journal import entries, open_journal, written
from bounds.engines.processes import Processes

Record = dict[str, Any]
#: Where the first search starts, at what ratio searches end, and by what LP radii go up at first.
SMALLEST, RATIO, STEP = 1e-3, 1.005, 1.08
METHODS = ("lp_greedy", "lp_last", "lp_all")
#: ReLUs of a network whose LP-ALL is solved.
SHALLOW = 2


def measure(data: Path, task: tuple[str, int]) -> list[Record]:
    """The radii of a network, by its row's name, and one image, times 1000."""
    start, (name, image) = time.perf_counter(), task
    [row] = [row for row in published.rows(data, "table2") if published.name(row) == name]
    model = load_model(data / FOLDER / "experiment_2" / f"mnist_{row['network']}_{row['mode']}.pth")
    x = ten_images(data)[image : image + 1]
    found = radii(bounds.from_torch(model, x.shape[1:]).detach(), x)
    thousandths = {method: 1000 * radius for method, radius in found.items()}
    seconds = time.perf_counter() - start
    return [{"row": name, "image": image, **thousandths, "seconds": seconds}]


def radii(network: bounds.Network, x: torch.Tensor) -> dict[str, float]:
    """The largest radius that each method certifies for x (1, *shape)."""
    margins = bounds.margins(network(x).argmax(1), 10)

    def relaxed(radius: float, intermediate: Any = "backward") -> bounds.Relaxation:
        return bounds.relax(
            network, bounds.Ball(x, radius=radius), margins, intermediate=intermediate
        )

    def greedy(relaxation: bounds.Relaxation) -> bounds.Solution:
        return bounds.solve(relaxation, method="fixed_slope")

    def proved(radius: float, intermediate: str) -> bool:
        relaxation = relaxed(radius, intermediate)
        rows = solve_rows(relaxation, greedy(relaxation).lower, Counter())
        return bool(rows.certified)

    least = _largest(lambda r: bool(greedy(relaxed(r)).verified), SMALLEST, 2.0)
    last = _largest(lambda r: proved(r, "backward"), least, STEP)
    tight = "lp" if len(network.relus) <= SHALLOW else "optimised"
    every = _largest(lambda r: proved(r, tight), last, STEP)
    return dict(zip(METHODS, (least, last, every), strict=True))


def _largest(holds: Callable[[float], bool], low: float, step: float) -> float:
    """The largest radius, to the ratio, for which it holds; it holds for low, or is said to.

    The search goes up step by step, since LPs of large radii are large.
    """
    high = step * low
    while holds(high):
        low, high = high, step * high
    while high / low > RATIO:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


# -- what came out


def summary(data: Path, found: list[Record]) -> list[Record]:
    """The mean of each row whose images are all measured, beside the published one."""
    rows = []
    for row in published.rows(data, "table2"):
        images = [one for one in found if one["row"] == published.name(row)]
        if len(images) == published.TEN:
            mean = {name: sum(one[name] for one in images) / published.TEN for name in METHODS}
            seconds = sum(one["seconds"] for one in images)
            theirs = {k: float(v) for k, v in row.items() if k not in ("network", "mode")}
            rows.append(
                {
                    "row": published.name(row),
                    "ours": mean,
                    "theirs": theirs,
                    "lp_all_is": "=" if row["network"] == "MLP_2_100" else "≥",
                    "seconds": seconds,
                }
            )
    return rows


def table(rows: list[Record]) -> Table:
    shown = Table(title="certified radius × 1000, mean of ten images: ours (theirs)")
    shown.add_column("network")
    for column in ("LP-GREEDY", "LP-LAST", "LP-ALL", "seconds"):
        shown.add_column(column, justify="right")
    for row in rows:
        ours, theirs = row["ours"], row["theirs"]
        shown.add_row(
            row["row"],
            f"{ours['lp_greedy']:.2f} ({theirs['lp_greedy']:.2f})",
            f"{ours['lp_last']:.2f} ({theirs['lp_last']:.2f})",
            f"{row['lp_all_is']} {ours['lp_all']:.2f} ({theirs['lp_all']:.2f})",
            f"{row['seconds']:.0f}",
        )
    return shown


def main() -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--networks", nargs="+", metavar="NAME", help='such as "cnn_small LPD"')
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="%(default)s")
    console = Console()
    options = command.options_of(parser, console)
    rows = published.rows(options.data, "table2")
    names = [published.name(row) for row in rows]
    unknown = [name for name in options.networks or [] if name not in names]
    if unknown:
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(names)}")
    record: Record = {
        "benchmark": "certified_radius",
        **environment.describe(torch.device("cpu")),
        "workers": options.workers,
    }
    with TemporaryDirectory() as temporary, Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console,
    ) as progress:  # fmt: skip
        journal = options.json.with_suffix(".jsonl") if options.json else Path(temporary, "journal")
        open_journal(journal, {"table": "2"})
        done = {(one["row"], one["image"]) for one in entries(journal)}
        work = [
            (published.name(row), image)
            for row in rows
            if published.name(row) in (options.networks or names)
            for image in range(published.TEN)
            if (published.name(row), image) not in done
        ]
        bar = progress.add_task("images", total=len(work) + len(done))
        try:
            Processes(options.workers).run(
                functools.partial(measure, options.data),
                work,
                written(journal, lambda: progress.update(bar, completed=len(entries(journal)))),
            )
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from here" if options.json else "")
            return 130
        record["rows"] = summary(options.data, entries(journal))
    save(options.json, record)
    console.print(table(record["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
