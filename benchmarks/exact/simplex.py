"""The interior point against the simplex method, side by side: what the cost model is fitted to.

    OMP_NUM_THREADS=1 python benchmarks/exact/simplex.py --json benchmarks/results/simplex.json

The 27 LPs of each network of `exact_lp.py`, single rows of them, deep and large networks, the LPs
of `lp_rate.py`'s second layers, the shipped digits networks and drawn ones; one input and many. CPU
seconds of one thread, condensing included, warm, the median of the repeats; both methods to a
proved gap of 1e-9, and to the sign alone.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.console import Console
from rich.table import Table

import bounds
from benchmarks.exact import lp_rate
from benchmarks.exact.exact_lp import NETWORKS
from benchmarks.published import instances
from benchmarks.support import command, environment
from benchmarks.support.journal import save
from bounds.models import load_digits_images, load_digits_model
from bounds.solvers import cost

METHODS: tuple[Literal["interior_point", "simplex"], ...] = ("interior_point", "simplex")
#: Weights and radius of deep networks and of large LPs.
DEEP = (
    ("experiment_2/mnist_MLP_9_100_LPD.pth", 0.05),
    ("experiment_2/mnist_MLP_9_100_NOR.pth", 0.02),
    ("experiment_2/mnist_cnn_wide_1_LPD.pth", 0.1),
    ("experiment_2/mnist_cnn_small_NOR.pth", 0.03),
)
#: Widths of drawn networks, with 4 outputs; and numbers of inputs.
DRAWN = (((4, 8, 8, 4), (1, 100)), ((20, 40, 40, 4), (1, 100)), ((50, 200, 200, 4), (1,)))
#: No more runs of one method on the same LPs after so many seconds.
ENOUGH = 10.0


def workloads(data: Path) -> Iterator[tuple[str, bounds.Relaxation]]:
    for name, (file, radius) in NETWORKS.items():
        _, relaxation = instances.relaxation(data, file, radius, slice(0, 3))
        yield f"{name}, 9 rows", relaxation.double()
        yield f"{name}, 1 row", relaxation.double().take(torch.arange(3), torch.arange(1))
    for file, radius in DEEP:
        _, relaxation = instances.relaxation(data, file, radius, slice(0, 1))
        yield f"{Path(file).stem} {radius:g}, 9 rows", relaxation.double()
    for name in ("cnn_LPD", "cnn_NOR"):
        _, relaxation = instances.relaxation(data, *NETWORKS[name], slice(0, 1))
        for position in (1, 2):
            yield f"layer {position + 1} of {name}", layer(relaxation.double(), position)
    for weights, radius in lp_rate.ROWS:
        lps = lp_rate.layer_lps(data, weights, radius, 4)
        yield f"layer 2 of {weights} {radius:g}", lps.double()
    images, labels = load_digits_images()
    for model in ("digits_standard", "digits_robust"):
        network = bounds.from_torch(load_digits_model(model), (1, 8, 8), dtype=torch.float64)
        for radius in (0.02, 0.1, 0.3):
            for count, rows in ((1, 9), (16, 9), (16, 1)):
                ball = bounds.Ball(images[:count].double(), radius=radius, lower=0.0, upper=1.0)
                spec = bounds.margins(labels[:count], 10)
                whole = bounds.relax(network, ball, spec)
                name = f"{model} {radius:g}, {count} × {rows}"
                yield name, whole.take(torch.arange(count), torch.arange(rows))
    for widths, counts in DRAWN:
        for count in counts:
            yield f"drawn {widths}, {count} × 4", drawn(widths, count)


def layer(whole: bounds.Relaxation, position: int) -> bounds.Relaxation:
    """Both bounds of every unstable neuron of a ReLU of one input."""
    node = whole.network.nodes[whole.network.relus[position]]
    network, kept = whole.network.ending_at(node.parents[0])
    unstable = whole.relu_bounds[position].unstable[0].flatten()
    rows = torch.diag(unstable.to(whole.C))[unstable].reshape(1, -1, *node.shape)
    rows = torch.cat((rows, -rows), 1)
    relu_bounds = tuple(whole.relu_bounds[k] for k in kept)
    return bounds.Relaxation(
        network,
        whole.input_set,
        rows,
        rows.new_zeros(rows.shape[:2]),
        relu_bounds,
        intermediate="backward",
    )


def drawn(widths: tuple[int, ...], count: int) -> bounds.Relaxation:
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for k in range(len(widths) - 1):
        layers += [torch.nn.Linear(widths[k], widths[k + 1]), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1]).double()
    network = bounds.from_torch(model, widths[:1]).detach()
    x = torch.rand(count, widths[0], dtype=torch.float64)
    rows = bounds.Specification(torch.eye(widths[-1], dtype=torch.float64))
    return bounds.relax(network, bounds.Ball(x, radius=0.3), rows)


def measure(
    relaxation: bounds.Relaxation, method: Literal["interior_point", "simplex"], repeats: int
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for label, sign_only in (("optimum", False), ("sign", True)):
        seconds: list[float] = []
        while len(seconds) <= repeats and sum(seconds) < ENOUGH:
            start = time.process_time()
            solution = bounds.solve(relaxation, method=method, sound=False, sign_only=sign_only)
            seconds.append(time.process_time() - start)
        open_ = solution.status.eq(bounds.Status.OPTIMAL) | solution.status.eq(bounds.Status.SIGN)
        found[label] = {
            "cpu_seconds": statistics.median(seconds[1:] or seconds),
            "not_solved": int((~open_).sum()),
            "iterations_mean": float(solution.iterations.double().mean()),
        }
    return found


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="default %(default)s")
    console = Console()
    options = command.options_of(parser, console)
    record: dict[str, Any] = {
        "benchmark": "simplex",
        **environment.describe(torch.device("cpu")),
        "lps": {},
    }
    shown = Table(title="CPU seconds")
    for column in ("LPs", "unstable", "interior point", "simplex", "ratio", "signs", "", "exact"):
        shown.add_column(column, justify="left" if column == "LPs" else "right")
    for name, relaxation in workloads(options.data):
        with console.status(name):
            cells = {method: measure(relaxation, method, options.repeats) for method in METHODS}
        chosen = cost.cheapest_exact_method(relaxation, None)
        record["lps"][name] = {
            "inputs": len(relaxation.input_set),
            "rows": relaxation.C.shape[1],
            "coordinates": relaxation.input_set.lower[0].numel(),
            "unstable": list(relaxation.unstable),
            "exact": chosen,
            **cells,
        }
        optimum, sign = (
            [cells[method][label]["cpu_seconds"] for method in METHODS]
            for label in ("optimum", "sign")
        )
        mean = sum(relaxation.unstable) / len(relaxation.unstable)
        shown.add_row(
            name,
            f"{mean:.0f}",
            f"{optimum[0]:.4f}",
            f"{optimum[1]:.4f}",
            f"{optimum[0] / optimum[1]:.1f}",
            f"{sign[0]:.4f}",
            f"{sign[1]:.4f}",
            chosen,
        )
        save(options.json, record)
    console.print(shown)


if __name__ == "__main__":
    main()
