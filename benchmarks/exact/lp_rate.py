"""How fast the LPs of LP-ALL are solved, and how far that is from the machine's matrix rate.

    python benchmarks/exact/lp_rate.py --json benchmarks/results/lp_rate.json

All LPs of the second layer of some images, two for each neuron that backward bounds leave unstable,
in one call, without the rest of LP-ALL: warm, synchronised, the median of five. By the interior
point, whose operations are compared with the rate, and on a CPU by the simplex method, which is
what `exact` takes there.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.console import Console
from rich.table import Table

import bounds
from benchmarks.exact.exact_lp import operations
from benchmarks.published import tables as published
from benchmarks.published.instances import FOLDER, load_model
from benchmarks.support import command, environment
from benchmarks.support.journal import save
from bounds.intermediate.layer_lp import TOLERANCE

#: Weights, radius: of small, middling and large LPs.
ROWS = (("LPD_MLP_B_0.1.pth", 0.1), ("ADV_MLP_B_0.1.pth", 0.1), ("NOR_MLP_B.pth", 0.03),
        ("NOR_MLP_B.pth", 0.05))  # fmt: skip
REPEATS = 5


def layer_lps(data: Path, weights: str, radius: float, images: int) -> bounds.Relaxation:
    """Both bounds of every unstable neuron of the second layer, over backward bounds."""
    network = bounds.from_torch(
        load_model(data / FOLDER / "experiment_1" / weights), (1, 28, 28)
    ).detach()
    x, y = (part[:images] for part in published.mnist(data))
    ball = bounds.Ball(x, radius=radius, lower=0.0, upper=1.0)
    relaxation = bounds.relax(network, ball, bounds.margins(y, 10))
    (parent,) = network.nodes[network.relus[1]].parents
    unstable = relaxation.relu_bounds[1].unstable
    # Each input's neurons first; inputs with fewer fill up with rows of zeros.
    first = unstable.argsort(dim=1, descending=True, stable=True)[:, : int(unstable.sum(1).max())]
    rows = torch.diag_embed(unstable.to(x)).take_along_dim(first.unsqueeze(2), 1)
    return bounds.Relaxation(
        bounds.Network(network.nodes[: parent + 1]),
        relaxation.input_set,
        torch.cat((rows, -rows), 1),
        0 * torch.cat((rows, -rows), 1)[:, :, 0],
        relaxation.relu_bounds[:1],
        intermediate="backward",
    )


def measure(lps: bounds.Relaxation, device: torch.device, rate: float) -> dict[str, Any]:
    there = lps.convert(lambda tensor: tensor.to(device))
    real = (lps.C != 0).any(2)
    median, cpu, solution = solved(there, device, "interior_point")
    flops = operations(there, solution)
    found = {
        "lps": int(real.sum()),
        "unstable_mean": sum(lps.unstable) / len(lps.unstable),
        "iterations_mean": float(solution.iterations.cpu()[real].double().mean()),
        "seconds": median,
        "cpu_seconds": cpu,
        "lps_per_second": int(real.sum()) / median,
        "gigaflops_per_second": flops / median / 1e9,
        "share_of_matrix_rate": flops / median / rate,
    }
    if device.type == "cpu":
        median, cpu, solution = solved(there, device, "simplex")
        found["simplex"] = {
            "pivots_mean": float(solution.iterations[real].double().mean()),
            "not_optimal": int((solution.status != bounds.Status.OPTIMAL).sum()),
            "seconds": median,
            "cpu_seconds": cpu,
            "lps_per_second": int(real.sum()) / median,
        }
    return found


def solved(
    lps: bounds.Relaxation, device: torch.device, method: Literal["interior_point", "simplex"]
) -> tuple[float, float, bounds.Solution]:
    """Seconds, those of all cores together, and the solution."""
    seconds, cpu_seconds = [], []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        spent, solution = environment.timed(
            device, lambda: bounds.solve(lps, method=method, tolerance=TOLERANCE, sound=False)
        )
        seconds.append(spent)
        cpu_seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:]), statistics.median(cpu_seconds[1:]), solution


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--images", type=int, default=16, help="of each network; %(default)s")
    parser.add_argument("--device", default="cpu")
    console = Console()
    options = command.options_of(parser, console)
    device = torch.device(options.device)
    rate = environment.matrix_rate(device)
    record: dict[str, Any] = {
        "benchmark": "lp_rate",
        **environment.describe(device),
        "matrix_gigaflops_per_second": rate / 1e9,
        "images": options.images,
        "networks": {},
    }
    shown = Table(title="the LPs of the second layer")
    for column in ("network", "LPs", "n", "seconds", "LPs / s", "of matrix rate", "by simplex"):
        shown.add_column(column, justify="left" if column == "network" else "right")
    for weights, radius in ROWS:
        found = measure(layer_lps(options.data, weights, radius, options.images), device, rate)
        record["networks"][f"{weights} {radius:g}"] = found
        shown.add_row(
            f"{weights} {radius:g}",
            str(found["lps"]),
            f"{found['unstable_mean']:.0f}",
            f"{found['seconds']:.3f}",
            f"{found['lps_per_second']:.0f}",
            f"{found['share_of_matrix_rate']:.0%}",
            f"{found['simplex']['lps_per_second']:.0f}" if "simplex" in found else "–",
        )
    console.print(shown)
    save(options.json, record)


if __name__ == "__main__":
    main()
