"""The pictures of a record of `speed.py`: growth in time and in memory, and gap against time.

    python -m benchmarks.measure.pictures benchmarks/results/speed.json

draws them again beside the record.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, ScalarFormatter

from benchmarks.measure import growth, reading
from benchmarks.measure.methods import METHODS
from benchmarks.measure.protocol import Task
from benchmarks.measure.report import entry, grown

Record = dict[str, Any]
#: Of the panel of all networks, and of one whose radius grows.
ALL, LABELS = "unstable neurons, all networks", {"unstable": "unstable neurons"}
#: Ours are solid, peers dashed; neighbours in the table differ in colour and mark.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKS = "osD^vP*X"
TITLES = {
    "relax": "intermediate bounds",
    "bound": "lower bounds of all margins, intermediate bounds included",
    "solve": "lower bounds of all margins, l and u given",
}
#: Of the smaller picture of growth: what others of their kind stand for.
LEFT_OUT = (
    "solve: adaptive slope",
    "solve: exact",
    "solve: HiGHS simplex, cold",
    "solve: Gurobi, warm",
    "solve: HiGHS simplex, warm, condensed by us",
    "solve: Gurobi, warm, condensed by us",
    "solve: cvxpy + HiGHS",
    "solve: cvxpy + CLARABEL",
)
#: One network of every kind, for gaps.
KINDS = (
    "mlp 3×100",
    "mlp 9×100",
    "mlp 3×800",
    "mnist_MLP_2_100_NOR",
    "mnist_cnn_small_LPD",
    "mnist_cnn_small_NOR",
    "cifar_cnn_small_LPD",
    "cifar10_resnet_2b",
)
#: Smaller gaps are drawn as this one.
FLOOR = 1e-7


def draw(record: Record, path: Path) -> None:
    """All seconds into the file, and the smaller pictures of the pages into files beside it."""
    everything(record).savefig(path, dpi=110)
    with matplotlib.rc_context({"font.size": 8}):
        growing(record).savefig(path.with_stem(f"{path.stem}_growth"), dpi=150)
        arriving(record).savefig(path.with_stem(f"{path.stem}_gaps"), dpi=150)


def styles(task: str) -> dict[str, dict[str, Any]]:
    names = [name for name, method in METHODS.items() if method.task == task]
    return {name: style(name, index) for index, name in enumerate(names)}


def style(method: str, index: int) -> dict[str, Any]:
    ours = not METHODS[method].peer
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKS[(index + index // len(COLOURS)) % len(MARKS)],
        "linestyle": "-" if ours else "--",
        "linewidth": 2 if ours else 1.1,
        "markersize": 5,
    }


def legend_of(looks: dict[str, dict[str, Any]]) -> list[Line2D]:
    return [Line2D([], [], label=name.split(": ")[1], **look) for name, look in looks.items()]


# -- growth


def everything(record: Record) -> Figure:
    """A row of panels a task: seconds along every direction, and of all networks by their unstable
    neurons."""
    directions = (*growth.DIRECTIONS, ALL)
    figure = Figure(figsize=(22, 13), layout="constrained")
    parts = figure.subfigures(len(TITLES), 1)
    for part, task in zip(parts, get_args(Task), strict=True):
        part.suptitle(TITLES[task], fontweight="bold")
        panels, looks = part.subplots(1, len(directions), sharey=True), styles(task)
        for panel, direction in zip(panels, directions, strict=True):
            curves(panel, record, looks, direction, "seconds")
        panels[0].set_ylabel("seconds")
        part.legend(
            handles=legend_of(looks), loc="outside right upper", fontsize=8.5, handlelength=3
        )
    return figure


def growing(record: Record) -> Figure:
    """Of some methods seconds, and memory below them, along every direction."""
    figure = Figure(figsize=(9.5, 10), layout="constrained")
    for part, task in zip(figure.subfigures(2, 1), ("bound", "solve"), strict=True):
        part.suptitle(TITLES[task], fontweight="bold")
        panels = part.subplots(2, len(growth.DIRECTIONS), sharey="row")
        looks = {
            name: look | {"linewidth": 0.7 * look["linewidth"], "markersize": 3.5}
            for name, look in styles(task).items()
            if name not in LEFT_OUT
        }
        for row, quantity in zip(panels, ("seconds", "megabytes"), strict=True):
            for panel, direction in zip(row, growth.DIRECTIONS, strict=True):
                curves(panel, record, looks, direction, quantity)
            row[0].set_ylabel(quantity)
        part.legend(handles=legend_of(looks), loc="outside lower center", ncols=4, handlelength=3)
    return figure


def curves(
    panel: Axes, record: Record, looks: dict[str, Any], direction: str, quantity: str
) -> None:
    sizes = set()
    for method, look in looks.items():
        if found := points(record, method, direction, quantity):
            # Networks of one size differ: no line joins them.
            joined = {"linestyle": "none"} if direction == ALL else {}
            panel.plot(*zip(*found, strict=True), **look | joined)
            sizes |= {round(size) for size, _ in found}
    if not sizes:  # as intermediate bounds have no rows
        panel.set_axis_off()
        return
    panel.set(xscale="log", yscale="log", xlabel=LABELS.get(direction, direction))
    panel.minorticks_off()
    panel.xaxis.set_major_formatter(ScalarFormatter())
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.grid(alpha=0.25)
    if direction != ALL:
        panel.set_xticks(sorted(sizes))


def points(record: Record, method: str, direction: str, quantity: str) -> list[tuple[float, float]]:
    """(size, quantity) along one direction, or of all networks by their unstable neurons."""
    if direction != ALL:
        found = grown(record, method, direction)
    else:
        found = [
            (float(np.mean(facts["unstable"])), cell)
            for network, facts in record["networks"].items()
            if (cell := entry(record, network, method)) is not None
        ]
    return [(size, cell[quantity]) for size, cell in found if cell[quantity] > 0]


# -- gaps


def arriving(record: Record) -> Figure:
    """A panel a network: the mean gap to the LP optimum that each method leaves after its time."""
    networks = [name for name in KINDS if name in record["networks"]]
    figure = Figure(figsize=(9.5, 7), layout="constrained")
    looks = {
        method: look
        | {"linestyle": "none", "markersize": 5 if METHODS[method].peer else 7}
        | ({"markerfacecolor": "none"} if METHODS[method].peer else {})
        for method, look in styles("solve").items()
    }
    columns = max(1, (len(networks) + 1) // 2)
    panels = figure.subplots(2, columns, squeeze=False, sharey=True).ravel()
    drawn = set()
    for panel in panels:
        panel.set_axis_off()
    for panel, name in zip(panels, networks, strict=False):
        network = record["networks"][name]
        for method, cell in reading.solvers(network).items():
            gap = reading.mean_gap(network, cell)
            if gap is not None and np.isfinite(gap):
                panel.plot([cell["seconds"]], [max(gap, FLOOR)], **looks[f"solve: {method}"])
                drawn.add(f"solve: {method}")
        unstable = round(float(np.mean(network["unstable"])))
        panel.set_axis_on()
        panel.set_title(f"{name}\n{unstable} unstable neurons", fontsize=8)
        panel.set(xscale="log", yscale="log", ylim=(FLOOR / 3, 3), xlabel="seconds")
        panel.minorticks_off()
        panel.grid(alpha=0.25)
    figure.supylabel("mean gap to the LP optimum; at the bottom: that or less", fontsize=9)
    shown = {name: look for name, look in looks.items() if name in drawn}
    figure.legend(handles=legend_of(shown), loc="outside lower center", ncols=4)
    return figure


if __name__ == "__main__":
    (given,) = map(Path, sys.argv[1:])
    draw(json.loads(given.read_text()), given.with_suffix(".png"))
