"""One cell of the benchmark: a method on a network with a batch, in a fresh process of its own.

Seconds: the first run warms up, then runs are repeated while the budget lasts, and the median
counts; a first run that is over the budget counts itself. A run whose calls together take longer
than the budget ends after the call that went over, and its time is extrapolated from the values
that it has given. A process that takes far longer is ended.

Memory: on the CPU the most that the process held, by /proc, in the first run less what it held
before; on a GPU torch's own peak, less what it held before.

Operations: of the matrix products, convolutions, factorisations and triangular solves that torch
dispatches, two for each multiplication with an addition; n³/3 for a Cholesky factor and n² for a
triangular solve with one right-hand side. Elementwise work and LP solvers' own is not counted. They
are counted in a run of their own, which is slow, and left out where it takes too long.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure.methods import METHODS
from benchmarks.measure.protocol import DTYPES, Method, Work
from benchmarks.measure.workloads import NETWORKS, Problem, Setting
from benchmarks.support import environment
from bounds.network.memory import free_memory

Entry = dict[str, Any]
#: A run is repeated so many times at most.
REPEATS = 7
#: How many seconds a process may take to get ready, how many budgets then for its entry, and how
#: many more for counting its operations.
READY, LIMIT, COUNTING = 60.0, 40, 10
#: How many of its values a cell keeps, for comparing it with others.
KEPT = 27
#: Characters of a refusal.
NOTE = 60
#: The share of the free memory that a cell may take; more would bring the machine down.
MEMORY_SHARE = 0.6
CHECKOUT = Path(__file__).resolve().parents[2]
CHOLESKY = torch.ops.aten.linalg_cholesky_ex
TRIANGULAR = torch.ops.aten.linalg_solve_triangular
#: What torch's own counter leaves out.
OPERATIONS = {
    CHOLESKY: lambda a, *_, **__: math.prod(a) * a[-1] // 3,
    TRIANGULAR: lambda a, b, *_, **__: math.prod(b) * a[-1],
    torch.ops.aten.mv: lambda a, *_, **__: 2 * math.prod(a),
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Which method on which network with what, and how it is measured.

    stored: the folder where the LPs of a network are kept while the benchmark runs.
    """

    network: str
    method: str
    setting: Setting
    device: str
    budget: float
    data: Path
    stored: Path

    @property
    def key(self) -> str:
        return f"{self.method} @ {self.setting}"

    def problem(self, method: Method) -> Problem:
        lps = replace(self.setting, cores=None)
        return NETWORKS[self.network].load(
            self.data,
            setting=self.setting,
            dtype=getattr(torch, DTYPES[method.task]),
            device=torch.device("cpu" if method.host else self.device),
            stored=self.stored / f"{self.network} @ {lps}.pt",
        )


@dataclass(frozen=True)
class Run:
    """Seconds and values of the calls of one run, and whether it got to the end."""

    seconds: float
    values: np.ndarray
    whole: bool


def run(work: Work, device: torch.device, budget: float) -> Run:
    seconds, values = 0.0, []
    for call in work.run():
        if seconds > budget:
            return Run(seconds, np.concatenate(values), False)
        environment.synchronise(device)
        start = time.perf_counter()
        values.append(call())
        environment.synchronise(device)
        seconds += time.perf_counter() - start
    return Run(seconds, np.concatenate(values), True)


def measure(cell: Cell) -> Iterator[Entry]:
    """The entry of a cell, in the process at hand, and again when its operations are counted."""
    method = METHODS[cell.method]
    problem = cell.problem(method)
    work = method.prepare(problem)
    yield {"note": f"over {LIMIT * cell.budget:g} s"}  # for the case that no other entry follows
    yield from measure_work(
        work,
        count=expected_values(method, problem),
        device=problem.centre.device,
        budget=cell.budget,
        dispatched=not method.host,
    )


def expected_values(method: Method, problem: Problem) -> int:
    """How many values a whole run gives: one for each input, or for each of its rows."""
    images = len(problem.centre)
    if method.task == "relax":
        return images
    C, _ = problem.specification.resolve(images, problem.network.output_shape, problem.centre)
    return math.prod(C.shape[:2])


def measure_work(
    work: Work, *, count: int, device: torch.device, budget: float, dispatched: bool
) -> Iterator[Entry]:
    """The entry, and once more with its operations where torch dispatches them."""
    with peak(device) as most:
        first = run(work, device, budget)
    times = [first.seconds]
    while first.whole and len(times) <= REPEATS and sum(times) < budget:
        times.append(run(work, device, math.inf).seconds)
    done = len(first.values)
    entry: Entry = {
        "seconds": statistics.median(times[1:] or times) * count / done,
        "runs": len(times[1:]) or 1,
        "solved": done,
        "of": count,
        "failed": int(np.isnan(first.values).sum()),
        "megabytes": most[0] / 2**20,
        "values": [None if math.isnan(value) else float(value) for value in first.values[:KEPT]],
    }
    if work.check is not None and first.whole:
        entry["at_their_bounds"] = work.check()
    yield entry
    if dispatched:
        with FlopCounterMode(display=False, custom_mapping=OPERATIONS) as counter:
            run(work, device, math.inf)
        yield {**entry, "operations": counter.get_total_flops()}


@contextmanager
def peak(device: torch.device) -> Iterator[list[float]]:
    """The bytes by which what is held grows meanwhile, in the list's first place at the end."""
    most = [math.nan]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = float(torch.cuda.memory_allocated(device))
        yield most
        most[0] = torch.cuda.max_memory_allocated(device) - before
        return
    status = Path("/proc/self/status")
    if status.exists():
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held now
    before = held(status)
    yield most
    most[0] = held(status) - before


def held(status: Path) -> float:
    """Bytes: the peak since it was last cleared; NaN where the system has no /proc."""
    if not status.exists():
        return math.nan
    return stated(status, "VmHWM")


def stated(status: Path, name: str) -> float:
    """Bytes, by the kernel's word."""
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * float(lines[name].split()[0])


def facts(cell: Cell) -> Iterator[Entry]:
    """What a network and its LPs are, with its first batch of either kind; the LPs are stored."""
    problem = cell.problem(METHODS[cell.method])
    nodes = problem.network.nodes
    yield {
        "parameters": sum(tensor.numel() for tensor in problem.network.parameters),
        "neurons": sum(math.prod(nodes[k].shape) for k in problem.network.relus),
        "unstable": list(problem.lps().unstable),
        "radius": problem.radius,
    }


# -- in a process of its own


def apart(function: Callable[[Cell], Iterator[Entry]], cell: Cell) -> Entry:
    """The last entry that the function gives in a new process, which is ended where the next takes
    too long."""
    _start_server()
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_answer, args=(function, cell, torch.get_num_threads(), sender), daemon=True
    )
    process.start()
    sender.close()
    entry, patience = {"note": f"not ready in {READY:g} s"}, READY
    try:
        while receiver.poll(patience):
            entry = receiver.recv()
            patience = cell.budget * (COUNTING if "seconds" in entry else LIMIT)
    except EOFError:  # it is done, or something ended it
        process.join()
        if process.exitcode and "seconds" not in entry:
            entry = {"note": f"ended with {process.exitcode}"}
    finally:
        process.kill()
        process.join()
        receiver.close()
    return entry


@cache
def _start_server() -> None:
    """The process that forks the others has imported everything once, and has run nothing."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["benchmarks.measure.preload"])
    paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    ours = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        # What peers warn of is theirs, and so are the semaphores of a process that was ended.
        "PYTHONWARNINGS": "ignore",
        # Importing auto_LiRPA asks for a GPU, and a driver that is awake cannot be forked.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    # Nor do they hear of an interruption: whoever waits for them does, and ends them.
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        resource_tracker.ensure_running()
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, heard)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _answer(
    function: Callable[[Cell], Iterator[Entry]], cell: Cell, threads: int, sender: Connection
) -> None:
    if cell.setting.cores is not None:
        threads = cell.setting.cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)
    if cell.device == "cpu":  # a GPU's driver reserves addresses without limit
        limit_memory(MEMORY_SHARE)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # auto_LiRPA prints
        try:
            for entry in function(cell):
                sender.send(entry)
        except Exception as refusal:  # a size limit, a layer, no memory: the cell says so
            said = str(refusal).split("\n")[0].split(";")[0][:NOTE]
            sender.send({"note": said or repr(refusal)})
    sender.close()


def limit_memory(share: float) -> None:
    """No more than what is held now and this share of what is free."""
    status = Path("/proc/self/status")
    if status.exists():
        most = int(stated(status, "VmData") + share * free_memory(torch.device("cpu")))
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
