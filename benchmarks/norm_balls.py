"""ℓ1 and ℓ2 balls that a box cuts, beside the ℓ∞ ball: time of one-pass bounds.

Nine margins of each image from nothing, intermediate bounds included, pixels clipped to [0, 1]. The
radii of the ℓ1 and ℓ2 balls are those at which as many neurons are unstable as over the ℓ∞ ball.
CPU seconds of one thread, medians of runs that take turns.

    OMP_NUM_THREADS=1 python benchmarks/norm_balls.py --json benchmarks/results/norm_balls.json
"""

from __future__ import annotations

import math
import statistics
import sys
import time
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

#: Networks, the radius of their ℓ∞ ball in units of a pixel, and how many images.
NETWORKS = {
    "mnist_MLP_2_100 NOR": ("experiment_2/mnist_MLP_2_100_NOR.pth", 0.02, 10),
    "mnist_cnn_small NOR": ("experiment_2/mnist_cnn_small_NOR.pth", 0.02, 10),
    "cifar_cnn_small LPD": ("experiment_2/cifar_cnn_small_LPD.pth", 8 / 255, 5),
}
NORMS = (math.inf, 1, 2)
REPEATS = 5


def relaxed(
    images: instances.Images, dtype: torch.dtype, norm: float, radius: float, slope: str = "fixed"
) -> bounds.Relaxation:
    x, lower, upper = (t.to(dtype) for t in (images.x, images.lower, images.upper))
    ball = bounds.Ball(x, radius=radius * images.unit, norm=norm, lower=lower, upper=upper)
    return bounds.relax(images.network.to(dtype), ball, images.margins, slope=slope)


def as_unstable(images: instances.Images, norm: float, cube: float) -> float:
    """The radius in this norm at which about as many neurons are unstable as over the cube."""
    wanted = sum(relaxed(images, torch.float32, math.inf, cube).unstable)
    low, high = cube, cube * images.x[0].numel() ** (1 / norm)
    for _ in range(12):
        middle = math.sqrt(low * high)
        more = sum(relaxed(images, torch.float32, norm, middle).unstable) > wanted
        low, high = (low, middle) if more else (middle, high)
    return low


def measure(
    images: instances.Images, radii: dict[float, float], dtype: torch.dtype, slope: str
) -> dict[str, Any]:
    """Of each norm the seconds, and how many neurons are unstable."""
    seconds: dict[float, list[float]] = {norm: [] for norm in radii}
    unstable = {}
    for repeat in range(REPEATS + 1):
        for norm, radius in radii.items():
            start = time.process_time()
            relaxation = relaxed(images, dtype, norm, radius, slope)
            bounds.solve(relaxation, method=f"{slope}_slope")  # type: ignore[arg-type]
            if repeat > 0:  # the first one warms up
                seconds[norm].append(time.process_time() - start)
            unstable[norm] = sum(relaxation.unstable) / len(images.x)
    medians = {norm: statistics.median(own) for norm, own in seconds.items()}
    return {
        str(norm): {
            "radius": radii[norm],
            "unstable": unstable[norm],
            "seconds": found,
            "ratio": found / medians[math.inf],
        }
        for norm, found in medians.items()
    }


@torch.no_grad()
def main() -> int:
    console = Console()
    options = command.options_of(command.parser(__doc__), console)
    torch.set_num_threads(1)
    described = environment.describe(torch.device("cpu"))
    record: dict[str, Any] = {"benchmark": "norm_balls", **described, "networks": {}}
    table = Table("network", "dtype", "slope", "norm", "radius", "unstable", "seconds", "ratio")
    for name, (file, cube, count) in NETWORKS.items():
        images = instances.images_of(options.data, file, slice(0, count))
        radii = {n: cube if n == math.inf else as_unstable(images, n, cube) for n in NORMS}
        for dtype in (torch.float32, torch.float64):
            for slope in ("fixed", "adaptive"):
                found = measure(images, radii, dtype, slope)
                key = f"{name}, {str(dtype)[6:]}, {slope}"
                record["networks"][key] = found
                for norm, cell in found.items():
                    values = cell["radius"], cell["unstable"], cell["seconds"], cell["ratio"]
                    shown = (format(value, ".3g") for value in values)
                    table.add_row(name, str(dtype)[6:], slope, norm, *shown)
    console.print(table)
    save(options.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
