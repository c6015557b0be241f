"""`bounds check FOLDER`: all proofs of a data set, and which of its images they prove."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bounds.checker import ProofCheck, Rejection, check_proof
from bounds.checker.data_set import DataSetBalls
from bounds.checker.report import print_rejections
from bounds.cli.output import console_for, write_json
from bounds.cli.problem import load_model
from bounds.engines.choice import opened
from bounds.errors import InvalidInputError
from bounds.evaluation.data import read_data
from bounds.evaluation.normalised import normalised
from bounds.evaluation.radii import fractions_of
from bounds.network.graph import Network


def run_folder(options: argparse.Namespace) -> int:
    if options.vnnlib is not None or options.trust_bounds:
        raise InvalidInputError(
            f"--vnnlib and --trust-bounds go with one file, and {options.certificate!r} is a "
            "folder: check its files one by one."
        )
    files = sorted(Path(options.certificate).glob("*.safetensors"))
    if not files:
        raise InvalidInputError(
            f"{options.certificate!r} has no .safetensors file: give what bounds evaluate --proofs "
            "wrote."
        )
    network = normalised("bounds check", load_model(options), options.mean, options.std)
    balls = _balls(options, network)
    outcomes = _checked_again(
        files, ProvedAgain(network, options.precision, options.exact), options
    )
    rejections: list[tuple[str, Rejection]] = []
    cases = 0
    for file, outcome in zip(files, outcomes, strict=True):
        if isinstance(outcome, Rejection):
            rejections.append((file.name, outcome))
            continue
        rejections += [(file.name, each) for each in outcome.rejections]
        cases += len(outcome.cases)
        if balls is not None:
            balls.count(outcome.cases)
    console = console_for(highlight=False)
    proved = None if balls is None else _print_proved(balls, options.radius, console)
    print_rejections([f"{name}: {each}" for name, each in rejections], console)
    console.print(_summary(len(files), cases, len(rejections)), style="bold", soft_wrap=True)
    if options.json is not None:
        record = {
            "proofs": options.certificate,
            "model": options.model,
            "accepted": not rejections,
            "files": len(files),
            "cases": cases,
            "rejections": [
                {"file": name, "case": each.input, "reason": each.reason}
                for name, each in rejections
            ],
            "proved": proved,
        }
        write_json(options.json, record)
    return 1 if rejections else 0


@dataclass(frozen=True, eq=False)
class ProvedAgain:
    """What a process does with each file; called with its path."""

    network: Network
    precision: int
    exact: bool

    def __call__(self, file: Path) -> ProofCheck | Rejection:
        try:
            return check_proof(file, self.network, precision=self.precision, exact=self.exact)
        except InvalidInputError as error:
            return Rejection(str(error))


def _checked_again(
    files: Sequence[Path], work: ProvedAgain, options: argparse.Namespace
) -> list[ProofCheck | Rejection]:
    """What became of each file."""
    found: dict[Path, ProofCheck | Rejection] = {}
    columns = TextColumn("proving again"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    shown = Console(stderr=True)
    with (
        opened("bounds check", "processes", jobs=options.jobs) as engine,
        Progress(*columns, console=shown, disable=not sys.stderr.isatty()) as progress,
    ):
        bar = progress.add_task("", total=len(files))

        def done(file: Path, outcome: ProofCheck | Rejection | None) -> tuple[Path, ...]:
            lost = Rejection("the process that proved it was ended from outside, several times.")
            found[file] = outcome or lost
            progress.advance(bar)
            return ()

        engine.run(work, files, done)
    return [found[file] for file in files]


def _balls(options: argparse.Namespace, network: Network) -> DataSetBalls | None:
    """Of the data set, if there is one."""
    if options.data is None:
        for name in ("labels", "radius", "clip"):
            if getattr(options, name) is not None:
                raise InvalidInputError(f"--{name} goes with --data: give the images, too.")
        return None
    if options.radius is None:
        raise InvalidInputError("--radius is missing: give the radii that --data is about.")
    radii = fractions_of("bounds check", options.radius)
    options.radius = list(radii.values())
    data = read_data(options.data, options.labels, network.input_shape)
    low, high = options.clip or ((0.0, 1.0) if data.pixels else (None, None))
    images = data.images.flatten(1).numpy()
    return DataSetBalls(images, data.labels.numpy(), list(radii), low, high)


def _print_proved(
    balls: DataSetBalls, radii: list[str], console: Console
) -> list[dict[str, object]]:
    """A line a radius; and the same for --json."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("radius", "images proved", "of"):
        table.add_column(name, justify="right")
    counts = balls.proved.sum(1).tolist()
    for radius, count in zip(radii, counts, strict=True):
        table.add_row(radius, str(count), str(balls.proved.shape[1]))
    console.print(table)
    return [
        {"radius": radius, "images": own.nonzero()[0].tolist()}
        for radius, own in zip(radii, balls.proved, strict=True)
    ]


def _summary(files: int, cases: int, rejected: int) -> str:
    if rejected:
        return f"REJECTED: {rejected} {'claim does' if rejected == 1 else 'claims do'} not follow."
    return f"PROVED: what {files} {'file states' if files == 1 else 'files state'}; {cases} cases."
