"""The simplex method beyond exactness: how it ends, and that what HiGHS says is never believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

import bounds
import lp_reference
from bounds import Relaxation, Status
from bounds.models import load_digits_images, load_digits_model
from bounds.solvers.interior_point.condense import condense
from bounds.solvers.interior_point.newton import NewtonSystem
from bounds.solvers.simplex import simplex
from bounds.solvers.simplex.warm import Ending, Vertex, WarmLP
from tests.support.problems import Problem, problems


@pytest.fixture(scope="module")
def digits() -> Relaxation:
    """Four inputs of different sizes on the standard digits network, 9 rows each."""
    images, labels = load_digits_images()
    network = bounds.from_torch(
        load_digits_model("digits_standard"), (1, 8, 8), dtype=torch.float64
    )
    radius = torch.tensor([0.1, 0.01, 0.05, 0.3], dtype=torch.float64)
    ball = bounds.Ball(images[:4].double(), radius=radius, lower=0.0, upper=1.0)
    return bounds.relax(network, ball, bounds.margins(labels[:4], 10)).double()


@pytest.fixture(autouse=True)
def by_highs(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the LPs are."""
    monkeypatch.setattr(simplex, "together", lambda *_: False)


def solve(relaxation: Relaxation, **options: Any) -> bounds.Solution:
    return bounds.solve(relaxation, method="simplex", **options)


def assert_valid(solution: bounds.Solution, relaxation: Relaxation) -> None:
    """Bounds between the fixed slope, where the method starts, and the optimum."""
    exact = bounds.solve(relaxation, method="interior_point")
    fixed = bounds.solve(relaxation, method="fixed_slope")
    slack = 1e-9 * exact.lower.abs().clamp(min=1)
    assert (solution.lower <= exact.upper + slack).all()
    assert (solution.lower >= fixed.lower - slack).all()
    assert (solution.upper >= exact.lower - slack).all()


def ending(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let HiGHS end as `change` makes of the vertex."""
    original = WarmLP.run
    monkeypatch.setattr(WarmLP, "run", lambda self, **limits: change(original(self, **limits)))


# -- how a solve ends ------------------------------------------------------------------------------


def test_every_lp_is_solved_to_its_gap(digits: Relaxation) -> None:
    solution = solve(digits)
    assert (solution.status == Status.OPTIMAL).all()
    assert (solution.relative_gap <= 1e-9).all()
    assert solution.method == "simplex"
    assert_valid(solution, digits)


def test_the_pivots_that_are_left_are_those_of_the_limit(digits: Relaxation) -> None:
    pivots = solve(digits).iterations
    part = solve(digits, iteration_limit=5)
    assert (part.iterations <= 5).all()
    assert (part.status == Status.ITERATION_LIMIT)[pivots > 100].all()
    assert set(part.status.unique().tolist()) <= {Status.OPTIMAL, Status.ITERATION_LIMIT}
    assert_valid(part, digits)


def test_highs_gets_what_is_left_of_the_time(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_: list[float | None] = []
    original = WarmLP.run

    def run(self: WarmLP, **limits: Any) -> Vertex:
        given_.append(limits["seconds"])
        return original(self, **{**limits, "seconds": 0.0})

    monkeypatch.setattr(WarmLP, "run", run)
    solve(digits, time_limit=1e4)
    assert all(seconds is not None and 0 < seconds <= 1e4 for seconds in given_)
    given_.clear()
    solve(digits)
    assert set(given_) == {None}


def test_a_run_ends_with_its_time(digits: Relaxation) -> None:
    """HiGHS adds the time of all runs up: a second run has its own."""
    lp = condense(digits)
    assert lp is not None
    warm = WarmLP(lp, 3)
    warm.minimise(lp.c_b[3, 0].numpy(), lp.c_z[3, 0].numpy())
    assert warm.run(seconds=0.0).ending is Ending.TIME_LIMIT
    assert warm.run(seconds=1e4).ending is Ending.OPTIMAL
    warm.minimise(lp.c_b[3, 1].numpy(), lp.c_z[3, 1].numpy())
    assert warm.run(pivots=1).ending is Ending.ITERATION_LIMIT


def test_signs_end_where_they_are_proved(digits: Relaxation) -> None:
    exact = solve(digits)
    size = exact.lower.abs().amax()
    above = replace(digits, d=digits.d - exact.lower + size / 10)
    signs = solve(above, sign_only=True)
    assert (signs.status == Status.SIGN).any()
    assert (signs.lower > 0).all()
    assert signs.iterations.sum() < solve(above).iterations.sum()


def test_a_sign_that_highs_claims_is_proved_or_looked_for_again(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claims(vertex: Vertex) -> Vertex:
        return replace(vertex, ending=Ending.ABOVE, nu=0 * vertex.nu, objective=1e9)

    exact = bounds.solve(digits, method="interior_point")
    ending(monkeypatch, claims)
    signs = solve(digits, sign_only=True)
    assert ((signs.lower > 0) == (exact.lower > 0)).all()


# -- whatever HiGHS says ---------------------------------------------------------------------------


def wrong(vertex: Vertex) -> Vertex:
    """It calls multipliers optimal that are not."""
    return replace(vertex, ending=Ending.OPTIMAL, nu=3 * vertex.nu + 1, z=0 * vertex.z)


def nothing(vertex: Vertex) -> Vertex:
    nan = np.nan
    return Vertex(
        Ending.UNKNOWN,
        nan * vertex.nu,
        vertex.weights,
        None,
        nan * vertex.b,
        nan * vertex.z,
        nan,
        vertex.pivots,
    )


@pytest.mark.parametrize("change", [wrong, nothing])
def test_what_highs_leaves_open_goes_to_the_interior_point(
    change: Any, digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = solve(digits)
    ending(monkeypatch, change)
    solution = solve(digits)
    assert (solution.status == Status.OPTIMAL).all()
    torch.testing.assert_close(solution.lower, exact.lower, rtol=1e-8, atol=1e-8)
    assert solution.method == "simplex"


def test_a_run_that_is_stuck_ends(digits: Relaxation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simplex, "STUCK", 0)
    solution = solve(digits)
    assert (solution.status == Status.OPTIMAL).all()
    assert (solution.iterations < 50).all()  # Newton steps


def test_an_lp_that_the_first_run_leaves_open_is_solved_again_from_nothing(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = solve(digits)
    original, seen = WarmLP.run, []

    def run(self: WarmLP, **limits: Any) -> Vertex:
        vertex = original(self, **limits)
        seen.append(limits["tolerance"])
        return nothing(vertex) if limits["tolerance"] == 1e-7 else vertex

    monkeypatch.setattr(WarmLP, "run", run)
    monkeypatch.setattr(simplex, "as_rows", None)  # the interior point is not needed
    solution = solve(digits)
    torch.testing.assert_close(solution.lower, exact.lower, rtol=1e-8, atol=1e-8)
    assert set(seen) == {1e-7, 1e-10}


def test_where_all_breaks_down_the_bounds_are_valid(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        ending(patch, nothing)
        patch.setattr(NewtonSystem, "solve", lambda self, r, *, refine: torch.full_like(r, np.nan))
        solution = solve(digits)
    assert (solution.status == Status.NUMERICAL_ERROR).any()
    assert set(solution.status.unique().tolist()) <= {Status.OPTIMAL, Status.NUMERICAL_ERROR}
    assert_valid(solution, digits)
    assert not solution.verified[(solution.status == Status.NUMERICAL_ERROR).any(1)].any()


def test_nan_weights_are_never_verified(digits: Relaxation) -> None:
    broken = Relaxation(
        digits.network.convert(lambda tensor: tensor * torch.nan),
        digits.input_set,
        digits.C,
        digits.d,
        digits.relu_bounds,
    )
    solution = solve(broken)
    assert (solution.status == Status.NUMERICAL_ERROR).all()
    assert not solution.verified.any()


# -- the same LPs ----------------------------------------------------------------------------------


@given(problem=problems())
def test_warm_is_cold(problem: Problem) -> None:
    """Rows one after the other, and each from nothing: the same optima as the referee's."""
    relaxation = problem.relax().double()
    lp = condense(relaxation)
    assert lp is not None
    optimum = lp_reference.solve(relaxation).dual_value
    for image in range(len(lp.e)):
        warm = WarmLP(lp, image)
        for row in range(lp.c_b.shape[1]):
            warm.minimise(lp.c_b[image, row].numpy(), lp.c_z[image, row].numpy())
            first = warm.run().objective + float(lp.c_0[image, row])
            warm.forget()
            cold = warm.run().objective + float(lp.c_0[image, row])
            unit = 1 + abs(optimum[image, row])
            assert abs(first - cold) <= 1e-6 * unit
            assert abs(first - optimum[image, row]) <= 1e-6 * unit


def test_a_row_takes_fewer_pivots_from_its_own_vertex_than_from_that_of_the_row_before(
    digits: Relaxation,
) -> None:
    lp = condense(digits)
    assert lp is not None
    from_before = 0
    for image in range(4):
        warm = WarmLP(lp, image)
        for c_b, c_z in zip(lp.c_b[image].numpy(), lp.c_z[image].numpy(), strict=True):
            warm.minimise(c_b, c_z)
            from_before += warm.run().pivots
    assert int(solve(digits).iterations.sum()) < from_before / 2


def test_scales_of_rows_and_networks_do_not_matter(digits: Relaxation) -> None:
    """HiGHS drops what is below 1e-9, and its tolerances are absolute."""
    whole = solve(digits)
    small = replace(digits, C=1e-9 * digits.C, d=1e-9 * digits.d)
    solution = solve(small)
    assert (solution.status == Status.OPTIMAL).all()
    torch.testing.assert_close(solution.lower, 1e-9 * whole.lower, rtol=1e-8, atol=1e-18)


def test_certificates_are_proved_again(tmp_path: Path) -> None:
    pytest.importorskip("flint")
    images, labels = load_digits_images()
    model = load_digits_model("digits_robust")
    network = bounds.from_torch(model, (1, 8, 8), dtype=torch.float64)
    ball = bounds.Ball(images[:2].double(), radius=0.05, lower=0.0, upper=1.0)
    solution = solve(bounds.relax(network, ball, bounds.margins(labels[:2], 10)))
    path = tmp_path / "proof.safetensors"
    solution.certificate.save(path)
    report = bounds.check(path, network)
    assert report.accepted
