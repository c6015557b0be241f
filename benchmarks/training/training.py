"""Seconds and memory of a training step on the robust loss, beside convex_adversarial.

    pip install -e ".[benchmarks,peers]"
    python benchmarks/training/training.py --json benchmarks/results/training.json

The predecessor's MNIST conv net, its published weights and random ones, the first test images, ℓ∞
within [0, 1], Adam in float32: exact bounds, interval bounds (ours alone), and projected ones. Each
method has a process of its own; they take turns, one running while the others wait, of which the
first step does not count. Seconds are the median. Memory is what the process held at most, of which
`base` is what it held before its first step, with torch and the data loaded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

import bounds
from benchmarks.measure import peers
from benchmarks.published import tables as published
from benchmarks.published.instances import load_model
from benchmarks.support import command, environment
from benchmarks.support.journal import save

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]

WEIGHTS = ("trained", "random")
RADIUS = 0.1
TURNS = 2
MODEL = Path("models") / "convex_adversarial" / "models_mnist.pth"


def ours(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> Tensor:
    return bounds.robust_loss(model, x, y, radius=RADIUS, lower=0.0, upper=1.0, **options).loss


def theirs(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> Tensor:
    package = peers.load("convex_adversarial")
    loss: Tensor = package.robust_loss(model, RADIUS, x, y, bounded_input=True, **options)[0]
    return loss


#: Whose, which bounds: the loss and its options, given the number of random vectors.
METHODS: dict[tuple[str, str], Callable[[int], tuple[Callable[..., Tensor], dict[str, Any]]]] = {
    ("bounds", "exact"): lambda k: (ours, {}),
    ("bounds", "interval"): lambda k: (ours, {"intermediate": "interval"}),
    ("bounds", "projected"): lambda k: (ours, {"projection": k}),
    ("convex_adversarial", "exact"): lambda k: (theirs, {}),
    ("convex_adversarial", "projected"): lambda k: (theirs, {"proj": k, "norm_type": "l1_median"}),
}


def load(data: Path, weights: str, seed: int) -> nn.Sequential:
    """The predecessor's conv net in float64, with its published weights or random ones."""
    torch.manual_seed(seed)
    model = load_model(data / MODEL)
    for layer in model if weights == "random" else ():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.reset_parameters()
    return model


def held() -> float:
    """Megabytes that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def worker(
    pipe: Connection, key: tuple[str, str], weights: str, options: argparse.Namespace
) -> None:
    """A step whenever the parent asks for one; then how much memory they took."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    model = load(options.data, weights, options.seed).float().requires_grad_().to(device)
    x, y = (part[: options.batch].to(device) for part in published.mnist(options.data))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    function, chosen = METHODS[key](options.vectors)
    x = x.float()

    def step() -> float:
        loss = function(model, x, y, **chosen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    base = held()
    while pipe.recv():
        pipe.send(environment.timed(device, step))
    on_device = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    pipe.send({"base_megabytes": base, "peak_megabytes": held(), "device_megabytes": on_device})


def measure(weights: str, options: argparse.Namespace, tick: Callable[[], None]) -> dict[str, Any]:
    """All methods on these weights, a step of each in turn."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[tuple[str, str], Connection] = {}
    absent = peers.absent("convex_adversarial")
    for key in METHODS:
        if key[0] == "convex_adversarial" and absent:
            continue
        pipes[key], end = context.Pipe()
        context.Process(target=worker, args=(end, key, weights, options), daemon=True).start()
    steps: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in pipes}
    for _ in range(TURNS):
        for key, pipe in pipes.items():
            for _ in range(1 + options.steps):
                pipe.send(True)
                steps[key].append(pipe.recv())
                tick()
    found: dict[str, Any] = {}
    for key, pipe in pipes.items():
        pipe.send(False)
        counted = [s for k, (s, _) in enumerate(steps[key]) if k % (1 + options.steps)]
        found[" ".join(key)] = {
            "seconds": statistics.median(counted),
            "all_seconds": counted,
            "losses": [loss for _, loss in steps[key]],
            **pipe.recv(),
        }
    return found


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """How many times the predecessor's time and memory ours are smaller."""
    result: dict[str, float] = {}
    for kind in ("exact", "projected"):
        if f"convex_adversarial {kind}" not in found:
            continue
        mine, other = found[f"bounds {kind}"], found[f"convex_adversarial {kind}"]
        result[f"{kind} seconds"] = other["seconds"] / mine["seconds"]
        result[f"{kind} peak"] = other["peak_megabytes"] / mine["peak_megabytes"]
        over = (each["peak_megabytes"] - each["base_megabytes"] for each in (other, mine))
        result[f"{kind} peak over base"] = next(over) / next(over)
    return result


def shown(record: dict[str, Any]) -> Table:
    table = Table(title=f"a step of batch {record['batch']}, k = {record['vectors']}")
    for column in ("weights", "method", "seconds", "first loss", "peak MB", "over base MB"):
        table.add_column(column, justify="left" if column in ("weights", "method") else "right")
    for weights in record["weights"]:
        for name, found in record["weights"][weights]["methods"].items():
            table.add_row(
                weights,
                name,
                f"{found['seconds']:.3f}",
                f"{found['losses'][0]:.4f}",
                f"{found['peak_megabytes']:.0f}",
                f"{found['peak_megabytes'] - found['base_megabytes']:.0f}",
            )
    return table


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--vectors", type=int, default=50, help="k of the projections")
    parser.add_argument("--steps", type=int, default=2, help="of a turn, that count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    console = Console()
    options = command.options_of(parser, console)
    if absent := peers.absent("convex_adversarial"):
        console.print(absent)
    record: dict[str, Any] = {
        "benchmark": "training",
        **environment.describe(torch.device(options.device)),
        "radius": RADIUS,
        **{key: getattr(options, key) for key in ("batch", "vectors", "steps", "seed", "threads")},
        "weights": {},
    }
    with Progress(console=console) as progress:
        bar = progress.add_task(
            "steps", total=len(WEIGHTS) * len(METHODS) * TURNS * (1 + options.steps)
        )
        for weights in WEIGHTS:
            found = measure(weights, options, lambda: progress.advance(bar))
            record["weights"][weights] = {"methods": found, "ratios": ratios(found)}
    console.print(shown(record))
    for weights, found in record["weights"].items():
        for name, ratio in found["ratios"].items():
            console.print(f"{weights}, {name}: convex_adversarial takes {ratio:.1f} times as much")
    save(options.json, record)


if __name__ == "__main__":
    main()
