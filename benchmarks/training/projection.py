"""How far random projections are from the bounds that they estimate, over the number of vectors.

    pip install -e ".[benchmarks]"
    python benchmarks/training/projection.py --json benchmarks/results/projection.json \\
        --plot benchmarks/results/projection.png

The predecessor's MNIST conv net, its published weights and random ones, the first test images, ℓ∞
balls within [0, 1] and ℓ2 balls. For the second and the third ReLU layer: the estimate of half of
u − l over the backward bound's, of every neuron, over the same bounds of the layers below. And the
robust loss with projections over the loss without, where `robust_loss` takes them.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

import bounds
from benchmarks.published import tables as published
from benchmarks.support import command, environment
from benchmarks.support.journal import save
from benchmarks.training.training import WEIGHTS, load
from bounds.intermediate.neuron_bounds import neuron_bounds
from bounds.intermediate.projection import Projection, Vectors

VECTORS = (10, 20, 50, 100, 200, 400)
#: Norms, their radii and boxes.
BALLS: dict[str, dict[str, Any]] = {
    "linf": {"radius": 0.1, "lower": 0.0, "upper": 1.0},
    "l2": {"radius": 0.5, "norm": 2},
}
QUANTILES = (0.05, 0.5, 0.95)


def halves(relaxation: bounds.Relaxation, layer: int) -> tuple[int, Tensor]:
    """The node before a ReLU, and (u − l) / 2 of the backward bounds of all its neurons."""
    network, layers = relaxation.network, relaxation.relu_bounds
    (start,) = network.nodes[network.relus[layer]].parents
    everyone = torch.ones_like(layers[layer].lower, dtype=torch.bool)
    found = neuron_bounds(
        *(network, relaxation.input_set, layers[:layer], relaxation.ranges(), start, everyone),
        slope="fixed",
        max_memory=None,
    )
    return start, (found.upper - found.lower) / 2


@torch.no_grad()
def measure(model: nn.Module, x: Tensor, y: Tensor, ball: str) -> dict[str, Any]:
    """Quantiles of the ratios of each layer and of the loss, by the number of vectors."""
    options = BALLS[ball]
    network = bounds.from_torch(model, x.shape[1:])
    relaxation = bounds.relax(network, bounds.Ball(x, **options), bounds.margins(y, 10))
    exact = [halves(relaxation, layer) for layer in (1, 2)]
    loss = bounds.robust_loss(model, x, y, **options).loss
    quantiles = torch.tensor(QUANTILES, dtype=x.dtype)
    found: dict[str, Any] = {"layer 2": {}, "layer 3": {}, "loss": {}}
    for k in VECTORS:
        for layer, (start, radius) in enumerate(exact, start=1):
            projection = Projection(network, relaxation.input_set, Vectors(k))
            estimate = projection.bounds(start, relaxation.relu_bounds[:layer])
            ratio = ((estimate.upper - estimate.lower) / 2 / radius).flatten()
            found[f"layer {layer + 1}"][str(k)] = ratio.quantile(quantiles).tolist()
        taken = [bounds.robust_loss(model, x, y, **options, projection=k).loss for _ in range(5)]
        found["loss"][str(k)] = (torch.stack(taken) / loss).quantile(quantiles).tolist()
    return found


def draw(record: dict[str, Any], file: Path) -> None:
    """A panel a network and norm; bands from the 5 % to the 95 % quantile."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(BALLS), len(WEIGHTS), figsize=(10, 7), sharex=True, sharey=True, layout="constrained"
    )
    colours = {"layer 2": "#0072B2", "layer 3": "#D55E00", "loss": "#333333"}
    for row, ball in enumerate(BALLS):
        for column, weights in enumerate(WEIGHTS):
            panel = axes[row][column]
            for name, values in record["ratios"][weights][ball].items():
                k = [int(each) for each in values]
                low, middle, high = zip(*values.values(), strict=True)
                style = "--" if name == "loss" else "-"
                panel.plot(k, middle, style, color=colours[name], label=f"{name}, median")
                if name != "loss":
                    panel.fill_between(k, low, high, color=colours[name], alpha=0.15, lw=0)
            deviation = [1 + math.pi / (2 * math.sqrt(each)) for each in VECTORS]
            panel.plot(VECTORS, deviation, ":", color="#888888", label="1 ± π / (2 √k)")
            panel.plot(VECTORS, [2 - each for each in deviation], ":", color="#888888")
            panel.axhline(1, color="black", lw=0.8)
            norm = "ℓ∞, 0.1, within [0, 1]" if ball == "linf" else "ℓ2, 0.5"
            panel.set_title(f"{weights} weights, {norm}", fontsize=10)
            panel.set_xscale("log")
            panel.set_ylim(0, 2)
    for panel in axes[-1]:
        panel.set_xlabel("random vectors k")
    for panel in axes[:, 0]:
        panel.set_ylabel("estimate / exact")
    axes[0][0].legend(fontsize=8)
    figure.suptitle("Random projections estimate; below 1 they promise too much")
    figure.savefig(file, dpi=150)


def shown(record: dict[str, Any]) -> Table:
    table = Table(title="estimate / exact: 5 %, 50 % and 95 % quantiles")
    for column in ("weights", "ball", "of", *(f"k = {k}" for k in VECTORS if k in (10, 50, 400))):
        table.add_column(column)
    for weights, balls in record["ratios"].items():
        for ball, names in balls.items():
            for name, values in names.items():
                cells = (values[str(k)] for k in (10, 50, 400))
                texts = (" ".join(f"{ratio:.2f}" for ratio in cell) for cell in cells)
                table.add_row(weights, ball, name, *texts)
    return table


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    console = Console()
    options = command.options_of(parser, console)
    record: dict[str, Any] = {
        "benchmark": "projection",
        **environment.describe(torch.device("cpu")),
        "images": options.images,
        "seed": options.seed,
        "quantiles": QUANTILES,
        "ratios": {weights: {} for weights in WEIGHTS},
    }
    x, y = (part[: options.images] for part in published.mnist(options.data))
    with Progress(console=console) as progress:
        bar = progress.add_task("networks and balls", total=len(WEIGHTS) * len(BALLS))
        for weights in WEIGHTS:
            model = load(options.data, weights, options.seed)
            for ball in BALLS:
                record["ratios"][weights][ball] = measure(model, x, y, ball)
                progress.advance(bar)
    console.print(shown(record))
    save(options.json, record)
    if options.plot is not None:
        draw(record, options.plot)


if __name__ == "__main__":
    main()
