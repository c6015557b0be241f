"""The pictures of a record of `speed.py`: growth in time and in memory, and time against gap.

    python -m benchmarks.measure.pictures benchmarks/results/speed.json

draws them again beside the record.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

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
#: Of the panel of all networks, and of the one in which a network's radius grows.
ALL, LABELS = "unstable neurons, all networks", {"unstable": "unstable neurons, by the radius"}
#: Ours are solid, peers dashed; neighbours in the table differ in colour and mark.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKS = "osD^vP*X"
TITLES = {
    "relax": "intermediate bounds",
    "bound": "lower bounds of all margins, intermediate bounds included",
    "solve": "lower bounds of all margins, l and u given",
}
UNITS = {"seconds": "seconds", "megabytes": "MB"}
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
    """Seconds into the file, and into files beside it memory and gaps."""
    growing(record, "seconds").savefig(path, dpi=110)
    growing(record, "megabytes").savefig(path.with_stem(f"{path.stem}_memory"), dpi=110)
    arriving(record).savefig(path.with_stem(f"{path.stem}_gaps"), dpi=110)


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


# -- growth


def growing(record: Record, quantity: str) -> Figure:
    """A row of panels a task: along every direction, and all networks by their unstable neurons."""
    directions = (*growth.DIRECTIONS, ALL)
    figure = Figure(figsize=(22, 13), layout="constrained")
    parts = figure.subfigures(len(TITLES), 1)
    for part, task in zip(parts, get_args(Task), strict=True):
        part.suptitle(TITLES[task], fontweight="bold")
        panels = part.subplots(1, len(directions), sharey=True)
        looks = styles(task)
        for panel, direction in zip(panels, directions, strict=True):
            sizes = set()
            for method, look in looks.items():
                if found := points(record, method, direction, quantity):
                    # Networks of one size differ: no line joins them.
                    joined = {"linestyle": "none"} if direction == ALL else {}
                    panel.plot(*zip(*found, strict=True), **look | joined)
                    sizes |= {round(size) for size, _ in found}
            if not sizes:  # of intermediate bounds, rows
                panel.set_axis_off()
                continue
            logarithmic(panel, LABELS.get(direction, direction))
            if direction != ALL:
                panel.set_xticks(sorted(sizes))
            panel.yaxis.set_tick_params(labelleft=panel is panels[0])
        panels[0].set_ylabel(UNITS[quantity])
        handles = [
            Line2D([], [], label=method.removeprefix(f"{task}: "), **look)
            for method, look in looks.items()
        ]
        part.legend(handles=handles, loc="outside right upper", fontsize=8.5, handlelength=3)
    return figure


def logarithmic(panel: Axes, label: str) -> None:
    panel.set(xscale="log", yscale="log", xlabel=label)
    panel.minorticks_off()
    panel.xaxis.set_major_formatter(ScalarFormatter())
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.grid(alpha=0.25)


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
    figure = Figure(figsize=(15, 7.5), layout="constrained")
    looks = {
        method: look
        | {"linestyle": "none", "markersize": 7 if METHODS[method].peer else 9}
        | ({"markerfacecolor": "none"} if METHODS[method].peer else {})
        for method, look in styles("solve").items()
    }
    columns = max(1, (len(networks) + 1) // 2)
    panels = list(figure.subplots(2, columns, squeeze=False, sharey=True).flat)
    drawn = set()
    for panel, name in zip(panels, networks, strict=False):
        network = record["networks"][name]
        for method, cell in reading.solvers(network).items():
            gap = reading.mean_gap(network, cell)
            if gap is not None and np.isfinite(gap):
                look = looks[f"solve: {method}"]
                panel.plot([cell["seconds"]], [max(gap, FLOOR)], **look)
                drawn.add(f"solve: {method}")
        unstable = round(float(np.mean(network["unstable"])))
        panel.set_title(f"{name}\n{unstable} unstable neurons", fontsize=10)
        panel.set(xscale="log", yscale="log", ylim=(FLOOR / 3, 3))
        panel.minorticks_off()
        panel.grid(alpha=0.25)
    for panel in panels[len(networks) :]:
        panel.set_axis_off()
    figure.supxlabel("seconds for all LPs", fontsize=10)
    figure.supylabel(f"mean gap to the LP optimum ({FLOOR:.0e} or less at the bottom)", fontsize=10)
    handles = [
        Line2D([], [], label=method.removeprefix("solve: "), **look)
        for method, look in looks.items()
        if method in drawn
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize=9)
    return figure


if __name__ == "__main__":
    (given,) = map(Path, sys.argv[1:])
    draw(json.loads(given.read_text()), given.with_suffix(".png"))
