"""Runs instances, each as `bounds verify` in a process of its own, with a timeout of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from bounds.benchmark.instances import Instance, existing
from bounds.benchmark.results import VERDICTS, Result, read_results, write_results
from bounds.errors import InvalidInputError
from bounds.files import write_file

#: Seconds after its timeout in which a process may still write what it found.
GRACE = 5.0

Done = Callable[[Result], None]
Process = subprocess.Popen[str]
Started = Callable[[Process], None]


def run_instance(
    folder: Path, instance: Instance, output: Path, started: Started = lambda process: None
) -> Result:
    """output: the folder of result files, each with the verdict and, after "sat", the assignment;
    after "error" with what the process said. started: is told the process."""
    target = output / f"{instance.name}.txt"
    target.unlink(missing_ok=True)
    model, query = (existing(folder, name) for name in (instance.model, instance.query))
    command = [sys.executable, "-m", "bounds", "verify", os.fspath(query)]
    command += ["--network", f"./{model}" if not model.is_absolute() else os.fspath(model)]
    command += ["--timeout", repr(instance.timeout), "--result", os.fspath(target)]
    start, late = time.monotonic(), False
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # to end whatever it starts with it
    )
    started(process)
    try:
        _, said = process.communicate(timeout=instance.timeout + GRACE)
    except subprocess.TimeoutExpired:
        said, late = "", True
    finally:
        _end(process)
        process.wait()
    seconds = time.monotonic() - start
    verdict = _verdict(target)
    if verdict is None:
        # One that gave up by itself has written nothing either, and ends with 0.
        verdict = "timeout" if late or process.returncode == 0 else "error"
        said = said.strip() or f"the process ended with {process.returncode}"
        write_file(target, "\n".join([verdict, said] if verdict == "error" else [verdict]).encode())
    return Result(folder.resolve().name, instance.model, instance.query, verdict, seconds)


def _end(process: Process) -> None:
    """And whatever it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def _verdict(path: Path) -> str | None:
    try:
        with open(path) as stream:
            word = stream.readline().strip()
    except OSError:
        return None
    return word if word in VERDICTS else None


def run_instances(
    folder: Path,
    instances: Sequence[Instance],
    output: Path,
    *,
    table: str = "results.csv",
    jobs: int = 1,
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
    processes: list[Process] = []
    left = [instance for instance in instances if instance not in results]
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        running = {
            pool.submit(run_instance, folder, one, files, processes.append): one for one in left
        }
        try:
            for future in as_completed(running):
                results[running[future]] = future.result()
                write_results(output / table, (results[i] for i in instances if i in results))
                done(results[running[future]])
        except BaseException:  # Ctrl-C, too: nothing goes on behind the user's back
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                _end(process)
            raise
    return [results[instance] for instance in instances]
