"""Gap against time for every method: how tight a lower bound is after how many seconds.

Three of the ten test images of Salman et al. with nine margins each, 27 LPs a network, pixels
clipped to [0, 1], intermediate bounds fixed beforehand, in float64.

    python benchmarks/exact/tightness.py --json benchmarks/results/tightness.json \\
        --plot benchmarks/results/tightness.png

The gap of an LP is (optimum − lower) / max(|optimum|, 1e-3); the optimum is that of the interior
point, to a proved relative gap of 1e-9. Each point of a curve is a run of its own on all 27 LPs in
one batch, from nothing, with that many iterations and no tolerance to stop at before 1e-9; the
median of the repeats of short runs. A curve ends where it arrives at 1e-9, where a run has taken
--budget seconds, or with its last number of iterations.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

import bounds
from benchmarks.exact.exact_lp import NETWORKS
from benchmarks.published import instances
from benchmarks.support import command, environment
from benchmarks.support.journal import save

#: Each method's numbers of iterations; those of one pass have none.
LIMITS: dict[str, tuple[int | None, ...]] = {
    "fixed_slope": (None,),
    "adaptive_slope": (None,),
    "optimised_slope": (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
    "interior_point": (1, 2, 4, 6, 8, 10, 12, 15, 20, 30),
    "pdhg": (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000),
}
COLOURS = {
    "fixed_slope": "#555555",
    "adaptive_slope": "#CC79A7",
    "optimised_slope": "#D55E00",
    "interior_point": "#0072B2",
    "pdhg": "#009E73",
}
TOLERANCE = 1e-9
#: Optima smaller than this count as this large.
LEAST = 1e-3
#: Runs are repeated until they have taken this many seconds together, at most so many times.
REPEAT_SECONDS, REPEATS = 0.5, 5
TARGETS = (1e-2, 1e-3, 1e-4, 1e-6)


@dataclass(frozen=True)
class Point:
    """A run on all LPs: seconds, and the mean and the largest gap to the optimum.

    proved: the largest relative gap that the method itself proves, (upper − lower) / max(|upper|,
    |lower|).
    """

    iterations: int | None
    seconds: float
    mean: float
    largest: float
    proved: float


def measure(
    relaxation: bounds.Relaxation, optimum: Tensor, method: str, limit: int | None
) -> Point:
    """The median of the repeats; the first run is among them only if it is the only one."""
    options = {} if limit is None else {"iteration_limit": limit, "tolerance": TOLERANCE}
    device, times = relaxation.C.device, []
    while len(times) < REPEATS + 1 and sum(times) < REPEAT_SECONDS:
        environment.synchronise(device)
        start = time.perf_counter()
        solution = bounds.solve(relaxation, method=method, **options)
        environment.synchronise(device)
        times.append(time.perf_counter() - start)
    gap = ((optimum - solution.lower) / optimum.abs().clamp(min=LEAST)).clamp(min=0)
    return Point(
        limit,
        statistics.median(times[1:] or times),
        float(gap.mean()),
        float(gap.max()),
        float(solution.relative_gap.max()),
    )


def curve(
    relaxation: bounds.Relaxation, optimum: Tensor, method: str, budget: float
) -> list[Point]:
    points: list[Point] = []
    for limit in LIMITS[method]:
        points.append(measure(relaxation, optimum, method, limit))
        if points[-1].seconds > budget or points[-1].largest <= TOLERANCE:
            break
    return points


def seconds_to(points: list[dict[str, Any]], target: float) -> float | None:
    """When the largest gap is first at most `target`."""
    return min((p["seconds"] for p in points if p["largest"] <= target), default=None)


def table(record: dict[str, Any]) -> Table:
    """A row for each network and method, a column for each gap."""
    shown = Table(title="seconds until the largest of the 27 gaps is at most")
    shown.add_column("network")
    shown.add_column("method")
    for target in TARGETS:
        shown.add_column(f"{target:.0e}", justify="right")
    for name, network in record["networks"].items():
        for method in LIMITS:
            times = [seconds_to(network["methods"][method], target) for target in TARGETS]
            shown.add_row(name, method, *("" if t is None else f"{t:.3g}" for t in times))
    return shown


def draw(record: dict[str, Any], path: Path) -> None:
    """A panel a network: each method's mean gap, solid, and its largest, dotted, against time."""
    networks = record["networks"]
    figure = Figure(figsize=(5.2 * min(2, len(networks)), 4.2 * -(-len(networks) // 2)))
    panels = figure.subplots(-(-len(networks) // 2), min(2, len(networks)), squeeze=False).flat
    for panel, (name, network) in zip(panels, networks.items(), strict=False):
        draw_network(panel, name, network)
    for panel in list(panels)[len(networks) :]:
        panel.remove()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def draw_network(panel: Axes, name: str, network: dict[str, Any]) -> None:
    for method, points in network["methods"].items():
        seconds = [p["seconds"] for p in points]
        means, largest = ([max(p[key], TOLERANCE) for p in points] for key in ("mean", "largest"))
        style = {"color": COLOURS[method], "marker": "o", "markersize": 3.5}
        panel.plot(seconds, means, linewidth=1.8, **style)
        panel.plot(seconds, largest, linewidth=1, linestyle=":", **style, markerfacecolor="white")
        if len(points) == 1:
            # A one-pass method: its mean and its largest gap, joined.
            panel.plot(seconds * 2, means + largest, linewidth=1, linestyle=":", **style)
        panel.annotate(
            method.replace("_", " "),
            # The one-pass methods lie close together: one label above, one below.
            (seconds[-1], largest[-1] if method == "fixed_slope" else means[-1]),
            xytext=(6, -10 if method in ("adaptive_slope", "pdhg") else 3),
            textcoords="offset points",
            color=COLOURS[method],
            fontsize=8.5,
        )
    panel.set(
        xscale="log", yscale="log", xlabel="seconds for 27 LPs", ylabel="gap to the LP optimum"
    )
    panel.set_title(
        f"{name}: {', '.join(map(str, network['unstable']))} unstable neurons", fontsize=10
    )
    panel.margins(x=0.2)
    panel.grid(alpha=0.25)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--budget", type=float, default=6.0, help="seconds a run; %(default)s")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    console = Console()
    options = command.options_of(parser, console)
    device = torch.device(options.device)
    record: dict[str, Any] = {
        "benchmark": "tightness",
        **environment.describe(device),
        "budget": options.budget,
        "networks": {},
    }
    for name in options.networks:
        file, radius = NETWORKS[name]
        _, relaxation = instances.relaxation(options.data, file, radius, slice(0, 3))
        relaxation = relaxation.convert(lambda tensor: tensor.detach().to(device))
        exact = bounds.solve(relaxation, method="interior_point", tolerance=TOLERANCE)
        assert bool((exact.status == bounds.Status.OPTIMAL).all()), exact.status
        methods = {}
        for method in LIMITS:
            with console.status(f"{name}: {method}"):
                points = curve(relaxation, exact.lower, method, options.budget)
            methods[method] = [asdict(point) for point in points]
        record["networks"][name] = {
            "weights": file,
            "radius": radius,
            "unstable": list(relaxation.unstable),
            "methods": methods,
        }
    console.print(table(record))
    save(options.json, record)
    if options.plot is not None:
        draw(record, options.plot)


if __name__ == "__main__":
    main()
