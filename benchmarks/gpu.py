"""What has to be shown on a real GPU, in one command of at most eight minutes.

    python -m benchmarks.gpu --json gpu.json

In parts, each with a budget of seconds of its own: every method against the CPU; LP optima against
cvxpy and HiGHS (`lp_reference`); LPs a second over their size and number; fixed-slope bounds a
second; boxes a second of a search; steps of robust training. The record is written after every
part, and a second run with the same file does what is missing. Networks are random or shipped:
nothing else is needed. Without a GPU it says so and ends with status 2, and with 1 where a result
is not the CPU's; `--device cpu --budget small` is a rehearsal.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

import bounds
import lp_reference
from benchmarks.support import environment, journal
from bounds import Ball, Network, Relaxation
from bounds.deadline import Deadline
from bounds.models import load_digits_images, load_digits_model

PIXELS: dict[str, Any] = {"radius": 0.1, "lower": 0.0, "upper": 1.0}
#: The methods, and what part of a bound the device may add up differently, or leave as a gap.
METHODS = {"fixed_slope": 1e-9, "adaptive_slope": 1e-9, "optimised_slope": 1e-3,
           "interior_point": 1e-8, "simplex": 1e-8, "pdhg": 1e-5, "exact": 1e-8}  # fmt: skip
LOSSES = (bounds.robust_loss, bounds.interval_loss, bounds.crown_ibp_loss, bounds.optimised_loss)


@dataclass(frozen=True)
class Budget:
    """seconds: of each part. images: that methods are compared on. samples: drawn networks for the
    referee. unstable: neurons of the LPs. lps: so many at a time. inputs: of them. batches: of
    fixed-slope bounds. hidden: of the search's network. train: images of a step."""

    seconds: float
    images: int
    samples: int
    unstable: tuple[int, ...]
    lps: tuple[int, ...]
    inputs: int
    batches: tuple[int, ...]
    hidden: int
    train: int


BUDGETS = {
    "whole": Budget(
        seconds=75.0, images=4, samples=40, unstable=(14, 30, 60, 120, 300, 900),
        lps=(100, 1_000, 10_000), inputs=784, batches=(16, 256, 4096), hidden=50, train=50,
    ),
    "small": Budget(
        seconds=60.0, images=1, samples=2, unstable=(4, 8), lps=(4,), inputs=16, batches=(2,),
        hidden=4, train=2,
    ),
}  # fmt: skip
#: What one measurement may take of its part's budget, before it counts as it is.
SHARE = 0.1


def dense(*widths: int, seed: int = 0) -> nn.Sequential:
    """Random layers with ReLUs in between, in float64."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layer = nn.Linear(before, after).double()
        with torch.no_grad():
            layer.weight.copy_(
                torch.randn(after, before, generator=generator).double() / before**0.5
            )
            layer.bias.copy_(torch.randn(after, generator=generator).double() / 10)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def on(device: torch.device, relaxation: Relaxation) -> Relaxation:
    return relaxation.convert(lambda tensor: tensor.to(device))


def off(there: Tensor, here: Tensor) -> float:
    """The largest difference, in parts of the larger of 1 and the number."""
    there = there.detach().cpu().double()
    return float(((there - here.double()).abs() / here.double().abs().clamp(min=1)).max())


# -- the parts: each yields a name and what was found, and may be stopped in between ---------------

Found = Iterator[tuple[str, dict[str, Any]]]


def correctness(device: torch.device, budget: Budget) -> Found:
    """Every method, loss and verdict against the CPU, on the shipped digits network."""
    x, y = (part[: budget.images] for part in load_digits_images())
    x = x.double()
    network = bounds.from_torch(load_digits_model("digits_robust"), x.shape[1:]).detach()
    network = network.to(torch.float64)
    relaxation = bounds.relax(network, Ball(x, **PIXELS), bounds.margins(y, 10))
    own = bounds.relax(network.to(device), Ball(x.to(device), **PIXELS), bounds.margins(y, 10))
    for k, (there, here) in enumerate(zip(own.relu_bounds, relaxation.relu_bounds, strict=True)):
        away = max(off(there.lower, here.lower), off(there.upper, here.upper))
        yield f"relax, layer {k}", {"off": away, "agrees": away <= 1e-9}
    for method, most in METHODS.items():
        chosen: Any = method
        here, there = (bounds.solve(lps, method=chosen) for lps in (relaxation, own))
        away = max(off(there.lower, here.lower), off(there.upper, here.upper))
        same = there.verified.tolist() == here.verified.tolist()
        yield method, {"off": away, "agrees": away <= most and same}
    for loss in LOSSES:
        inputs = x.clone().requires_grad_(), x.clone().to(device).requires_grad_()
        values = [
            loss(each, start, y, **PIXELS).loss
            for each, start in zip((network, network.to(device)), inputs, strict=True)
        ]
        [known], [found] = (
            torch.autograd.grad(value, start) for value, start in zip(values, inputs, strict=True)
        )
        away = max(off(values[1], values[0].detach()), off(found, known))
        yield loss.__name__, {"off": away, "agrees": away <= 1e-6}
    verdicts = [
        bounds.certify(each, start, y, **PIXELS, method="no_split", dtype=torch.float64).verdicts
        for each, start in ((network, x), (network.to(device), x.to(device)))
    ]
    yield "certify", {"verdicts": verdicts[1], "agrees": verdicts[0] == verdicts[1]}


def dual_equals_lp(device: torch.device, budget: Budget) -> Found:
    """The optimum of drawn LPs, by the interior point on the device and by HiGHS through cvxpy."""
    for seed in range(budget.samples):
        generator = torch.Generator().manual_seed(seed)
        widths = torch.randint(2, 12, (3,), generator=generator).tolist()
        network = bounds.from_torch(dense(5, *widths, 3, seed=seed), (5,)).detach()
        x = torch.randn(3, 5, generator=generator, dtype=torch.float64)
        ball = Ball(x, radius=0.5)
        relaxation = bounds.relax(network, ball, bounds.margins(network(x).argmax(1), 3))
        found = bounds.solve(on(device, relaxation), method="interior_point")
        away = off(found.lower, torch.as_tensor(lp_reference.solve(relaxation).value))
        yield f"drawn LPs {seed}", {"off": away, "agrees": away <= 1e-6}


def lps_of(device: torch.device, unstable: int, lps: int, inputs: int) -> Relaxation:
    """So many LPs of two layers with about so many unstable neurons together: rows of up to a
    hundred outputs, and as many random inputs as that takes."""
    rows, first = min(lps, 100), unstable // 2
    model = dense(inputs, first, unstable - first, rows)
    network = bounds.from_torch(model, (inputs,)).detach().to(device)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(-(-lps // rows), inputs, generator=generator, dtype=torch.float64) / 100
    each = bounds.Specification(torch.eye(rows, dtype=torch.float64))
    return bounds.relax(network, Ball(x.to(device), radius=1.0), each)


def lp_rate(device: torch.device, budget: Budget) -> Found:
    """LPs a second of the interior point, to a gap of 1e-9, over their size and number."""
    rate = environment.matrix_rate(device)
    yield "float64 matrix products", {"gigaflops_per_second": rate / 1e9}
    options: dict[str, Any] = {"sound": False, "time_limit": budget.seconds / 4}
    for lps in budget.lps:
        for unstable in budget.unstable:
            drawn = lps_of(device, unstable, lps, budget.inputs)

            def solve(drawn: Relaxation = drawn) -> bounds.Solution:
                return bounds.solve(drawn, method="interior_point", **options)

            seconds, found = median(device, budget, solve)
            count, solved = drawn.d.numel(), found.status == bounds.Status.OPTIMAL
            yield (
                f"{count} LPs of {unstable} neurons",
                {
                    "unstable": max(drawn.unstable),
                    "seconds": seconds,
                    "lps_per_second": count / seconds,
                    "iterations": float(found.iterations.double().mean()),
                    "solved": float(solved.double().mean()),
                },
            )


def fixed_slope(device: torch.device, budget: Budget) -> Found:
    """Relaxing and one pass of a convolutional network in float32, sound."""
    network = bounds.from_torch(load_digits_model("digits_robust"), (1, 8, 8)).to(device)
    images, labels = load_digits_images()
    for batch in budget.batches:
        some = torch.arange(batch) % len(images)
        x, y = images[some].float().to(device), labels[some]

        def bound(x: Tensor = x, y: Tensor = y) -> object:
            relaxation = bounds.relax(network, Ball(x, **PIXELS), bounds.margins(y, 10))
            return bounds.solve(relaxation, method="fixed_slope")

        seconds, _ = median(device, budget, bound)
        yield f"{batch} images", {"seconds": seconds, "images_per_second": batch / seconds}


def search(device: torch.device, budget: Budget) -> Found:
    """Boxes a second of a complete search on a network of the size of ACAS Xu's: whether an output
    stays above a little less than it is at points of the ball."""
    network: Network = bounds.from_torch(dense(5, *[budget.hidden] * 6, 5), (5,)).detach()
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(10_000, 5, generator=generator, dtype=torch.float64) - 0.5
    outputs = network(points)[:, 0]
    least = outputs.min() - 0.1 * (outputs.max() - outputs.min())
    rows = bounds.Specification(torch.eye(5, dtype=torch.float64)[:1], -least.unsqueeze(0))
    x = torch.zeros(1, 5, dtype=torch.float64, device=device)
    found = bounds.certify(
        network.to(device), x, rows=rows, radius=0.5, method="input_split", dtype=torch.float64,
        timeout=budget.seconds / 2,
    )  # fmt: skip
    record: dict[str, Any] = {"verdict": found.verdict, "seconds": found.seconds}
    for state in found.searches:
        if state is not None:
            rate = state.domains / found.seconds["search"]
            record |= {"boxes": state.domains, "boxes_per_second": rate}
    yield "one input", record


def training(device: torch.device, budget: Budget) -> Found:
    """Steps on losses of robust training, of the shipped convolutional network in float32."""
    images, labels = load_digits_images()
    some = torch.arange(budget.train) % len(images)
    x, y = images[some].float().to(device), labels[some].to(device)
    for loss in LOSSES:
        model = load_digits_model("digits_standard").float().to(device).requires_grad_()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

        def step(
            loss: Callable[..., bounds.LossAndError] = loss,
            model: nn.Module = model,
            optimizer: torch.optim.Optimizer = optimizer,
        ) -> float:
            value = loss(model, x, y, **PIXELS).loss
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            return float(value.detach())

        seconds, value = median(device, budget, step)
        yield loss.__name__, {"seconds": seconds, "loss": value}


def median(device: torch.device, budget: Budget, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one run of three, after one that does not count, and what the last returned;
    of fewer, where they take long."""
    seconds, result = environment.timed(device, work)
    runs: list[float] = []
    while len(runs) < 3 and seconds + sum(runs) < SHARE * budget.seconds:
        spent, result = environment.timed(device, work)
        runs.append(spent)
    return statistics.median(runs or [seconds]), result


PARTS: dict[str, Callable[[torch.device, Budget], Found]] = {
    part.__name__: part
    for part in (correctness, dual_equals_lp, lp_rate, fixed_slope, search, training)
}


def run(name: str, device: torch.device, budget: Budget) -> dict[str, Any]:
    """A part, until its budget is used up: what it has by then, and whether that is all."""
    entries: dict[str, Any] = {}
    part: dict[str, Any] = {"entries": entries, "ended": "complete"}
    start, deadline = time.perf_counter(), Deadline(budget.seconds)
    try:
        for entry, found in PARTS[name](device, budget):
            entries[entry] = found
            if deadline.passed:
                part["ended"] = "time"
                break
    except Exception as failure:  # the other parts are worth having
        part["ended"] = f"{type(failure).__name__}: {str(failure).splitlines()[:1]}"
    part["seconds"] = time.perf_counter() - start
    return part


def right(part: dict[str, Any]) -> bool:
    """Whether it came to an end by itself or by its time, and nothing disagrees."""
    agrees = all(found.get("agrees", True) for found in part["entries"].values())
    return part["ended"] in ("complete", "time") and agrees


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", choices=BUDGETS, default="whole")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where its record goes")
    options, console = parser.parse_args(arguments), Console()
    device, budget = torch.device(options.device), BUDGETS[options.budget]
    if device.type == "cuda" and not torch.cuda.is_available():
        console.print("no GPU that torch can use: --device cpu --budget small is a rehearsal.")
        return 2
    cuda = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    record: journal.Record = {
        "benchmark": "gpu",
        **environment.describe(device),
        "device_versions": cuda if device.type == "cuda" else None,
        "budget": options.budget,
        "parts": {},
    }
    record = journal.resumed(
        options.json, record, same=("benchmark", "commit", "device", "budget", "versions")
    )
    for name in PARTS:
        if name not in record["parts"]:
            record["parts"][name] = run(name, device, budget)
            journal.save(options.json, record)
        part = record["parts"][name]
        verdict = "" if right(part) else "  NOT RIGHT"
        console.print(f"{name}: {part['ended']}, {part['seconds']:.1f} s{verdict}", markup=False)
        for entry, found in part["entries"].items():
            numbers = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                       for key, value in found.items())  # fmt: skip
            console.print(f"  {entry}: {', '.join(numbers)}", markup=False)
    return 0 if all(map(right, record["parts"].values())) else 1


if __name__ == "__main__":
    raise SystemExit(main())
