"""All instances of a benchmark, and the files that say what became of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from bounds.benchmark.instance_run import Answer, Runs
from bounds.benchmark.instances import Instance
from bounds.benchmark.results import Result, read_results, write_results
from bounds.engines.queue import TRIES, Engine
from bounds.errors import InvalidInputError
from bounds.files import write_file

Done = Callable[[Result], None]
#: Of an instance that was given up.
LOST = Answer(
    "error", 0.0, f"error\nprocesses were ended from outside over it, {TRIES} times".encode()
)


def run_instances(
    folder: Path,
    instances: Sequence[Instance],
    output: Path,
    engine: Engine,
    *,
    table: str = "results.csv",
    done: Done = lambda result: None,
) -> list[Result]:
    """The results of all instances, in their order; those that output/table has are not run again,
    but for errors. done: is told each result, those that are there already first.

    Raises InvalidInputError where the output cannot be written.
    """
    files = output / "instances"
    try:
        files.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"cannot make the folder {os.fspath(files)!r} ({error.strerror}): choose another."
        ) from error
    known = read_results(output / table) if (output / table).exists() else []
    results: dict[Instance, Result] = {}
    for instance in instances:
        for result in known:
            if result.of(instance) and result.verdict != "error":
                results[instance] = result
    for result in results.values():
        done(result)
    left = [instance for instance in instances if instance not in results]
    category = folder.resolve().name

    def finished(instance: Instance, answer: Answer | None) -> tuple[()]:
        found = answer or LOST
        write_file(files / f"{instance.name}.txt", found.content)
        result = Result(category, instance.model, instance.query, found.verdict, found.seconds)
        results[instance] = result
        write_results(output / table, (results[i] for i in instances if i in results))
        done(result)
        return ()

    engine.run(Runs(folder.resolve()), left, finished)
    return [results[instance] for instance in instances]
