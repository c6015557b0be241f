"""The matrix-free method: its LP, projections and step sizes; how it ends; parts and precisions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import bounds
import lp_reference
from bounds import Relaxation, ReluBounds, Specification, Status
from bounds.deadline import Deadline
from bounds.models import load_digits_images, load_digits_model
from bounds.solvers.goal import Goal
from bounds.solvers.interior_point.condense import condense
from bounds.solvers.pdhg import pdhg
from bounds.solvers.pdhg.matrix_free import MatrixFreeLP
from bounds.solvers.pdhg.step_sizes import StepSizes
from tests.support.networks import Dice, seeds
from tests.support.problems import NORMS, Problem, problems

#: How far below the LP optimum pdhg may be, and how far rounding may put it above, in units of
#: max(1, |LP|).
EXACTNESS, ROUNDING = 1e-6, 1e-9


@pytest.fixture(scope="module")
def digits() -> Relaxation:
    """Three inputs on the standard digits network, 9 rows each."""
    images, labels = load_digits_images()
    network = bounds.from_torch(
        load_digits_model("digits_standard"), (1, 8, 8), dtype=torch.float64
    )
    radius = torch.tensor([0.1, 0.01, 0.05], dtype=torch.float64)
    ball = bounds.Ball(images[:3].double(), radius=radius, lower=0.0, upper=1.0)
    return bounds.relax(network, ball, bounds.margins(labels[:3], 10)).double()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method by itself: slope ascent ends after an iteration."""

    def ascended(part: Relaxation, goal: Goal, _: int, deadline: Deadline, **options: bool) -> Any:
        return original(part, goal, 1, deadline, **options)

    original = pdhg.ascended
    monkeypatch.setattr(pdhg, "ascended", ascended)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of LPs that took each step from here on."""
    sizes: list[int] = []

    def step(lp: MatrixFreeLP, *args: Any) -> Tensor:
        sizes.append(lp.relaxation.d.numel())
        return original(lp, *args)

    original = pdhg._step
    monkeypatch.setattr(pdhg, "_step", step)
    return sizes


def random_point(lp: MatrixFreeLP, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, z and ν of every LP."""
    dice, (B, S) = Dice(seed), lp.relaxation.d.shape
    size, n = math.prod(lp.relaxation.network.input_shape), lp.unstable.shape[2]
    return dice.normal(B, S, size), dice.normal(B, S, n), dice.normal(B, S, n) * lp.unstable


# -- the optimum -----------------------------------------------------------------------------------


def solved(relaxation: Relaxation) -> bounds.Solution:
    """To the tolerance, or nearly: of some thousand drawn LPs one takes a first-order method more
    iterations than a test has time for."""
    solution = bounds.solve(relaxation, method="pdhg", iteration_limit=20_000)
    limited = solution.status == Status.ITERATION_LIMIT
    assert (limited | (solution.status == Status.OPTIMAL)).all(), (solution.status, solution.gap)
    assert (solution.relative_gap[limited] < 1e-2).all(), solution.relative_gap
    return solution


@settings(max_examples=max(40, settings().max_examples))
@given(problem=problems(norms=NORMS))
def test_dual_equals_lp_by_pdhg(problem: Problem) -> None:
    relaxation = problem.relax()
    solution = solved(relaxation)
    assert solution.method == "pdhg"
    referee = lp_reference.solve(relaxation)
    assert (referee.status == "optimal").all(), referee.status
    # The value of a conic solver is as exact as its gap; that of a simplex is.
    lp, slack = torch.from_numpy(referee.value), torch.from_numpy(referee.dual_value)
    unit = lp.abs().clamp(min=1)
    doubt = (lp - slack).abs() + ROUNDING * unit
    assert (doubt <= 1e-7 * unit).all(), doubt
    assert (solution.lower <= lp + doubt).all(), solution.lower - lp
    done = solution.status == Status.OPTIMAL
    assert (lp - solution.lower <= EXACTNESS * unit + doubt)[done].all(), lp - solution.lower
    assert (lp <= solution.upper + doubt).all(), lp - solution.upper


@given(problem=problems())
def test_pdhg_agrees_with_the_interior_point(problem: Problem) -> None:
    relaxation = problem.relax(intermediate="interval")
    exact = bounds.solve(relaxation, method="interior_point")
    solution = solved(relaxation)
    unit = exact.lower.abs().clamp(min=1)
    assert (solution.lower <= exact.upper + ROUNDING * unit).all()
    done = solution.status == Status.OPTIMAL
    assert (exact.lower - solution.lower <= EXACTNESS * unit)[done].all()
    assert (solution.upper >= exact.lower - ROUNDING * unit).all()


@given(problem=problems(norms=NORMS), seed=seeds)
def test_certificate_gives_the_bounds_again(problem: Problem, seed: int) -> None:
    relaxation = problem.relax()
    solution = bounds.solve(relaxation, method="pdhg", iteration_limit=seed % 50 + 1)
    assert torch.equal(solution.certificate.lower(relaxation), solution.lower)
    assert torch.equal(solution.certificate.upper(relaxation), solution.upper)


# -- the LP without matrices -----------------------------------------------------------------------


@given(problem=problems(norms=NORMS), seed=seeds)
def test_passes_are_adjoint(problem: Problem, seed: int) -> None:
    """⟨ν, A x + L z⟩ + ⟨c_x, x⟩ + ⟨c_z, z⟩ = ⟨c_x + Aᵀν, x⟩ + ⟨c_z + Lᵀν, z⟩."""
    lp = MatrixFreeLP.of(problem.relax())
    x, z, nu = random_point(lp, seed)
    C, none = lp.relaxation.C, torch.zeros_like(nu)
    linear = lp.forward(x, z) - lp.forward(torch.zeros_like(x), torch.zeros_like(z))
    (_, c_x, c_z), (_, on_x, on_z) = lp.backward(C, none), lp.backward(C, nu)
    left = (nu * linear).sum(-1) + (c_x * x).sum(-1) + (c_z * z).sum(-1)
    right = (on_x * x).sum(-1) + (on_z * z).sum(-1)
    scale = (nu * linear).abs().sum(-1) + (on_x * x).abs().sum(-1) + (on_z * z).abs().sum(-1)
    assert ((left - right).abs() <= 1e-12 * (scale + (c_x * x).abs().sum(-1) + 1)).all()


@given(problem=problems(), seed=seeds)
def test_it_is_the_condensed_lp(problem: Problem, seed: int) -> None:
    """The same dual function: d(ν) by passes, and by the matrices of the interior point."""
    relaxation = problem.relax()
    lp = MatrixFreeLP.of(relaxation)
    *_, nu = random_point(lp, seed)
    certificate = bounds.Certificate(lp.scatter(nu), torch.zeros(()), ())
    value, magnitude = lp.dual_value(lp.backward(relaxation.C, nu), nu)
    torch.testing.assert_close(value, certificate.lower(relaxation), rtol=1e-11, atol=1e-11)
    assert (value.abs() <= magnitude * (1 + 1e-12)).all()
    dense = condense(relaxation)
    unstable = sum(int(real.sum()) for _, real in dense.chosen)
    assert int(lp.unstable.sum()) == unstable


# -- projection onto triangles ---------------------------------------------------------------------


@given(st.floats(-3, -1e-3), st.floats(1e-3, 3), st.floats(0.01, 100), st.floats(0.01, 100), seeds)
def test_projection_is_the_nearest_point_of_the_triangle(
    low: float, high: float, step: float, step_z: float, seed: int
) -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    triangle = ReluBounds(low * one, high * one)
    given_points = Dice(seed).normal(2, 1, 200, 1) * 4
    steps = step * one.unsqueeze(0), step_z * one.unsqueeze(0)
    pre, post = triangle.project(given_points[0], given_points[1], steps)
    assert (post >= pre.clamp(min=0) - 1e-12).all()
    assert (post <= triangle.face(pre) + 1e-12).all()
    # ⟨p − projection, s − projection⟩ ≤ 0 in the metric for every point s, that is every vertex.
    for vertex, vertex_z in ((low, 0.0), (0.0, 0.0), (high, high)):
        along = (given_points[0] - pre) * (vertex - pre) / step
        along_z = (given_points[1] - post) * (vertex_z - post) / step_z
        assert (along + along_z <= 1e-9 * (1 / step + 1 / step_z)).all()


# -- step sizes ------------------------------------------------------------------------------------


@given(problem=problems(norms=NORMS, batch=st.just(1)))
def test_steps_make_the_scaled_matrix_no_longer_than_one(problem: Problem) -> None:
    lp = MatrixFreeLP.of(problem.relax())
    sizes = StepSizes.of(lp)
    n, d = lp.unstable.shape[2], math.prod(problem.network.input_shape)
    unit = torch.eye(d + n, dtype=torch.float64).unsqueeze(0)
    zero = torch.zeros_like(unit[:, :1])
    AL = lp.forward(unit[..., :d], unit[..., d:]) - lp.forward(zero[..., :d], zero[..., d:])
    K = torch.cat((AL[0].mT, -torch.eye(n, dtype=torch.float64)), 1)
    columns = torch.cat((sizes.x, sizes.z, sizes.pre), -1)[0, 0]
    scaled = K * columns.sqrt() * sizes.nu[0, 0].sqrt().unsqueeze(1)
    if n:
        assert torch.linalg.matrix_norm(scaled, 2) <= 1 + 1e-12
    assert (columns >= 0).all()
    assert torch.isfinite(columns).all()


def test_objective_units_do_not_matter(digits: Relaxation) -> None:
    """A thousandfold objective takes the same iterations: the primal weight follows its units."""
    scaled = replace(digits, C=1024 * digits.C, d=1024 * digits.d)
    one = bounds.solve(digits, method="pdhg", tolerance=1e-4)
    other = bounds.solve(scaled, method="pdhg", tolerance=1e-4)
    assert torch.equal(one.iterations, other.iterations)
    torch.testing.assert_close(1024 * one.lower, other.lower, rtol=1e-9, atol=1e-9)


# -- how a solve ends ------------------------------------------------------------------------------


def assert_valid(solution: bounds.Solution, relaxation: Relaxation) -> None:
    """Bounds between the fixed slope, where the method starts, and the optimum."""
    exact = bounds.solve(relaxation, method="interior_point")
    fixed = bounds.solve(relaxation, method="fixed_slope")
    slack = ROUNDING * exact.lower.abs().clamp(min=1)
    assert (solution.lower <= exact.upper + slack).all()
    assert (solution.lower >= fixed.lower - slack).all()
    assert (solution.upper >= exact.lower - slack).all()


def test_each_lp_stops_at_its_own_convergence(digits: Relaxation) -> None:
    solution = bounds.solve(digits, method="pdhg", tolerance=1e-4)
    assert (solution.status == Status.OPTIMAL).all()
    assert (solution.relative_gap <= 1e-4).all()
    assert len(solution.iterations.unique()) > 3
    assert_valid(solution, digits)


@pytest.mark.usefixtures("alone")
def test_converged_lps_leave_the_batch(digits: Relaxation, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = counted(monkeypatch)
    solution = bounds.solve(digits, method="pdhg", tolerance=1e-4)
    assert sizes[0] > 9
    assert sizes[-1] <= 9
    assert sum(sizes) < 27 * int(solution.iterations.max())


def test_it_begins_where_slope_ascent_ends(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which most LPs of a loose tolerance do not outlast, and some of a tight one."""
    sizes = counted(monkeypatch)
    loose = bounds.solve(digits, method="pdhg", tolerance=1e-3)
    assert (loose.status == Status.OPTIMAL).all()
    assert sum(sizes) == 0
    tight = bounds.solve(digits, method="pdhg", tolerance=1e-5)
    assert (tight.status == Status.OPTIMAL).all()
    assert 0 < sum(sizes) < int(tight.iterations.sum()) / 2
    assert_valid(tight, digits)


def test_a_tighter_tolerance_takes_more_iterations_and_gives_better_bounds(
    digits: Relaxation,
) -> None:
    loose = bounds.solve(digits, method="pdhg", tolerance=1e-2)
    tight = bounds.solve(digits, method="pdhg", tolerance=1e-5)
    assert (tight.iterations >= loose.iterations).all()
    assert tight.iterations.sum() > 2 * loose.iterations.sum()
    assert (tight.lower >= loose.lower - ROUNDING * loose.lower.abs()).all()
    assert (tight.relative_gap <= 1e-5).all()


@pytest.mark.usefixtures("alone")
def test_iteration_limit_is_said_and_bounds_stay_valid(digits: Relaxation) -> None:
    solution = bounds.solve(digits, method="pdhg", iteration_limit=30)
    assert (solution.status == Status.ITERATION_LIMIT).any()
    assert set(solution.status.unique().tolist()) <= {Status.OPTIMAL, Status.ITERATION_LIMIT}
    assert (solution.iterations <= 30).all()
    assert_valid(solution, digits)


def test_time_limit_is_said_and_bounds_stay_valid(digits: Relaxation) -> None:
    solution = bounds.solve(digits, method="pdhg", time_limit=1e-9)
    assert (solution.status == Status.TIME_LIMIT).any()
    assert_valid(solution, digits)


@pytest.mark.usefixtures("alone")
def test_useless_steps_end_at_the_limit(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdhg, "_step", lambda lp, sizes, w, weight: w * torch.nan)
    solution = bounds.solve(digits, method="pdhg", iteration_limit=40)
    monkeypatch.undo()
    assert (solution.status != Status.OPTIMAL).any()
    assert_valid(solution, digits)


def test_nan_weights_after_relaxing_are_never_verified(digits: Relaxation) -> None:
    broken = replace(digits, network=digits.network.convert(lambda tensor: tensor * torch.nan))
    solution = bounds.solve(broken, method="pdhg", iteration_limit=40)
    assert (solution.status == Status.NUMERICAL_ERROR).all()
    assert not solution.verified.any()


def test_a_network_without_unstable_neurons_needs_one_iteration(digits: Relaxation) -> None:
    point = bounds.Box(digits.input_set.lower, digits.input_set.lower)
    still = bounds.relax(digits.network, point, Specification(digits.C, digits.d))
    solution = bounds.solve(still, method="pdhg", sound=False)
    assert (solution.status == Status.OPTIMAL).all()
    assert (solution.iterations == 1).all()
    rows = (digits.C * digits.network(point.lower).unsqueeze(1)).sum(-1)
    torch.testing.assert_close(solution.lower, rows, rtol=1e-12, atol=1e-12)


# -- parts and precisions --------------------------------------------------------------------------


def test_parts_that_fit_in_memory_change_nothing(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bounds.solve(digits, method="pdhg", tolerance=1e-4)
    numbers, sizes = pdhg._numbers(digits), []

    def solve(part: Relaxation, *args: object) -> bounds.Solution:
        sizes.append(tuple(part.d.shape))
        return original(part, *args)

    original = pdhg._solve_together
    monkeypatch.setattr(pdhg, "_solve_together", solve)
    parts = bounds.solve(digits, method="pdhg", tolerance=1e-4, max_memory=8 * 5 * numbers)
    assert sizes == [(1, 5), (1, 4)] * 3
    assert (parts.status == Status.OPTIMAL).all()
    unit = whole.lower.abs().clamp(min=1)
    assert ((parts.lower - whole.lower).abs() <= 1e-4 * unit).all()


@pytest.mark.usefixtures("alone")
def test_float32_is_iterated_in_float32_and_certified_in_float64(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []

    def step(lp: MatrixFreeLP, sizes: StepSizes, w: Tensor, weight: Tensor) -> Tensor:
        seen.append(w.dtype)
        return original(lp, sizes, w, weight)

    original = pdhg._step
    monkeypatch.setattr(pdhg, "_step", step)
    # l and u that were rounded: points at their ends are feasible up to rounding only.
    single = digits.take(torch.tensor([0]), torch.tensor([[1, 2, 6]])).convert(Tensor.float)
    solution = bounds.solve(single, method="pdhg", tolerance=1e-6, sound=False)
    assert seen[0] == torch.float32
    assert seen[-1] == torch.float64
    assert seen == sorted(seen, key=lambda dtype: dtype != torch.float32)
    assert (solution.status == Status.OPTIMAL).all()
    assert solution.lower.dtype == torch.float64
    assert (solution.relative_gap <= 1e-6).all()
    assert_valid(solution, single.double())
