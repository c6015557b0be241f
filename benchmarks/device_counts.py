"""What the public calls launch on a device, and how often the host waits for it: counts, no times.

    python -m benchmarks.device_counts --json benchmarks/results/device_counts.json

On three images of the shipped digits network, on a device that is not there (`pretend_device`):
operations that torch dispatches, launches (those that are no views), and waits, with the lines of
the package that most of them come from. Counts are the same on every machine.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import bounds
from benchmarks.support.journal import save
from bounds.models import load_digits_images, load_digits_model
from tests.support.pretend_device import AVAILABLE, counting, pretend_device

PIXELS: dict[str, Any] = {"radius": 0.1, "lower": 0.0, "upper": 1.0}
IMAGES = 3
#: Lines of each call that are kept.
LINES = 12
#: The interior point's iterations that are compared for what one of them takes.
LIMITS = 3, 4


def calls(device: torch.device) -> dict[str, Callable[[], object]]:
    """By name; what they need is made here."""
    model = load_digits_model("digits_robust")
    x, y = (part[:IMAGES] for part in load_digits_images())
    x = x.double().to(device)
    network = bounds.from_torch(model, x.shape[1:], dtype=torch.float64).detach().to(device)
    ball, rows = bounds.Ball(x, **PIXELS), bounds.margins(y, 10)
    relaxation = bounds.relax(network, ball, rows)

    def solve(method: Any, **options: Any) -> Callable[[], object]:
        # A relaxation of its own: what is found out about its neurons is kept with them.
        fresh = relaxation.double()
        return lambda: bounds.solve(fresh, method=method, **options)

    def train(loss: Callable[..., bounds.LossAndError]) -> Callable[[], object]:
        inputs = x.clone().requires_grad_()
        return lambda: loss(network, inputs, y, **PIXELS).loss.backward()

    found: dict[str, Callable[[], object]] = {}
    for intermediate in ("interval", "backward", "optimised", "lp"):

        def relax(intermediate: Any = intermediate) -> object:
            return bounds.relax(network, ball, rows, intermediate=intermediate)

        found[f"relax {intermediate}"] = relax
    for method in ("fixed_slope", "adaptive_slope", "optimised_slope", "interior_point"):
        found[f"solve {method}"] = solve(method)
    for limit in LIMITS:
        name = f"solve interior_point, {limit} iterations"
        found[name] = solve("interior_point", iteration_limit=limit)
    found["solve pdhg, 20 iterations"] = solve("pdhg", iteration_limit=20)
    for loss in (bounds.robust_loss, bounds.interval_loss, bounds.crown_ibp_loss):
        found[f"{loss.__name__} and its gradient"] = train(loss)
    found["pgd, 10 steps"] = lambda: bounds.pgd(network, x, y, **PIXELS, steps=10)
    found["certify no_split"] = lambda: bounds.certify(
        network, x, y, **PIXELS, method="no_split", dtype=torch.float64
    )
    return found


def measure() -> dict[str, dict[str, Any]]:
    """Of each call, and of an iteration of the interior point."""
    found: dict[str, dict[str, Any]] = {}
    with pretend_device() as device:
        for name, call in calls(device).items():
            with counting() as counts:
                call()
            found[name] = {
                "operations": sum(counts.operations.values()),
                "launches": sum(counts.launches.values()),
                "waits": sum(counts.waits.values()),
                "lines_of_launches": most(counts.launches),
                "lines_of_waits": most(counts.waits),
            }
    before, after = (found[f"solve interior_point, {limit} iterations"] for limit in LIMITS)
    found["an iteration of interior_point"] = {
        kind: after[kind] - before[kind] for kind in ("operations", "launches", "waits")
    }
    return found


def most(lines: Counter[str]) -> dict[str, int]:
    """The lines with the most, in an order that does not depend on when they came."""
    ordered = sorted(lines.items(), key=lambda line: (-line[1], line[0]))
    return {line: count for line, count in ordered[:LINES] if count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where its record goes")
    options, console = parser.parse_args(), Console()
    if not AVAILABLE:
        console.print(f"torch {torch.__version__} has no backends in Python: 2.8 has.")
        parser.exit(2)
    record = {"benchmark": "device_counts", "torch": torch.__version__, "calls": measure()}
    shown = Table(title=f"{IMAGES} images of the digits network, 9 rows each")
    for column in ("call", "operations", "launches", "waits", "most waits at"):
        shown.add_column(column, justify="right" if column[-1] == "s" else "left")
    for name, found in record["calls"].items():
        numbers = (str(found[kind]) for kind in ("operations", "launches", "waits"))
        shown.add_row(name, *numbers, next(iter(found.get("lines_of_waits", ())), ""))
    console.print(shown)
    save(options.json, record)


if __name__ == "__main__":
    main()
