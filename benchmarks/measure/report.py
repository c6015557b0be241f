"""What `speed.py` shows of its record: tables, fitted exponents and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from rich import box
from rich.table import Table

from benchmarks.measure.methods import METHODS
from benchmarks.measure.protocol import DTYPES, Method, Task
from benchmarks.measure.workloads import FAMILIES, GROWING_BATCH, NETWORKS

Record = dict[str, Any]
#: Fewer sizes than this give no exponent.
LEAST = 3
COLUMNS = ("seconds", "× ours", "difference", "at its l, u", "MB", "Gflop", "of rate")


def entry(record: Record, network: str, method: str, batch: int | None = None) -> Record | None:
    """A cell that has a time; of the batch that networks are compared at, unless told."""
    first = METHODS[method].batches(NETWORKS[network])[0]
    cells = record["networks"].get(network, {}).get("cells", {})
    found = cells.get(f"{method} @ {first if batch is None else batch}")
    return found if found is not None and "seconds" in found else None


# -- tables


def table(record: Record, network: str) -> Table:
    """A row a cell: seconds ("~": extrapolated), and beside them how far the values are from those
    of the method of ours that does the same."""
    found = record["networks"][network]
    unstable = ", ".join(map(str, found["unstable"]))
    shown = Table(
        title=f"{network}: {found['parameters']:,} parameters, {found['neurons']:,} neurons, "
        f"{unstable} of them unstable, radius {found['radius']:.3g}",
        box=box.SIMPLE_HEAD,
    )
    shown.add_column("method")
    shown.add_column("batch", justify="right")
    for column in COLUMNS:
        shown.add_column(column, justify="right", no_wrap=True)
    for name, method in METHODS.items():
        for batch in sorted(method.batches(NETWORKS[network])):
            cell = found["cells"].get(f"{name} @ {batch}")
            if cell is not None and "seconds" in cell:
                ours = entry(record, network, method.ours, batch)
                shown.add_row(name, str(batch), *columns(record, method, cell, ours))
            elif cell is not None:
                shown.add_row(f"{name}: {cell['note']}", str(batch))
    return shown


def columns(record: Record, method: Method, cell: Record, ours: Record | None) -> list[str]:
    mark = "" if cell["solved"] == cell["of"] else "~"
    flops, share = "", ""
    if "operations" in cell:
        rate = record["matrix_rate"][DTYPES[method.task]]
        flops = f"{cell['operations'] / 1e9:.3g}"
        share = f"{100 * cell['operations'] / cell['seconds'] / rate:.2g} %"
    at_theirs = cell.get("at_their_bounds")
    return [
        f"{mark}{cell['seconds']:.3g}",
        "" if ours is None else f"{cell['seconds'] / ours['seconds']:.2g}",
        deviation(method, cell, ours),
        "" if at_theirs is None else f"{at_theirs:.0e}",
        f"{cell['megabytes']:.0f}",
        flops,
        share,
    ]


def deviation(method: Method, cell: Record, ours: Record | None) -> str:
    """The largest difference of the values to ours, relative to max(1, |ours|), with its sign, or
    the mean number of unstable neurons; and how many LPs the method gave up."""
    failed = f" ({cell['failed']} failed)" if cell["failed"] else ""
    if method.task == "relax":
        return f"{np.mean(cell['values']):.0f} unstable"
    if ours is None or METHODS[method.ours] is method:
        return failed.strip()
    pairs = zip(cell["values"], ours["values"], strict=False)
    both = [(value, own) for value, own in pairs if value is not None and own is not None]
    if not both:
        return failed.strip()
    return f"{max(((v - o) / max(1, abs(o)) for v, o in both), key=abs):+.0e}{failed}"


def exponents(record: Record) -> dict[str, dict[str, float]]:
    """The powers of width, depth and batch that the seconds of each method grow with, by least
    squares of their logarithms; only where there are LEAST sizes."""
    found: dict[str, dict[str, float]] = {}
    for method in METHODS:
        for direction in (*FAMILIES, "batch"):
            points = growth(record, method, direction)
            if len(points) >= LEAST:
                sizes, seconds = np.log(np.array(points)).T
                found.setdefault(method, {})[direction] = float(np.polyfit(sizes, seconds, 1)[0])
    return found


def growth(record: Record, method: str, direction: str) -> list[tuple[float, float]]:
    """(size, seconds) of a method along one direction."""
    if direction == "batch":
        batches = sorted(METHODS[method].batches(NETWORKS[GROWING_BATCH]))
        cells = [(batch, entry(record, GROWING_BATCH, method, batch)) for batch in batches]
    else:
        cells = [
            (size, entry(record, network, method)) for size, network in FAMILIES[direction].items()
        ]
    return [(size, cell["seconds"]) for size, cell in cells if cell is not None]


def exponents_table(record: Record) -> Table:
    shown = Table(title="seconds grow with this power of")
    shown.add_column("method")
    for direction in (*FAMILIES, "batch"):
        shown.add_column(direction, justify="right")
    for method, fitted in record["exponents"].items():
        powers = [fitted.get(direction) for direction in (*FAMILIES, "batch")]
        shown.add_row(method, *("" if power is None else f"{power:.2f}" for power in powers))
    return shown


# -- picture

UNSTABLE = "unstable neurons"
#: Ours are solid, peers dashed; neighbours in the table differ in colour and mark.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKS = "osD^vP*X"
TITLES = {
    "relax": "intermediate bounds",
    "bound": "lower bounds of all margins, intermediate bounds included",
    "solve": "lower bounds of all margins, l and u given",
}


def draw(record: Record, path: Path) -> None:
    """A row of panels a task: seconds against width, depth and batch, and all networks by their
    unstable neurons."""
    directions = (*FAMILIES, "batch", UNSTABLE)
    figure = Figure(figsize=(17, 13), layout="constrained")
    parts = figure.subfigures(len(TITLES), 1)
    for part, task in zip(parts, get_args(Task), strict=True):
        part.suptitle(TITLES[task], fontweight="bold")
        panels = part.subplots(1, len(directions), sharey=True)
        styles = {
            method: style(method, k)
            for k, method in enumerate(m for m in METHODS if METHODS[m].task == task)
        }
        for panel, direction in zip(panels, directions, strict=True):
            for method, look in styles.items():
                if found := points(record, method, direction):
                    # Networks of one size differ: no line joins them.
                    line = {"linestyle": "none"} if direction == UNSTABLE else {}
                    panel.plot(*zip(*found, strict=True), **look | line)
            panel.set(xscale="log", yscale="log", xlabel=direction)
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.xaxis.set_major_formatter(ScalarFormatter())
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            if direction != UNSTABLE:
                sizes = {size for method in styles for size, _ in points(record, method, direction)}
                panel.set_xticks(sorted(sizes))
            panel.grid(alpha=0.25)
        panels[0].set_ylabel("seconds")
        handles = [
            Line2D([], [], label=method.removeprefix(f"{task}: "), **look)
            for method, look in styles.items()
        ]
        part.legend(handles=handles, loc="outside right upper", fontsize=8.5, handlelength=3)
    figure.savefig(path, dpi=110)


def style(method: str, index: int) -> dict[str, Any]:
    ours = not METHODS[method].peer
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKS[(index + index // len(COLOURS)) % len(MARKS)],
        "linestyle": "-" if ours else "--",
        "linewidth": 2 if ours else 1.1,
        "markersize": 5,
    }


def points(record: Record, method: str, direction: str) -> list[tuple[float, float]]:
    """(size, seconds) along one direction, or of all networks by their unstable neurons."""
    if direction != UNSTABLE:
        return growth(record, method, direction)
    return [
        (float(np.mean(facts["unstable"])), cell["seconds"])
        for network, facts in record["networks"].items()
        if (cell := entry(record, network, method)) is not None
    ]
