"""One-pass bounds of residual networks from nothing, beside auto_LiRPA's CROWN.

    OMP_NUM_THREADS=1 python benchmarks/residual.py --json benchmarks/results/residual.json

The first property of two residual CIFAR-10 networks of VNN-COMP: intermediate bounds and all rows,
in both dtypes. Adaptive slopes are CROWN's bound; fixed slopes stand beside it. CPU seconds are
medians of calls that are made in turn, after one each to warm up. Ours pay for rounding, which
shows in float32.
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
from torch import Tensor

import bounds
from benchmarks.measure import peers
from benchmarks.measure.modules import Model
from benchmarks.published import instances
from benchmarks.support import command, environment
from benchmarks.support.journal import save

NETWORKS, REPEATS = ("resnet_2b", "resnet_4b"), 7


def crown(
    network: bounds.Network, box: bounds.Box, rows: tuple[Tensor, Tensor]
) -> Callable[[], Tensor]:
    package, middle = peers.load("auto_LiRPA"), (box.lower + box.upper) / 2
    model = package.BoundedModule(Model(network), middle, device="cpu")
    ball = package.PerturbationLpNorm(norm=float("inf"), x_L=box.lower, x_U=box.upper)
    x, (C, d) = package.BoundedTensor(middle, ball), rows
    return lambda: d + model.compute_bounds(x=(x,), C=C, method="CROWN", bound_upper=False)[0]


def ours(
    network: bounds.Network, box: bounds.Box, rows: tuple[Tensor, Tensor], slope: Any
) -> Callable[[], Tensor]:
    method: Any = f"{slope}_slope"

    def call() -> Tensor:
        relaxation = bounds.relax(network, box, bounds.Specification(*rows), slope=slope)
        return bounds.solve(relaxation, method=method).lower

    return call


@torch.no_grad()
def measure(calls: dict[str, Callable[[], Tensor]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, call in calls.items():
        found[name] = {"lower": float(call().min())}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    for name, own in times.items():
        found[name]["cpu_seconds"] = statistics.median(own)
    return found


def main() -> int:
    console = Console()
    options = command.options_of(command.parser(__doc__), console)
    version = peers.version("auto_LiRPA")
    if version is None:
        console.print(peers.absent("auto_LiRPA"), markup=False, highlight=False, soft_wrap=True)
    record: dict[str, Any] = {
        "benchmark": "residual",
        **environment.describe(torch.device("cpu")),
        "peers": {"auto_LiRPA": version},
        "repeats": REPEATS,
        "networks": {},
    }
    table = Table("network", "dtype", "method", "CPU s", "smallest row")
    for name in NETWORKS:
        double, box, specification = instances.resnet_property(options.data, name)
        for dtype in (torch.float32, torch.float64):
            network, part = double.to(dtype), box.convert(lambda tensor: tensor.to(dtype))  # noqa: B023
            C, d = specification.resolve(1, network.output_shape, part.lower)
            calls = {
                f"{slope} slope": ours(network, part, (C, d), slope)
                for slope in ("fixed", "adaptive")
            }
            if version is not None:
                calls["auto_LiRPA CROWN"] = crown(network, part, (C, d))
            found = measure(calls)
            record["networks"].setdefault(name, {})[str(dtype)] = found
            for method, entry in found.items():
                shown = f"{entry['cpu_seconds']:.3f}", f"{entry['lower']:.4f}"
                table.add_row(name, str(dtype)[6:], method, *shown)
    console.print(table)
    save(options.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
