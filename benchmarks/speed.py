"""Every method on networks from tiny to large, ours beside what is installed of the peers.

    python benchmarks/speed.py --json benchmarks/results/speed.json \\
        --plot benchmarks/results/speed.png

Three tasks (`benchmarks/measure/protocol.py`): intermediate bounds, lower bounds from nothing, and
lower bounds with l and u given; the methods are in `benchmarks/measure/methods.py` and the networks
in `benchmarks/measure/workloads.py`. Every cell is measured in a process of its own, as
`benchmarks/measure/cells.py` says. The JSON file is written after each; the same command goes on
from there, however it was ended, unless the commit, the device or an option that matters is
another. convex_adversarial and auto_LiRPA are skipped where they are not installed, published
networks where their data is missing. `--plot` writes pictures of memory and of gaps beside its
file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console

from benchmarks.measure import cells, growth, peers, pictures, workloads
from benchmarks.measure import report as speed_report
from benchmarks.measure.cells import Cell, Entry
from benchmarks.measure.methods import METHODS
from benchmarks.measure.protocol import DTYPES
from benchmarks.measure.workloads import NETWORKS, QUICK, Setting
from benchmarks.published import instances
from benchmarks.support import environment, journal

Record = dict[str, Any]
#: Seconds a cell: of a full run, and of a quick one.
BUDGET, QUICK_BUDGET = 0.3, 0.1
#: What begins the note of a cell that is not tried.
SMALLER = "a smaller one: "
#: Columns of the tables where the output is no terminal.
WIDTH = 132
#: A record goes on only where these are the same.
SAME = ("benchmark", "commit", "device", "threads", "peers", "budget", "seed")


def plan(names: Sequence[str], *, quick: bool, **shared: Any) -> dict[str, list[Cell]]:
    """Each network's cells, a method after the other, from small to large."""
    cells_of: dict[str, list[Cell]] = {}
    for name in names:
        cells_of[name] = []
        for key, method in METHODS.items():
            usual, *others = growth.settings(name, method)
            if quick:
                batches = [Setting(batch=batch) for batch in method.batches(NETWORKS[name])]
                most = QUICK.get(name, 0)
                others = [each for each in others if each in batches and each.batch <= most]
            elif not several_cores(shared["device"]):
                others = [each for each in others if each.cores is None]
            cells_of[name] += [
                Cell(network=name, method=key, setting=setting, **shared)
                for setting in (usual, *others)
            ]
    return cells_of


def several_cores(device: str) -> bool:
    """Whether one of them alone makes a difference."""
    return device == "cpu" and torch.get_num_threads() > 1


def fill(
    record: Record,
    todo: dict[str, list[Cell]],
    absent: set[str],
    path: Path | None,
    console: Console,
) -> None:
    """Measure what the record lacks, a network after the other, but for absent packages."""
    with journal.progress(console) as progress:
        bar = progress.add_task("", total=sum(map(len, todo.values())))
        for name, wanted in todo.items():
            progress.update(bar, description=f"{name}: its LPs")
            if name not in record["networks"]:
                some = next(cell for cell in wanted if METHODS[cell.method].task == "solve")
                found = cells.apart(cells.facts, some)
                if "note" in found:
                    console.print(f"{name} is skipped: {found['note']}", highlight=False)
                    progress.update(bar, advance=len(wanted))
                    continue
                record["networks"][name] = {**found, "cells": {}}
            done = record["networks"][name]["cells"]
            for cell in wanted:
                progress.update(bar, description=f"{name}: {cell.key}")
                if cell.key not in done:
                    package = METHODS[cell.method].package
                    if package in absent:
                        done[cell.key] = {"note": f"{package} is not installed"}
                    else:
                        done[cell.key] = stuck(record, cell) or cells.apart(cells.measure, cell)
                    journal.save(path, record)
                progress.update(bar, advance=1)
            console.print(speed_report.table(record, name))


def stuck(record: Record, cell: Cell) -> Entry | None:
    """A note where the method had one on what takes less."""
    for name, setting in growth.easier(cell.network, cell.setting, METHODS[cell.method]):
        entries = record["networks"].get(name, {}).get("cells", {})
        note = entries.get(f"{cell.method} @ {setting}", {}).get("note")
        if note is not None:
            return {"note": SMALLER + note.removeprefix(SMALLER)}
    return None


def fresh(options: argparse.Namespace, budget: float) -> Record:
    device = torch.device(options.device)
    return {
        "benchmark": "speed",
        **environment.describe(device),
        "peers": {package: peers.version(package) for package in peers.REMEDIES},
        "seed": workloads.SEED,
        "budget": budget,
        "matrix_rate": rates(device),
        "matrix_rate_of_one_core": on_one_core(lambda: rates(device)),
        "networks": {},
    }


def rates(device: torch.device) -> dict[str, float]:
    return {
        name: environment.matrix_rate(device, dtype=getattr(torch, name))
        for name in sorted(set(DTYPES.values()))
    }


def on_one_core(measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure()
    finally:
        torch.set_num_threads(threads)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="default: all there are")
    parser.add_argument("--quick", action="store_true", help="small ones, in a few minutes")
    parser.add_argument(
        "--budget", type=float, help=f"seconds a cell; {BUDGET:g}, quick {QUICK_BUDGET:g}"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.networks or [] if name not in NETWORKS]
    if unknown:
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    if options.budget is not None and not 0 < options.budget < float("inf"):
        parser.error(f"--budget {options.budget:g} is not a positive number of seconds")
    for file in (options.json, options.plot):
        if file is not None and not file.parent.is_dir():
            parser.error(f"{file}: there is no folder {file.parent}")
    try:
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {options.device}: {str(error).splitlines()[0]}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    data = instances.data_folder()
    names = options.networks or list(QUICK if options.quick else NETWORKS)
    missing = [name for name in names if NETWORKS[name].published and not data.is_dir()]
    if missing:
        console.print(f"{', '.join(missing)} skipped: {data} is missing, set BOUNDS_DATA.")
    absent = {package: peers.absent(package) for package in peers.REMEDIES}
    for message in filter(None, absent.values()):
        console.print(message, markup=False, highlight=False, soft_wrap=True)
    budget = options.budget or (QUICK_BUDGET if options.quick else BUDGET)
    record = journal.resumed(options.json, fresh(options, budget), same=SAME)
    with tempfile.TemporaryDirectory() as stored:
        todo = plan(
            [name for name in names if name not in missing],
            quick=options.quick,
            device=options.device,
            budget=budget,
            data=data,
            stored=Path(stored),
        )
        try:
            missing_packages = {package for package, message in absent.items() if message}
            fill(record, todo, missing_packages, options.json, console)
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from here" if options.json else "")
            return 130
    record["exponents"] = speed_report.exponents(record, "seconds")
    record["memory_exponents"] = speed_report.exponents(record, "megabytes")
    if record["exponents"]:
        console.print(speed_report.exponents_table(record))
    if several_cores(options.device):
        console.print(speed_report.cores_table(record))
    journal.save(options.json, record)
    if options.plot is not None:
        pictures.draw(record, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
