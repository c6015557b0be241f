"""What sound bounds cost: time and tightness, beside the same passes in plain arithmetic.

Nine margins an image, ten images of MNIST or the first property of a residual CIFAR-10 network, in
float64 and float32. Two passes are timed, plain and sound in turn: fixed slopes from end to end,
with their feasible point; and the backward pass of a hidden layer's bounds, from up to 256 of its
neurons, which is what intermediate bounds are made of. Medians; "loss" is how much lower the
smallest margins get, and how much higher the feasible points' values.

    python benchmarks/rounding.py --json benchmarks/results/rounding.json
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from rich.table import Table

import bounds
from benchmarks.published import instances
from benchmarks.support import command, environment
from benchmarks.support.journal import save
from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import fixed
from bounds.rounding import plain_arithmetic

NETWORKS = {
    "mnist_MLP_B": ("experiment_1/NOR_MLP_B.pth", 0.02),
    "mnist_MLP_9_100": ("experiment_2/mnist_MLP_9_100_LPD.pth", 0.05),
    "mnist_cnn_small": ("experiment_2/mnist_cnn_small_LPD.pth", 0.1),
    "mnist_cnn_wide_1": ("experiment_2/mnist_cnn_wide_1_LPD.pth", 0.1),
    "resnet_2b": None,
}
NEURONS, REPEATS = 256, 9


def seconds(*passes: Callable[[], Any]) -> list[float]:
    """Medians of the times of these, run in turn after one run each to warm up."""
    times: list[list[float]] = [[] for _ in passes]
    for repeat in range(REPEATS + 1):
        for own, work in zip(times, passes, strict=True):
            start = time.perf_counter()
            work()
            if repeat > 0:
                own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


def hidden_pass(relaxation: bounds.Relaxation, *, sound: bool) -> None:
    """The backward bounds of neurons below the last ReLU, from their rows to their values."""
    network, relu_bounds = relaxation.network, relaxation.relu_bounds
    start = network.nodes[network.relus[-1]].parents[0]
    size = relu_bounds[-1].lower[0].numel()
    rows = torch.eye(size, dtype=relaxation.C.dtype)[:NEURONS]
    rows = rows.expand(len(relaxation.input_set), -1, -1)
    rows = rows.unflatten(2, relu_bounds[-1].lower.shape[1:])
    if sound:
        with plain_arithmetic():
            ranges = relaxation.ranges()[: start + 1]
            point = backward_pass(network, relu_bounds, start, rows, fixed, ranges)
            point.value_below(relaxation.input_set, relu_bounds)
    else:
        backward_pass(network, relu_bounds, start, rows, fixed).value(
            relaxation.input_set, relu_bounds
        )


@torch.no_grad()
def measure(relaxation: bounds.Relaxation) -> dict[str, Any]:
    def solve(sound: bool) -> bounds.Solution:
        return bounds.solve(relaxation, method="fixed_slope", sound=sound)

    plain, sound = solve(False), solve(True)
    end = seconds(lambda: solve(False), lambda: solve(True))
    hidden = seconds(
        lambda: hidden_pass(relaxation, sound=False), lambda: hidden_pass(relaxation, sound=True)
    )
    return {
        "seconds": {"plain": end[0], "sound": end[1]},
        "hidden_seconds": {"plain": hidden[0], "sound": hidden[1]},
        "ratio": end[1] / end[0],
        "hidden_ratio": hidden[1] / hidden[0],
        "lower_loss": float((plain.lower - sound.lower).max()),
        "upper_loss": float((sound.upper - plain.upper).max()),
        "lower": float(plain.lower.min()),
    }


def main() -> int:
    console = Console()
    options = command.options_of(command.parser(__doc__), console)
    record = {"benchmark": "rounding", **environment.describe(torch.device("cpu")), "networks": {}}
    table = Table("network", "dtype", "plain s", "sound s", "ratio", "hidden ratio", "lower loss")
    for name, stated in NETWORKS.items():
        if stated is None:
            double = instances.resnet_relaxation(options.data, name)
        else:
            _, double = instances.relaxation(options.data, *stated, slice(0, 10))
        for dtype in (torch.float64, torch.float32):
            found = measure(double.convert(lambda tensor: tensor.detach().to(dtype)))  # noqa: B023
            record["networks"].setdefault(name, {})[str(dtype)] = found
            times = (format(found["seconds"][kind], ".4f") for kind in ("plain", "sound"))
            ratios = (format(found[kind], ".2f") for kind in ("ratio", "hidden_ratio"))
            table.add_row(name, str(dtype)[6:], *times, *ratios, f"{found['lower_loss']:.1e}")
    console.print(table)
    save(options.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
