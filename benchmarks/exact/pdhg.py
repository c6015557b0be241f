"""Matrix-free PDHG on LPs of a thousand unstable neurons, beside the interior point and HiGHS.

Each of our methods runs in a process of its own, whose peak memory is measured, on the same LPs;
the gap that it reports is proved. HiGHS gets the LP as the network states it, within a budget.

    python benchmarks/exact/pdhg.py --json benchmarks/results/pdhg.json
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.console import Console
from rich.table import Table

import bounds
from benchmarks.exact.exact_lp import PEERS, measure_peer
from benchmarks.published import instances
from benchmarks.support import command, environment
from benchmarks.support.journal import save

HIGHS = ("HiGHS simplex, warm", "HiGHS ipm + crossover")


@dataclass(frozen=True)
class Instance:
    """A published network, the radius, how many images, and whether HiGHS and our interior point
    solve it too."""

    file: str
    radius: float
    images: int
    solvers: bool = True


INSTANCES = {
    "mnist_cnn_small NOR 0.03": Instance("experiment_2/mnist_cnn_small_NOR.pth", 0.03, 3),
    "cifar_cnn_small LPD 2/255": Instance("experiment_2/cifar_cnn_small_LPD.pth", 2 / 255, 3),
    "cifar10_resnet 2b": Instance("resnet_2b", 0.0, 1, solvers=False),
}
TOLERANCES = (1e-3, 1e-4, 1e-5)


def load(data: Path, instance: Instance) -> bounds.Relaxation:
    if instance.file.startswith("resnet"):
        return instances.resnet_relaxation(data, instance.file)
    return instances.relaxation(data, instance.file, instance.radius, slice(0, instance.images))[1]


def measure(
    data: Path, instance: Instance, method: str, tolerance: float, budget: float
) -> dict[str, Any]:
    """One solve of all LPs, warm, in the process at hand."""
    relaxation = load(data, instance)
    before = _peak()
    bounds.solve(relaxation, method=method, iteration_limit=1)
    start, cpu = time.perf_counter(), time.process_time()
    solution = bounds.solve(relaxation, method=method, tolerance=tolerance, time_limit=budget)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    iterations, gaps = solution.iterations.double(), solution.relative_gap.flatten()
    return {
        "method": method,
        "tolerance": tolerance,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "iterations_mean": float(iterations.mean()),
        "iterations_max": int(iterations.max()),
        "relative_gap_median": float(gaps.median()),
        "relative_gap_max": float(gaps.max()),
        "not_optimal": int((solution.status != bounds.Status.OPTIMAL).sum()),
        "peak_megabytes": _peak(),
        "peak_megabytes_before": before,
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_apart(*arguments: Any) -> dict[str, Any]:
    """`measure` in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--instances", nargs="+", choices=INSTANCES, default=list(INSTANCES))
    parser.add_argument("--tolerances", nargs="+", type=float, default=list(TOLERANCES))
    parser.add_argument(
        "--budget", type=float, default=120.0, help="seconds of one of our runs; %(default)s"
    )
    parser.add_argument(
        "--peer-budget", type=float, default=120.0, help="seconds of a peer; default %(default)s"
    )
    console = Console()
    options = command.options_of(parser, console)
    device = torch.device("cpu")
    record: dict[str, Any] = {
        "benchmark": "pdhg",
        **environment.describe(device),
        "budget": options.budget,
        "peer_budget": options.peer_budget,
        "instances": {},
    }
    for name in options.instances:
        instance = INSTANCES[name]
        relaxation = load(options.data, instance)
        runs = [("pdhg", tolerance) for tolerance in options.tolerances]
        if instance.solvers:
            runs.append(("interior_point", 1e-9))
        cells = []
        for method, tolerance in runs:
            with console.status(f"{name}: {method} to {tolerance:g}"):
                cells.append(
                    measure_apart(options.data, instance, method, tolerance, options.budget)
                )
        record["instances"][name] = {
            "rows": relaxation.C.shape[0] * relaxation.C.shape[1],
            "unstable": list(relaxation.unstable),
            "ours": cells,
            "highs": _highs(relaxation, options.peer_budget, console) if instance.solvers else {},
        }
        console.print(table(name, record["instances"][name]))
        save(options.json, record)


def _highs(relaxation: bounds.Relaxation, budget: float, console: Console) -> dict[str, Any]:
    exact = bounds.solve(relaxation, method="interior_point")
    found = {}
    for solver in HIGHS:
        with console.status(solver):
            cell = measure_peer(PEERS[solver], relaxation, exact, budget, whole_inputs=False)
        found[solver] = {"seconds": cell.seconds, "solved": cell.solved, "error": cell.error}
    return found


def table(name: str, result: dict[str, Any]) -> Table:
    shown = Table(title=f"{name}: {result['rows']} LPs, n = {result['unstable']}")
    for column in (
        "method",
        "seconds",
        "CPU seconds",
        "iterations",
        "relative gap",
        "open",
        "peak MB",
    ):
        shown.add_column(column, justify="left" if column == "method" else "right")
    for cell in result["ours"]:
        shown.add_row(
            f"{cell['method']} to {cell['tolerance']:g}",
            f"{cell['seconds']:.2f}",
            f"{cell['cpu_seconds']:.2f}",
            f"{cell['iterations_mean']:.0f} (max {cell['iterations_max']})",
            f"{cell['relative_gap_median']:.0e} (max {cell['relative_gap_max']:.0e})",
            str(cell["not_optimal"]),
            f"{cell['peak_megabytes']:.0f}",
        )
    for solver, cell in result["highs"].items():
        mark = "" if cell["solved"] == result["rows"] else "~"
        shown.add_row(
            solver, f"{mark}{cell['seconds']:.2f}", "", "", f"{cell['error']:.0e}", "", ""
        )
    return shown


if __name__ == "__main__":
    main()
