"""What LP-ALL and CIFAR-10 would take on one GPU and on eight, by a model: nothing is measured.

    python -m benchmarks.scale --json benchmarks/results/scale.json

The calls are made for a few images on the pretend device, where each operation is noted with its
flops and bytes, and a roofline (`benchmarks.measure.roofline`) says what they would take on a GPU
of published rates, of which a stated share is reached, in batches that fill it. The numbers of LPs
and the seconds that were measured on two cores are those of `results/lp_all.json`; what the same
model says of this CPU, by its own rates, stands beside them. Several GPUs share the images, and
nothing else. Attacks, reading and results are left out. `python -m benchmarks.gpu` on a real one
says how far off it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import bounds
from benchmarks.exact.lp_rate import layer_lps
from benchmarks.measure.roofline import Machine, Trace, traced
from benchmarks.published import instances
from benchmarks.published.lp_all import Row, read_images, read_network, table_rows
from benchmarks.support import command, environment
from benchmarks.support.journal import save
from tests.support.pretend_device import AVAILABLE, pretend_device

#: Published of the SXM modules: dense products in float64 on tensor cores, in float32 without TF32,
#: and memory. Half of that is taken to be reached, 7 µs for a launch and 20 for a wait.
GPUS = (
    Machine("H100", {8: 67e12, 4: 67e12}, 3.35e12, share=0.5, launch=7e-6, wait=20e-6),
    Machine("H200", {8: 67e12, 4: 67e12}, 4.8e12, share=0.5, launch=7e-6, wait=20e-6),
)
NUMBERS = 1, 8
#: LPs and images in one call, which fill a GPU.
LPS, IMAGES, CIFAR = 20_000, 1_000, 64
#: Seconds in which a process starts and its model gets there, on every GPU at once.
START = 20.0
#: What the journals of LP-ALL call LPs of neurons; all others are of margins.
LAYER = "intermediate"
#: Fewer of these count as LPs of margins: some images have none.
FEW = 1_000
RESNETS = ("resnet_2b", "resnet_4b")
HERE = "this CPU"


@dataclass(frozen=True)
class Work:
    """A call that launches `trace` for so much is to be made for `total`, `at_once` at a time."""

    trace: Trace
    done: int
    total: int
    at_once: int

    def seconds(self, machine: Machine, gpus: int) -> dict[str, float]:
        """By what bounds them, on one of so many GPUs."""
        own = -(-self.total // gpus)
        calls = -(-own // self.at_once)
        once = self.trace.seconds(machine, own / calls / self.done)
        return {bound: calls * seconds for bound, seconds in once.items()}


def one_pass(
    network: bounds.Network, box: Any, rows: bounds.Specification, device: torch.device
) -> Trace:
    """Of intermediate bounds and rows."""
    there = network.to(device), box.convert(lambda tensor: tensor.to(device))

    def call() -> None:
        bounds.solve(bounds.relax(*there, rows, slope="adaptive"), method="adaptive_slope")

    return traced(call)


def solving(lps: bounds.Relaxation, total: int, device: torch.device) -> Work:
    """So many LPs like these, by the interior point."""
    there = lps.convert(lambda tensor: tensor.to(device))
    trace = traced(lambda: bounds.solve(there, method="interior_point", sound=False))
    return Work(trace, int((lps.C != 0).flatten(2).any(2).sum()), total, LPS)


def row_works(
    row: Row, found: dict[str, Any], data: Path, images: int, device: torch.device
) -> list[Work]:
    """What a row of the table takes: one pass for all images, LPs of neurons, LPs of margins."""
    network = read_network(row.model, "cpu")
    x, y = (part[:images] for part in read_images(data))
    ball = bounds.Ball(x, radius=row.radius, lower=0.0, upper=1.0)
    rows = bounds.margins(y, 10)
    trace = one_pass(network, ball.resolve(network.input_shape), rows, device)
    works = [Work(trace, images, found["images"], IMAGES)]
    every, neurons = sum(found["lps"].values()), found["lps"].get(LAYER, 0)
    if neurons < FEW:
        neurons = 0
    works.append(solving(bounds.relax(network, ball, rows), every - neurons, device))
    if neurons:
        lps = layer_lps(data, row.model.name, row.radius, images)
        works.append(solving(lps, neurons, device))
    return works


def resnet_work(data: Path, name: str, device: torch.device) -> Work:
    """One pass over many images like that of the first property."""
    network, box, specification = instances.resnet_property(data, name)
    C, d = specification.resolve(1, network.output_shape, box.lower)
    return Work(one_pass(network, box, bounds.Specification(C, d), device), 1, CIFAR, CIFAR)


def here() -> Machine:
    """This one, by its own rates: how far off the model is where the answer is known."""
    cpu, numbers = torch.device("cpu"), torch.rand(2**25, dtype=torch.float64)
    seconds = min(environment.timed(cpu, numbers.clone)[0] for _ in range(5))
    rates = {
        dtype.itemsize: environment.matrix_rate(cpu, dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    }
    return Machine(HERE, rates, 16 * len(numbers) / seconds, share=1.0, launch=3e-6, wait=0.0)


def predicted(works: list[Work], machines: Sequence[Machine]) -> dict[str, Any]:
    """Seconds by machine and number of GPUs, and by what bounds them on one."""
    found: dict[str, Any] = {}
    for machine in machines:
        own = {}
        for gpus in NUMBERS if machine.name != HERE else (1,):
            parts = [work.seconds(machine, gpus) for work in works]
            bound = {name: sum(part[name] for part in parts) for name in parts[0]}
            own[str(gpus)] = {"seconds": sum(bound.values()), "by": bound}
        found[machine.name] = own
    return found


def main() -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--images", type=int, default=4, help="that calls are made for; 4")
    console = Console()
    options = command.options_of(parser, console)
    if not AVAILABLE:
        console.print(f"torch {torch.__version__} has no backends in Python: 2.8 has.")
        return 2
    machines = here(), *GPUS
    measured = json.loads((Path(__file__).parent / "results" / "lp_all.json").read_text())
    record: dict[str, Any] = {
        "benchmark": "scale",
        **environment.describe(torch.device("cpu")),
        "assumed": [asdict(machine) for machine in machines],
        "start_seconds": START,
        "lps_in_a_call": LPS,
        "lp_all": {},
        "cifar": {},
    }
    names = [HERE, *(f"{gpus} × {machine.name}" for machine in GPUS for gpus in NUMBERS)]
    table = Table("work", "measured here", *names, f"most of it on one {GPUS[0].name}")
    total = dict.fromkeys(names, START)
    with pretend_device() as device:
        for row, found in zip(table_rows(options.data), measured["rows"], strict=True):
            assert (row.model.name, row.radius) == (found["model"], found["radius"])
            own = predicted(row_works(row, found, options.data, options.images, device), machines)
            record["lp_all"][f"{found['model']} {row.radius:g}"] = own
            for name, seconds in zip(names, flat(own), strict=True):
                total[name] += seconds
            add(table, f"{found['model']} {row.radius:g}", f"{found['seconds']:.0f}", own)
        everything = sum(found["seconds"] for found in measured["rows"])
        record["lp_all_total"] = total
        cells = (f"{seconds:.1f}" for seconds in total.values())
        table.add_row(
            "the table, with the start", f"{everything:.0f}", *cells, "", end_section=True
        )
        for name in RESNETS:
            own = predicted([resnet_work(options.data, name, device)], machines)
            record["cifar"][f"{name}, {CIFAR} images"] = own
            add(table, f"one pass, {CIFAR} × {name}", "", own)
    console.print(table)
    save(options.json, record)
    return 0


def flat(own: dict[str, Any]) -> list[float]:
    return [found["seconds"] for machine in own.values() for found in machine.values()]


def add(table: Table, name: str, measured: str, own: dict[str, Any]) -> None:
    by = own[GPUS[0].name]["1"]["by"]
    most = max(by, key=by.__getitem__)
    cells = (f"{seconds:.3g}" for seconds in flat(own))
    table.add_row(name, measured, *cells, f"{most}, {by[most] / sum(by.values()):.0%}")


if __name__ == "__main__":
    sys.exit(main())
