"""The true minimum: against integer programs, as an interval however it ends."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import bounds
import lp_reference
from bounds import InvalidInputError, deadline
from bounds.certification import minimum as module
from bounds.search.search import Search
from tests.support.problems import Problem, points, problems
from tests.support.referee import random_net
from tests.support.refusals import refused

METHODS = ("input_split", "relu_split")


@settings(max_examples=settings().max_examples // 3)
@given(problems(batch=st.just(1)), st.sampled_from(METHODS))
def test_the_interval_holds_the_minimum(problem: Problem, method: str) -> None:
    if method == "input_split":
        assume(problem.norm == math.inf and math.prod(problem.architecture.input_shape) <= 4)
    relaxation = problem.relax(slope="adaptive")
    assume(max(relaxation.unstable) <= 14)
    found = bounds.minimum(
        problem.network,
        problem.ball,
        problem.specification,
        tolerance=1e-4,
        method=method,  # type: ignore[arg-type]
    )
    least = torch.from_numpy(lp_reference.solve(relaxation, milp=True).value)
    slack = 1e-6 * relaxation.scale().detach().clamp(min=1e-6)
    assert (found.lower <= least + slack).all()
    assert (found.upper >= least - slack).all()
    assert found.closed.all()
    assert (found.gap <= 1e-4 * least.abs().clamp(min=1) + slack).all()
    # The upper end is attained in the set.
    values = torch.einsum(
        "bso,bso->bs",
        problem.network(found.x.flatten(0, 1)).detach().reshape(*least.shape, -1),
        relaxation.C.flatten(2),
    )
    assert torch.allclose(values + relaxation.d, found.upper, atol=1e-7, rtol=1e-7)
    x = points(relaxation.input_set, 32)
    outputs = problem.network(x.flatten(0, 1)).detach().reshape(*x.shape[:2], -1)
    rows = outputs @ relaxation.C.flatten(2).mT + relaxation.d.unsqueeze(1)
    assert (rows >= found.lower.unsqueeze(1)).all()


def question() -> tuple[bounds.Network, bounds.Ball, bounds.Specification]:
    """A network of two hidden layers, whose LP is far from its minimum."""
    ball = bounds.Ball(torch.zeros(1, 4).double(), radius=1.0)
    return random_net(4, 12, 12, 1, seed=5), ball, bounds.Specification(torch.ones(1, 1).double())


@pytest.mark.parametrize("method", METHODS)
def test_the_lower_end_is_proved_again(tmp_path: Path, method: str) -> None:
    network, ball, rows = question()
    both = bounds.Specification(torch.tensor([[1.0], [-1.0]]).double())
    path = tmp_path / "both.safetensors"
    found = bounds.minimum(network, ball, both, method=method, proof=path)  # type: ignore[arg-type]
    proved = bounds.check_proof(path, network)
    assert proved.accepted, proved.rejections
    assert len(proved.cases) == 2
    with safe_open(path, "numpy") as file:
        taken = file.get_tensor("row.d")
    assert np.allclose(-taken, found.lower[0], atol=1e-9)
    refused(
        lambda: bounds.minimum(network, replace(ball, norm=1), rows, proof=path),
        InvalidInputError,
        "boxes",
    )


@pytest.mark.parametrize("method", METHODS)
def test_without_time_the_interval_is_that_of_the_lp(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    network, ball, rows = question()
    clock = iter(range(10_000))
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    found = bounds.minimum(network, ball, rows, time_limit=20, method=method)  # type: ignore[arg-type]
    assert not found.closed.any()
    assert found.lower < found.upper < math.inf


def test_a_watch_is_told_of_rows() -> None:
    told: list[tuple[int, int, Search]] = []
    network, ball, rows = question()
    found = bounds.minimum(
        network, ball, rows, watch=lambda i, row, search: told.append((i, row, search)),
        method="relu_split", tolerance=0.1,
    )  # fmt: skip
    assert {(i, row) for i, row, _ in told} == {(0, 0)}
    assert int(found.domains) >= len(told) > 1


def test_searches_that_end_without_an_answer_leave_the_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[float] = []

    def nothing(self: object, threshold: float, _: object) -> bool:
        tried.append(threshold)
        return False

    monkeypatch.setattr(module._Row, "_excluded", nothing)
    found = bounds.minimum(*question())
    assert len(tried) == module.PATIENCE
    assert not found.closed.any()
    assert found.lower < found.upper < math.inf


def test_a_solve_that_breaks_down_leaves_no_lower_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "trusted", lambda solution: torch.full_like(solution.lower, -math.inf)
    )
    found = bounds.minimum(*question())
    assert not found.closed.any()
    assert (found.lower == -math.inf).all()


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        ({"tolerance": 0.0}, ("tolerance", "positive")),
        ({"tolerance": math.nan}, ("tolerance", "positive")),
        ({"time_limit": -1.0}, ("time_limit", "positive")),
        ({"method": "exact"}, ("method='exact'", "'relu_split'")),
        ({"seed": -1}, ("seed", "-1")),
    ],
)
def test_bad_options(options: dict[str, object], fragments: tuple[str, ...]) -> None:
    refused(lambda: bounds.minimum(*question(), **options), InvalidInputError, *fragments)  # type: ignore[arg-type]
