"""A cell of the speed benchmark measures what it says, and peers find what we find."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.measure import cells, peers
from benchmarks.measure.cells import Cell, Entry
from benchmarks.measure.methods import METHODS
from benchmarks.measure.modules import Model
from benchmarks.measure.protocol import Call, Work, at_once
from benchmarks.measure.workloads import Setting
from tests.support.layers import Conv, Dense, Flatten, Relu, Residual
from tests.support.networks import Architecture
from tests.support.timing import cell, problem, without_a_limit

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that goes on only when it is told to."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def timed(clock: Callable[[float], None], *seconds: float) -> Work:
    """Runs of one call for each of these; what happens between calls takes an hour."""

    def call(each: float) -> np.ndarray:
        clock(each)
        return np.array([each, np.nan])

    def run() -> Iterator[Call]:
        for each in seconds:
            clock(3600.0)
            yield partial(call, each)

    return Work(run=run)


def measured(work: Work, count: int, *, budget: float, dispatched: bool = False) -> list[Entry]:
    return list(
        cells.measure_work(work, count=count, device=CPU, budget=budget, dispatched=dispatched)
    )


def test_seconds_are_of_calls_alone_and_extrapolated(clock: Callable[[float], None]) -> None:
    (whole,) = measured(timed(clock, 1.0, 2.0), 4, budget=2.5)
    assert (whole["seconds"], whole["solved"], whole["of"], whole["failed"]) == (3.0, 4, 4, 2)
    assert whole["values"] == [1.0, None, 2.0, None]
    (part,) = measured(timed(clock, 1.0, 2.0, 9.0), 6, budget=2.5)
    assert (part["seconds"], part["solved"], part["runs"]) == (4.5, 4, 1)


def test_the_median_counts_and_the_first_run_does_not(clock: Callable[[float], None]) -> None:
    lengths = iter([5.0, 1.0, 2.0, 1.5, *[100.0] * 10])

    def call() -> np.ndarray:
        clock(next(lengths))
        return np.zeros(1)

    (entry,) = measured(Work(run=lambda: iter([call])), 1, budget=9.2)
    assert (entry["seconds"], entry["runs"]) == (1.5, 3)


def test_operations_are_counted() -> None:
    matrix = torch.eye(60, dtype=torch.float64)

    def call() -> torch.Tensor:
        product = matrix @ matrix
        factor = torch.linalg.cholesky_ex(product)[0]
        torch.linalg.solve_triangular(factor, matrix[:, :7], upper=False)
        return torch.mv(matrix, matrix[0])

    *_, entry = measured(at_once(call), 60, budget=0.01, dispatched=True)
    assert entry["operations"] == 2 * 60**3 + 60**3 // 3 + 7 * 60**2 + 2 * 60**2


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc")
def test_memory_is_what_the_run_added() -> None:
    held = torch.ones(50 * 2**17, dtype=torch.float64)
    (entry,) = measured(at_once(lambda: (held + 1).sum()), 1, budget=0.01)
    assert 45 < entry["megabytes"] < 70


def answers(cell: Cell) -> Iterator[Entry]:
    yield {"seconds": 1.0}
    os._exit(3)  # while its operations are counted


def dies(cell: Cell) -> Iterator[Entry]:
    os._exit(3)
    yield {}


def sleeps(cell: Cell) -> Iterator[Entry]:
    yield {"note": "over its time"}
    time.sleep(600)
    yield {"note": "nobody ended it"}


def refuses(cell: Cell) -> Iterator[Entry]:
    raise ValueError("no such thing; at all")
    yield {}


@pytest.mark.parametrize(
    ("function", "entry"),
    [
        (answers, {"seconds": 1.0}),
        (dies, {"note": "ended with 3"}),
        (sleeps, {"note": "over its time"}),
        (refuses, {"note": "no such thing"}),
    ],
)
def test_a_process_may_end_in_any_way(
    function: Callable[[Cell], Iterator[Entry]], entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_a_limit(monkeypatch)
    if function is sleeps:
        monkeypatch.setattr(cells, "LIMIT", 1)
    assert cells.apart(function, cell()) == entry


def counts(cell: Cell) -> Iterator[Entry]:
    yield {"threads": torch.get_num_threads(), "processors": len(os.sched_getaffinity(0))}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity")
def test_on_one_core_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    without_a_limit(monkeypatch)
    found = cells.apart(counts, cell(setting=Setting(batch=1, cores=1)))
    assert found == {"threads": 1, "processors": 1}


# -- the peers


def test_a_residual_network_is_the_same_module() -> None:
    conv = Conv(2, (3, 3), (1, 1), (1, 1), (1, 1), 1)
    layers = (conv, Relu(), Residual((conv, Relu(), conv)), Relu(), Flatten(), Dense(3))
    network = Architecture((2, 4, 4), layers, seed=3).network()
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(Model(network)(x), network(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("bound: convex_adversarial", "convex_adversarial"),
        ("bound: auto_LiRPA CROWN", "auto_LiRPA"),
    ],
)
def test_peers_find_our_bounds_from_the_same_l_and_u(method: str, package: str) -> None:
    if message := peers.absent(package):
        pytest.skip(message)
    check = METHODS[method].prepare(problem(torch.float64)).check
    assert check is not None
    assert check() < 1e-12
    check = METHODS[method].prepare(problem(torch.float32)).check
    assert check is not None
    assert 0 < check() < 1e-4


def test_ours_and_theirs_are_the_same_in_float64() -> None:
    """Fixed slopes over their own l and u, rounding and all."""
    if message := peers.absent("convex_adversarial"):
        pytest.skip(message)
    ours, theirs = (
        next(METHODS[method].prepare(problem(torch.float64)).run())()
        for method in ("bound: fixed slope", "bound: convex_adversarial")
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_alpha_crown_keeps_our_l_and_u() -> None:
    if message := peers.absent("auto_LiRPA"):
        pytest.skip(message)
    given = problem(torch.float64)
    work = METHODS["solve: auto_LiRPA α-CROWN, 100 steps"].prepare(given)
    value = next(work.run())()
    exact = next(METHODS["solve: exact"].prepare(given).run())()
    assert (value <= exact + 1e-9).all()
    assert (value >= exact - 0.01).all()
    assert given.model is not None
    assert not any(tensor.requires_grad for tensor in given.model.parameters())
