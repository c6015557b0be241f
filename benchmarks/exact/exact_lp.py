"""Exact LPs, ours against LP solvers, side by side in one run.

Three of the ten test images of Salman et al. with nine margins each, 27 LPs a network, pixels
clipped to [0, 1], intermediate bounds fixed beforehand: the very same LPs for everyone, in float64.

    python benchmarks/exact/exact_lp.py --json benchmarks/results/exact_lp.json

Seconds are for all 27, model building included for cvxpy and for us, excluded for the others. A
solver that runs over --budget seconds on a network is stopped there and its total is extrapolated
from the LPs it solved, which the table marks with "~".
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import bounds
import lp_reference
from benchmarks.exact import direct_solvers
from benchmarks.exact.direct_solvers import DIRECT, Gurobi, Highs, Program
from benchmarks.published import instances
from benchmarks.support import command, environment
from benchmarks.support.journal import save
from bounds.solvers.interior_point.condense import condense
from bounds.solvers.interior_point.sparsity import panels_of

NETWORKS = {
    "mlp_NOR": ("experiment_2/mnist_MLP_2_100_NOR.pth", 0.02),
    "mlp_LPD": ("experiment_2/mnist_MLP_2_100_LPD.pth", 0.1),
    "cnn_LPD": ("experiment_2/mnist_cnn_small_LPD.pth", 0.1),
    "cnn_NOR": ("experiment_2/mnist_cnn_small_NOR.pth", 0.02),
}
OURS, SIMPLEX = "bounds, interior point", "bounds, simplex"


@dataclass(frozen=True)
class Cell:
    """One solver on one network: seconds for all LPs, and its largest error relative to ours.

    solved: the LPs that the time is measured on; where fewer than all, seconds is extrapolated.
    error: |value − ours| / max(1, |ours|) at most; above: how far a value lies above our upper
    bound at most, in the same unit. failed: LPs that the solver does not call optimal, which count
    in neither.
    """

    seconds: float
    solved: int
    error: float
    above: float
    failed: int = 0
    note: str = ""


def direct(
    load: Callable[[Program], Highs | Gurobi], *, condensing: bool
) -> Callable[[bounds.Relaxation, int, int], Callable[[], float]]:
    """A solver that gets the rows of one input and then solves its objectives."""
    loaded: dict[int, Highs | Gurobi] = {}

    def prepare(relaxation: bounds.Relaxation, image: int, row: int) -> Callable[[], float]:
        if row == 0:
            if condensing:
                rows = torch.arange(relaxation.C.shape[1])
                part = relaxation.take(torch.tensor([image]), rows)
                program = direct_solvers.condensed(condense(part))
            else:
                program = direct_solvers.uncondensed(lp_reference.assemble(relaxation, image))
            loaded[image] = load(program)
        return lambda: loaded[image].minimise(row)

    return prepare


def modelled(solver: str) -> Callable[[bounds.Relaxation, int, int], Callable[[], float]]:
    """The referee, which parses an input once: its first row pays for all nine, cvxpy included."""
    values: dict[int, np.ndarray] = {}

    def prepare(relaxation: bounds.Relaxation, image: int, row: int) -> Callable[[], float]:
        def minimise() -> float:
            if row == 0:
                part = relaxation.take(torch.tensor([image]), torch.arange(relaxation.C.shape[1]))
                values[image] = lp_reference.solve(part, solver=solver).value[0]
            return float(values[image][row])

        return minimise

    return prepare


#: Warm-started simplex also on the LP that our condensing gives.
CONDENSED = ("HiGHS simplex, warm", "Gurobi, warm")
PEERS: dict[str, Callable[[bounds.Relaxation, int, int], Callable[[], float]]] = {
    **{name: direct(load, condensing=False) for name, load in DIRECT.items()},
    **{f"{name}, on our condensed LP": direct(DIRECT[name], condensing=True) for name in CONDENSED},
    "cvxpy + HiGHS": modelled("HIGHS"),
    "cvxpy + CLARABEL": modelled("CLARABEL"),
}


def measure_peer(
    prepare: Callable[[bounds.Relaxation, int, int], Callable[[], float]],
    relaxation: bounds.Relaxation,
    ours: bounds.Solution,
    budget: float,
    *,
    whole_inputs: bool,
) -> Cell:
    """All LPs in order, until the budget is spent; after the last row of an input on request."""
    images, rows = ours.lower.shape
    lower, upper = ours.lower.numpy(), ours.upper.numpy()
    seconds, solved, failed, error, above = 0.0, 0, 0, 0.0, 0.0
    for image, row in np.ndindex(images, rows):
        if seconds > budget and (row == 0 or not whole_inputs):
            break
        try:
            work = prepare(relaxation, image, row)
            start = time.perf_counter()
            value = work()
            seconds += time.perf_counter() - start
        except Exception as refusal:  # a licence, or a package that is not installed
            note = str(refusal).split(";")[0]
            return Cell(float("nan"), 0, float("nan"), float("nan"), note=note)
        solved += 1
        if not np.isfinite(value):
            failed += 1
            continue
        unit = max(1.0, abs(lower[image, row]))
        error = max(error, abs(value - lower[image, row]) / unit)
        above = max(above, (value - upper[image, row]) / unit)
    return Cell(seconds * images * rows / solved, solved, error, above, failed)


def measure_ours(
    relaxation: bounds.Relaxation, device: torch.device, repeats: int
) -> tuple[Cell, bounds.Solution, dict[str, Any]]:
    """All images and rows in one batch; the median of the repeats, warm."""
    there = relaxation.convert(lambda tensor: tensor.to(device))
    times: list[float] = []
    while len(times) < repeats + 1 and not (times and sum(times) > 60):
        seconds, solution = environment.timed(
            device, lambda: bounds.solve(there, method="interior_point")
        )
        times.append(seconds)
    seconds = statistics.median(times[1:] or times)
    flops = operations(there, solution)
    details = {
        "seconds_of_each_run": times,
        "iterations_mean": float(solution.iterations.double().mean()),
        "iterations_max": int(solution.iterations.max()),
        "relative_gap_max": float(solution.relative_gap.max()),
        "not_optimal": int((solution.status != bounds.Status.OPTIMAL).sum()),
        "gigaflops": flops / 1e9,
        "gigaflops_per_second": flops / 1e9 / seconds,
    }
    return Cell(seconds, solution.lower.numel(), 0.0, 0.0), solution, details


def measure_simplex(relaxation: bounds.Relaxation, ours: bounds.Solution, repeats: int) -> Cell:
    """All images and rows by `method="simplex"`; the median of the repeats, warm."""
    times: list[float] = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        solution = bounds.solve(relaxation, method="simplex")
        times.append(time.perf_counter() - start)
    unit = ours.lower.abs().clamp(min=1.0)
    return Cell(
        statistics.median(times[1:]),
        solution.lower.numel(),
        float(((solution.lower - ours.lower).abs() / unit).max()),
        float(((solution.lower - ours.upper) / unit).max()),
        int((solution.status != bounds.Status.OPTIMAL).sum()),
    )


def operations(relaxation: bounds.Relaxation, solution: bounds.Solution) -> float:
    """Float operations of the matrices T and their factors: what the time should go into."""
    total = 0.0
    for image in range(len(relaxation.input_set)):
        rows = torch.arange(relaxation.C.shape[1], device=relaxation.C.device)
        lp = condense(relaxation.take(torch.tensor([image], device=rows.device), rows))
        n = lp.e.shape[1]
        assembly = sum(
            2 * (each.rows.stop - each.rows.start) * (each.rows.stop - each.first) * width
            for each in panels_of(lp)[0]
            for width in (span.stop - span.start for span in each.spans)
        )
        total += float(solution.iterations[image].sum()) * (assembly + n**3 / 3 + 6 * n**2)
    return total


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--budget", type=float, default=120.0, help="seconds; default %(default)s")
    parser.add_argument("--repeats", type=int, default=7, help="of ours; default %(default)s")
    parser.add_argument("--device", default="cpu")
    console = Console()
    options = command.options_of(parser, console)
    device = torch.device(options.device)
    rate = environment.matrix_rate(device)
    record: dict[str, Any] = {
        "benchmark": "exact_lp",
        **environment.describe(device),
        "matrix_gigaflops_per_second": rate / 1e9,
        "budget": options.budget,
        "networks": {},
    }
    relaxations = {
        name: instances.relaxation(options.data, file, radius, slice(0, 3))[1]
        for name, (file, radius) in NETWORKS.items()
        if name in options.networks
    }
    # Ours on all networks first: the solvers leave threads behind that slow the process down.
    ours = {
        name: measure_ours(relaxation, device, options.repeats)
        for name, relaxation in relaxations.items()
    }
    for name, relaxation in relaxations.items():
        file, radius = NETWORKS[name]
        mine, solution, details = ours[name]
        on_cpu = bounds.solve(relaxation) if device.type != "cpu" else solution
        on_host = relaxation.convert(torch.Tensor.cpu)
        cells = {OURS: mine, SIMPLEX: measure_simplex(on_host, on_cpu, options.repeats)}
        for peer, prepare in PEERS.items():
            with console.status(f"{name}: {peer}"):
                cells[peer] = measure_peer(
                    prepare,
                    relaxation,
                    on_cpu,
                    options.budget,
                    whole_inputs=peer.startswith("cvxpy"),
                )
        details["share_of_matrix_rate"] = details["gigaflops_per_second"] * 1e9 / rate
        record["networks"][name] = {
            "weights": file,
            "radius": radius,
            "unstable": list(relaxation.unstable),
            "ours": details,
            "solvers": {peer: asdict(cell) for peer, cell in cells.items()},
        }
        console.print(f"{name}: n = {relaxation.unstable}, {details}")
    console.print(table(record))
    save(options.json, record)


def table(record: dict[str, Any]) -> Table:
    """Seconds, and below them the ratio to ours and the largest error."""
    shown = Table(title="exact LPs: seconds for the 27 (ratio to ours, largest error)")
    shown.add_column("solver")
    networks = record["networks"]
    for name, network in networks.items():
        shown.add_column(f"{name}\nn = {network['unstable']}", justify="right")
    for solver in (OURS, SIMPLEX, *PEERS):
        row = []
        for network in networks.values():
            cell, mine = network["solvers"][solver], network["solvers"][OURS]["seconds"]
            if cell["solved"] == 0:
                row.append(cell["note"])
                continue
            mark = "" if cell["solved"] == network["solvers"][OURS]["solved"] else "~"
            accuracy = (
                f"gap {network['ours']['relative_gap_max']:.0e}"
                if solver == OURS
                else f"× {cell['seconds'] / mine:.1f}, {cell['error']:.0e}"
            )
            if cell["failed"]:
                accuracy += f", {cell['failed']} failed"
            row.append(f"{mark}{cell['seconds']:.3f}\n({accuracy})")
        shown.add_row(solver, *row)
    return shown


if __name__ == "__main__":
    main()
