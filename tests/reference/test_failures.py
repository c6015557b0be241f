"""How the referee fails: no number, no silence; and how good its numbers are."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from typing import Any

import clarabel
import cvxpy as cp
import highspy
import numpy as np
import pytest
import torch
from torch import nn

import bounds
import lp_reference
from lp_reference import solvers
from lp_reference.quiet import quiet_highs
from tests.support.rational import linear
from tests.support.referee import (
    HAND_MADE,
    hand_made_relaxation,
    node_values,
    random_net,
    random_relaxation,
)

#: With these CLARABEL calls whatever it has an inaccurate optimum.
LOOSE = dict.fromkeys(("reduced_tol_gap_abs", "reduced_tol_gap_rel", "reduced_tol_feas"), 1e6)


@pytest.fixture
def hand_made() -> bounds.Relaxation:
    return hand_made_relaxation()


# -- failure is never a number ---------------------------------------------------------------------


def assert_no_number(solution: lp_reference.ReferenceSolution, status: str) -> None:
    assert (solution.status == status).all()
    for numbers in (solution.value, solution.dual_value, solution.x):
        assert np.isnan(numbers).all()
    for things in (solution.residuals, solution.points):
        assert (np.equal(things, None)).all()


def test_an_inaccurate_optimum_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    tight = solvers.TIGHT["CLARABEL"]
    monkeypatch.setitem(solvers.TIGHT, "CLARABEL", tight | LOOSE | {"max_iter": 5})
    relaxation = random_relaxation(4, 8, 8, 3, radius=1.0)
    assert_no_number(lp_reference.solve(relaxation, solver="CLARABEL"), "optimal_inaccurate")


def test_a_solver_that_stalls_is_run_again_with_care(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the time that is left of its limit."""
    limits, tight = [], solvers.TIGHT["CLARABEL"]
    real, now = clarabel.DefaultSolver, itertools.count()

    def spy(*arguments: Any) -> Any:
        limits.append(arguments[-1].time_limit)
        return real(*arguments)

    monkeypatch.setattr(clarabel, "DefaultSolver", spy)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    monkeypatch.setitem(solvers.TIGHT, "CLARABEL", tight | LOOSE | {"max_iter": 5})
    monkeypatch.setitem(solvers.CAREFUL, "CLARABEL", ({}, {"max_iter": 100}, {}))
    relaxation = random_relaxation(4, 8, 2, batch=1)
    solution = lp_reference.solve(relaxation, solver="CLARABEL", time_limit=60.0)
    assert (solution.status == "optimal").all()
    assert limits == [59.0, 58.0, 57.0]


@pytest.mark.parametrize("milp", [False, True])
def test_a_limit_is_no_success(monkeypatch: pytest.MonkeyPatch, milp: bool) -> None:
    limits = {"simplex_iteration_limit": 0, "mip_max_nodes": 0, "presolve": "off"}
    monkeypatch.setitem(solvers.TIGHT, "HIGHS", solvers.TIGHT["HIGHS"] | limits)
    relaxation = random_relaxation(4, 8, 8, 3, radius=1.0)
    assert_no_number(lp_reference.solve(relaxation, milp=milp), "user_limit")


def test_an_infeasible_lp_is_no_success(hand_made: bounds.Relaxation) -> None:
    """Claimed bounds -2 <= x <= 2 of an unstable neuron that no x in [5, 6] meets."""
    five = torch.full((1, 1), 5.0, dtype=torch.float64)
    elsewhere = replace(hand_made, input_set=bounds.Box(five, five + 1))
    for solver in ("HIGHS", "CLARABEL"):
        assert_no_number(lp_reference.solve(elsewhere, solver=solver), "infeasible")


@pytest.mark.parametrize(
    "error",
    [cp.error.SolverError("failed"), ValueError("Cannot unpack invalid solution: kUnknown")],
)
def test_a_solver_that_fails_is_no_success(
    monkeypatch: pytest.MonkeyPatch, hand_made: bounds.Relaxation, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cp.Problem, "solve", fail)
    assert_no_number(lp_reference.solve(hand_made), "solver_error")


def test_options_that_a_solver_refuses_are_not_silent(
    monkeypatch: pytest.MonkeyPatch, hand_made: bounds.Relaxation
) -> None:
    monkeypatch.setitem(solvers.TIGHT, "HIGHS", {"primal_feasibility_tolerance": 1e-11})
    with pytest.raises(ValueError, match="primal_feasibility_tolerance"):
        lp_reference.solve(hand_made)


def test_the_time_limit_is_for_all(hand_made: bounds.Relaxation) -> None:
    for solver in solvers.TIME_LIMIT.keys() & set(cp.installed_solvers()):
        assert_no_number(
            lp_reference.solve(hand_made, solver=solver, time_limit=1e-9), "user_limit"
        )
    assert (lp_reference.solve(hand_made, time_limit=1e6).status == "optimal").all()


def test_the_time_limit_reaches_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, now = spy_on_highs(monkeypatch, "time_limit"), itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    lp_reference.solve(random_relaxation(3, 8, 3, batch=1), time_limit=60.0)
    assert [options["time_limit"] for options in seen] == [59.0, 57.0]


def test_refusals(hand_made: bounds.Relaxation) -> None:
    solve: Any = lp_reference.solve
    for message, call in {
        r"solver='SIMPLEX'.*no solver of that name.*'CLARABEL'.*'HIGHS'": lambda: solve(
            hand_made, solver="SIMPLEX"
        ),
        r"time_limit=0\b.*positive": lambda: solve(hand_made, time_limit=0),
        r"time_limit=nan.*positive": lambda: solve(hand_made, time_limit=float("nan")),
        r"solver='SCIPY', time_limit.*'HIGHS'": lambda: solve(
            hand_made, solver="SCIPY", time_limit=1.0
        ),
        r"solve got a Network, expected a Relaxation": lambda: solve(hand_made.network),
        r"assemble got a Network, expected a Relaxation": lambda: lp_reference.assemble(
            hand_made.network  # type: ignore[arg-type]
        ),
        r"assemble\(index\) got 1, expected an integer from 0 to 0": lambda: lp_reference.assemble(
            hand_made, 1
        ),
    }.items():
        with pytest.raises(bounds.InvalidInputError, match=message):
            call()


# -- options ---------------------------------------------------------------------------------------


def spy_on_highs(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[dict[str, Any]]:
    """What HiGHS itself says of its options whenever it starts."""
    seen, start = [], highspy.Highs.run

    def spy(highs: highspy.Highs) -> Any:
        seen.append({name: highs.getOptionValue(name)[1] for name in names})
        return start(highs)

    monkeypatch.setattr(highspy.Highs, "run", spy)
    return seen


def test_highs_gets_its_tolerances(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = solvers.TIGHT["HIGHS"] | solvers.INTEGER
    seen = spy_on_highs(monkeypatch, *expected)
    lp_reference.solve(random_relaxation(3, 8, 3, radius=1.0, batch=1), milp=True)
    assert seen == [expected, expected]


def test_clarabel_gets_its_tolerances(
    monkeypatch: pytest.MonkeyPatch, hand_made: bounds.Relaxation
) -> None:
    expected, seen, start = solvers.TIGHT["CLARABEL"], [], clarabel.DefaultSolver

    def spy(*arguments: Any) -> Any:
        seen.append({name: getattr(arguments[-1], name) for name in expected})
        return start(*arguments)

    monkeypatch.setattr(clarabel, "DefaultSolver", spy)
    lp_reference.solve(hand_made, solver="CLARABEL")
    assert seen == [expected] * len(HAND_MADE)


@pytest.mark.parametrize("solver", sorted(solvers.TIGHT.keys() & set(cp.installed_solvers())))
def test_every_solver_takes_its_options(hand_made: bounds.Relaxation, solver: str) -> None:
    for time_limit in (None, 1e6) if solver in solvers.TIME_LIMIT else (None,):
        solution = lp_reference.solve(hand_made, solver=solver, time_limit=time_limit)
        assert (solution.status == "optimal").all()
        np.testing.assert_allclose(solution.value, [HAND_MADE], rtol=0, atol=1e-7)


# -- degenerate programs ---------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1e-17, 1e-15, 1e-12, 1e-9])
def test_neurons_of_nothing_but_rounding(width: float) -> None:
    """ẑ = x − x, whose triangle is as wide as rounding: in its own units, other terms are huge."""
    one = torch.ones(1, 1, dtype=torch.float64)
    model = nn.Sequential(
        linear([[1.0], [1.0]], [0.1, 0.1], one.dtype),
        linear([[1.0, -1.0], [-1.0, 1.0]], [0.0, 0.0], one.dtype),
        nn.ReLU(),
        linear([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]], [1.0, 2.0, 0.0], one.dtype),
    )
    claimed = bounds.ReluBounds(-width * one.expand(1, 2), width * one.expand(1, 2))
    relaxation = bounds.Relaxation(
        bounds.from_torch(model, (1,)).detach(),
        bounds.Box(-one, one),
        torch.eye(3, dtype=one.dtype).unsqueeze(0),
        torch.zeros(1, 3, dtype=one.dtype),
        (claimed,),
    )
    for options in ({}, {"solver": "CLARABEL"}, {"milp": True}):
        solution = lp_reference.solve(relaxation, **options)  # type: ignore[arg-type]
        assert (solution.status == "optimal").all()
        np.testing.assert_allclose(solution.value, [[1.0, 2.0, 0.0]], rtol=0, atol=1e-8)


# -- residuals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_residuals_detect_each_violation(scale: float) -> None:
    relaxation = random_relaxation(3, 6, 6, 2, scale=scale, batch=1)
    solution = lp_reference.solve(relaxation)
    lp, point = lp_reference.assemble(relaxation), solution.points[0, 0]
    assert lp_reference.residuals(lp, 0, point) == solution.residuals[0, 0]
    assert solution.residuals[0, 0].relative.worst <= 1e-12
    outputs, z, upper_face = lp.size - 1, lp.triangles.post[0], -1
    equality, inequality = lp.row_scale

    def move(field: str, entry: int, amount: float) -> lp_reference.Residuals:
        moved = getattr(point, field).copy()
        moved[entry] += amount
        return lp_reference.residuals(lp, 0, replace(point, **{field: moved}))

    eps = 1e-4
    found = move("primal", outputs, eps * lp.scale[outputs])
    assert found.relative.equality == pytest.approx(eps)
    assert found.absolute.equality == pytest.approx(eps * lp.scale[outputs])
    assert move("primal", z, -100 * lp.scale[z]).relative.inequality >= 90
    assert move("primal", 0, 100 * lp.scale[0]).relative.box >= 90
    objective = lp.objective_scale(0)
    found = move("inequality", upper_face, -100 * objective / inequality[upper_face])
    assert found.relative.sign >= 90
    found = move("equality", 0, eps * objective / equality[0])
    assert found.relative.stationarity >= 0.9 * eps
    # A feasible dual point with all the reduced costs right, but the wrong vertex.
    corner = np.where(point.primal[:3] == lp.lower, lp.upper, lp.lower)
    wrong = node_values(relaxation.network, torch.from_numpy(corner))
    found = lp_reference.residuals(lp, 0, replace(point, primal=wrong))
    assert max(found.relative.equality, found.relative.inequality, found.relative.box) <= 1e-12
    assert found.relative.complementarity > 1e-3
    assert found.relative.gap == pytest.approx(found.absolute.gap / objective)
    assert found.absolute.gap == pytest.approx(lp.objective(0) @ wrong - solution.dual_value[0, 0])


@pytest.mark.parametrize("norm", [1, 2])
def test_residuals_of_a_ball(norm: int) -> None:
    network, x = random_net(3, 6, 6, 2), torch.zeros(1, 3, dtype=torch.float64)
    ball = bounds.Ball(x, radius=0.5, norm=norm)
    relaxation = bounds.relax(network, ball, bounds.margins(0, 2))
    solution = lp_reference.solve(relaxation)
    lp, point = lp_reference.assemble(relaxation), solution.points[0, 0]
    assert solution.residuals[0, 0].relative.worst <= 1e-8

    def at(x: np.ndarray) -> lp_reference.Violations:
        values = node_values(network, torch.from_numpy(x))
        return lp_reference.residuals(lp, 0, replace(point, primal=values)).absolute

    corner = at(lp.upper)
    assert corner.ball == pytest.approx(0.5 * (3 ** (1 / norm) - 1))
    assert corner.box == 0
    # A point of the set, but not the one where the reduced costs are least.
    centre = at(np.zeros(3))
    assert centre.ball == 0
    assert centre.complementarity > 1e-2


def test_every_residual_counts_in_the_worst() -> None:
    names = lp_reference.Violations.__dataclass_fields__
    for name in names:
        fields = dict.fromkeys(names, 0.0)
        assert lp_reference.Violations(**fields | {name: 2.0}).worst == 2.0
        assert math.isnan(lp_reference.Violations(**fields | {name: math.nan}).worst)
    assert lp_reference.Violations(**dict.fromkeys(names, 0.0) | {"gap": -3.0}).worst == 3.0


def test_residuals_refuse_points_of_another_lp(hand_made: bounds.Relaxation) -> None:
    lp = lp_reference.assemble(hand_made)
    point = lp_reference.KKTPoint(np.zeros(11), np.zeros(9), np.zeros(3))
    assert lp_reference.residuals(lp, 0, point).absolute.stationarity == 1.0
    for field in ("primal", "equality", "inequality"):
        other = replace(point, **{field: np.zeros(2)})
        with pytest.raises(bounds.InvalidInputError, match=rf"{field}\) of shape \(2,\)"):
            lp_reference.residuals(lp, 0, other)


def test_highs_is_quiet_before_it_can_be_told_to_be() -> None:
    """From its constructor on, which prints in some versions; and only for us."""
    original = highspy.Highs
    with quiet_highs():
        quiet = highspy.Highs()
        assert quiet.getOptionValue("output_flag")[1] is False
    assert highspy.Highs is original
    assert original().getOptionValue("output_flag")[1] is True
