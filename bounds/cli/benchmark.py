"""`bounds benchmark`: all instances of a folder of the competition VNN-COMP."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bounds.benchmark.comparison import compared, contradictions
from bounds.benchmark.instances import Instance, read_instances, shard
from bounds.benchmark.results import Result, read_results
from bounds.benchmark.run import run_instances
from bounds.benchmark.summary import print_summary, save_cactus
from bounds.cli.output import console_for
from bounds.cli.problem import require_writable
from bounds.engines.choice import opened
from bounds.engines.queue import Engine
from bounds.errors import InvalidInputError
from bounds.files import require_plot


def run(options: argparse.Namespace) -> int:
    if options.plot is not None:
        require_plot("--plot", options.plot)
    require_writable(options.plot)
    folder, output = Path(options.folder), Path(options.output)
    instances, table = read_instances(folder), "results.csv"
    if len({instance.name for instance in instances}) < len(instances):
        raise InvalidInputError(
            f"{options.folder!r} lists an instance twice, or two with files of the same names: "
            "rename one."
        )
    if options.shard is not None:
        number, count = _shard(options.shard)
        instances, table = shard(instances, number, count), f"results.{number}-of-{count}.csv"
        if not instances:
            raise InvalidInputError(f"--shard {options.shard!r} has no instances: take fewer.")
    theirs = None if options.against is None else read_results(options.against)
    with opened("benchmark", options.engine, jobs=options.jobs, address=options.address) as engine:
        results = _run(folder, instances, output, table, engine)
    console = console_for(highlight=False)
    print_summary(instances, results, console)
    if options.plot is not None:
        save_cactus(results, options.plot)
    if theirs is None:
        return 0
    return _compare(options, instances, results, theirs, console)


def _run(
    folder: Path, instances: Sequence[Instance], output: Path, table: str, engine: Engine
) -> list[Result]:
    columns = (
        TextColumn("{task.description}"),
        *(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task, solved = progress.add_task("0 solved", total=len(instances)), 0

        def done(result: Result) -> None:
            nonlocal solved
            solved += result.solved
            progress.update(task, advance=1, description=f"{solved} solved")

        return run_instances(folder, instances, output, engine, table=table, done=done)


def _compare(
    options: argparse.Namespace,
    instances: Sequence[Instance],
    results: Sequence[Result],
    theirs: Sequence[Result],
    console: Console,
) -> int:
    pairs = compared(results, theirs)
    agreed = sum(one.solved and one.verdict == two.verdict for one, two in pairs)
    ours = sum(one.solved and not two.solved for one, two in pairs)
    missed = sum(two.solved and not one.solved for one, two in pairs)
    found = contradictions(
        Path(options.folder),
        instances,
        pairs,
        own=Path(options.output) / "instances",
        other=Path(options.against).parent,
    )
    console.print(
        f"{options.against}: {len(pairs)} instances in both, {agreed} agreements, {ours} solved "
        f"here alone, {missed} there alone, {len(found)} contradictions.",
        soft_wrap=True,
    )
    for one in found:
        console.print(
            f"  {one.ours.model}, {one.ours.query}: here {one.ours.verdict}, there "
            f"{one.theirs.verdict}; right is {one.judgement}.",
            style="red",
            soft_wrap=True,
        )
    return 1 if found else 0


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InvalidInputError(f"--shard is {text!r}, expected I/N with 1 ≤ I ≤ N, such as 2/4.")
    return int(match[1]), int(match[2])
