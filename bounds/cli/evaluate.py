"""`bounds evaluate`: a network on a whole data set, at several radii."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bounds.cli.output import console_for, write_json
from bounds.cli.problem import load_model, require_writable
from bounds.errors import InvalidInputError
from bounds.evaluation.data import read_data
from bounds.evaluation.evaluate import evaluate
from bounds.evaluation.run import Progress as Reached
from bounds.evaluation.run import Watch
from bounds.evaluation.tables import evaluation_csv, evaluation_json, print_evaluation
from bounds.files import write_file


def run(options: argparse.Namespace) -> int:
    require_writable(options.json, options.csv, options.results)
    shard = None if options.shard is None else _shard(options.shard)
    console = console_for(highlight=False)
    network = load_model(options)
    data = read_data(options.data, options.labels, network.input_shape)
    low, high = options.clip or ((0.0, 1.0) if data.pixels else (None, None))
    box = "no box" if low is None else f"within [{low:g}, {high:g}]"
    console.print(f"{len(data.images)} images, {box}", soft_wrap=True)
    try:
        with _shown(console) as watch:
            evaluation = evaluate(
                network,
                data.images,
                data.labels,
                radii=options.radius,
                norm=options.norm,
                lower=low,
                upper=high,
                mean=options.mean,
                std=options.std,
                timeout=options.timeout,
                method=options.method,
                seed=options.seed,
                jobs=options.jobs,
                engine=options.engine,
                address=options.address,
                shard=shard,
                results=options.results,
                proofs=options.proofs,
                names=data.names,
                title=f"{options.model} on {options.data}",
                watch=watch,
            )
    except KeyboardInterrupt:
        kept = (
            "without --results, nothing is kept"
            if options.results is None
            else f"all results until now are in {options.results}; the same command goes on from "
            "there"
        )
        print(f"bounds evaluate: interrupted, {kept}.", file=sys.stderr)
        return 130
    print_evaluation(evaluation, console)
    if options.json is not None:
        stated = {"model": options.model, "data": options.data, "norm": str(options.norm)}
        write_json(options.json, {**stated, "clip": [low, high], **evaluation_json(evaluation)})
    if options.csv is not None:
        write_file(options.csv, evaluation_csv(evaluation))
    return 1 if evaluation.lost else 0


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if found is None:
        raise InvalidInputError(f"--shard got {text!r}, expected I/N, such as 1/4.")
    return int(found[1]), int(found[2])


@contextlib.contextmanager
def _shown(console: Console) -> Iterator[Watch]:
    """The clean accuracy, as soon as it is known; then how far it is, where that is seen."""
    count = {"proved": 0, "attacked": 0, "open": 0}
    first: list[int] = []
    progress = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )

    def watch(reached: Reached) -> None:
        if not first:
            first.append(reached.done)
            share = 100 * reached.right / reached.inputs
            console.print(
                f"clean accuracy: {reached.right} of {reached.inputs} images, {share:.2f} %"
            )
            if reached.warning is not None:
                print(f"bounds evaluate: warning: {reached.warning}", file=sys.stderr)
            progress.update(task, completed=reached.done, total=reached.total)
        for result in reached.results:
            if result.status != "wrong":
                count[result.status] += 1
        seconds = progress.tasks[0].elapsed or 0.0
        rate = (reached.done - first[0]) / seconds if seconds else 0.0
        progress.update(
            task,
            completed=reached.done,
            rate=f"{rate:.1f}/s",
            description=", ".join(f"{number} {status}" for status, number in count.items()),
        )

    with progress:
        task = progress.add_task("", total=None, rate="")
        yield watch
