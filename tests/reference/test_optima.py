"""The referee against hand-computed optima, other solvers and true minima."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
import lp_reference
from bounds.network.affine import (
    Linear,
)
from bounds.network.graph import AffineNode, InputNode, Network
from lp_reference import milp
from lp_reference.ball import NormBall
from tests.support.networks import Dice, seeds
from tests.support.problems import Problem, points, problems
from tests.support.referee import (
    FACES,
    HAND_MADE,
    hand_made_relaxation,
    random_net,
    random_relaxation,
)


@pytest.fixture
def hand_made() -> bounds.Relaxation:
    return hand_made_relaxation()


# -- optima ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["HIGHS", "CLARABEL"])
def test_hand_computed_optima(hand_made: bounds.Relaxation, solver: str) -> None:
    d = torch.arange(len(HAND_MADE), dtype=torch.float64)
    solution = lp_reference.solve(replace(hand_made, d=d.unsqueeze(0)), solver=solver)
    expected = np.array([HAND_MADE]) + d.numpy()
    assert (solution.status == "optimal").all()
    np.testing.assert_allclose(solution.value, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(solution.dual_value, expected, rtol=0, atol=1e-9)
    gaps = [[residuals.absolute.gap for residuals in solution.residuals[0]]]
    np.testing.assert_array_equal(solution.value - solution.dual_value, gaps)
    assert np.any(gaps) or solver == "HIGHS"
    assert solution.x.shape == (1, len(HAND_MADE), 1)
    np.testing.assert_allclose(solution.x[0, [1, 3, 4, 5], 0], [1, 1, -1, -1], atol=1e-9)
    lp = lp_reference.assemble(hand_made)
    for row, name in FACES.items():
        multipliers = solution.points[0, row].inequality
        binding = [
            lp.row_name(len(lp.equality_rhs) + i) for i in np.flatnonzero(multipliers > 1e-6)
        ]
        assert binding == [name]


@settings(max_examples=max(1, settings.default.max_examples // 2))
@given(problems())
def test_two_solvers_agree_and_prove_it(problem: Problem) -> None:
    relaxation = problem.relax(intermediate="backward")
    simplex = lp_reference.solve(relaxation, solver="HIGHS")
    interior = lp_reference.solve(relaxation, solver="CLARABEL")
    assert (simplex.status == "optimal").all()
    size = np.maximum(1, np.abs(simplex.value))
    for solution, tolerance in ((simplex, 1e-10), (interior, 1e-7)):
        assert solution.value.shape == relaxation.d.shape
        # The second opinion may fail, and says so.
        ended = solution.status == "optimal"
        assert (np.isnan(solution.value) == ~ended).all()
        assert not (np.abs(solution.value - simplex.value) > 1e-7 * size).any()
        assert not (np.abs(solution.value - solution.dual_value) > tolerance * size).any()
        assert max([r.relative.worst for r in solution.residuals[ended]], default=0) <= tolerance


@pytest.mark.parametrize("solver", ["HIGHS", "CLARABEL"])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_layers_that_multiply_magnitudes(solver: str, scale: float) -> None:
    """Unscaled, HiGHS fails on one of these LPs and CLARABEL calls all of them unbounded."""
    relaxation = random_relaxation(6, 20, 20, 20, 4, scale=scale, radius=0.3)
    solution = lp_reference.solve(relaxation, solver=solver)
    assert (solution.status == "optimal").all()
    np.testing.assert_allclose(solution.dual_value, solution.value, rtol=1e-7, atol=0)


def test_tiny_coefficients_reach_the_solver() -> None:
    """By default HiGHS would drop the first one and return 0."""
    weight = torch.diag(torch.tensor([1e-10, 1.0], dtype=torch.float64))
    nodes = (
        InputNode("input", (2,), ()),
        AffineNode("tiny", (2,), (0,), Linear((2,), (2,), weight)),
    )
    ball = bounds.Ball(torch.zeros(2, dtype=torch.float64), radius=1.0)
    specification = bounds.Specification(torch.eye(2, dtype=torch.float64))
    solution = lp_reference.solve(bounds.relax(Network(nodes), ball, specification))
    np.testing.assert_allclose(solution.value, [[-1e-10, -1.0]], rtol=1e-6)


def test_each_input_has_its_own_rows_and_bounds() -> None:
    dice = Dice(5)
    network, x = random_net(3, 6, 4, 3), dice.normal(3, 3)
    C, d = dice.normal(3, 2, 3), dice.normal(3, 2)
    radius = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)[:, None]
    together = lp_reference.solve(
        bounds.relax(network, bounds.Ball(x, radius=radius), bounds.Specification(C, d))
    )
    for i in range(3):
        ball = bounds.Ball(x[i], radius=radius[i])
        alone = lp_reference.solve(
            bounds.relax(network, ball, bounds.Specification(C[i], d[i])), solver="CLARABEL"
        )
        np.testing.assert_allclose(together.value[i], alone.value[0], rtol=0, atol=1e-8)
    expected = (C[0] @ network(x[:1])[0] + d[0]).detach()
    np.testing.assert_allclose(together.value[0], expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(together.x[0], x[[0, 0]])


@pytest.mark.parametrize("options", [{}, {"solver": "CLARABEL"}, {"milp": True}])
def test_networks_without_unstable_neurons(options: dict[str, Any]) -> None:
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    ball = bounds.Ball(x, radius=1.0)
    identity = Network((InputNode("input", (2,), ()),))
    relaxation = bounds.relax(identity, ball, bounds.margins(0, 2))
    solution = lp_reference.solve(relaxation, **options)
    np.testing.assert_allclose(solution.value, [[1.0]], rtol=1e-9)
    np.testing.assert_allclose(solution.dual_value, [[1.0]], rtol=1e-9)
    affine = bounds.from_torch(nn.Linear(2, 2).double(), (2,))
    relaxation = bounds.relax(affine, bounds.Ball(x, radius=0.0), bounds.margins(0, 2))
    y = affine(x.unsqueeze(0))[0].detach()
    np.testing.assert_allclose(
        lp_reference.solve(relaxation, **options).value, [[y[0] - y[1]]], rtol=1e-9
    )


def test_float32_is_solved_in_float64() -> None:
    """The LP of the rounded numbers themselves, which carry gradients here."""
    network = random_net(3, 8, 8, 3).to(torch.float32)
    x = Dice(2).normal(2, 3).float().requires_grad_()
    relaxation = bounds.relax(network, bounds.Ball(x, radius=0.5), bounds.margins(0, 3))
    assert relaxation.C.dtype == torch.float32
    single, double = lp_reference.solve(relaxation), lp_reference.solve(relaxation.double())
    assert single.value.dtype == np.float64
    np.testing.assert_array_equal(single.value, double.value)


# -- the network itself ----------------------------------------------------------------------------


def breakpoints(network: Network, lower: float, upper: float) -> Tensor:
    """For one scalar input, points between which the network is linear, and both ends."""
    grid = torch.tensor([lower, upper], dtype=torch.float64)
    for layer in range(len(network.relus)):
        found: list[Tensor] = []

        def relu(_: int, pre: Tensor, found: list[Tensor] = found) -> Tensor:
            found.append(pre)
            return pre.relu()

        network.evaluate(grid.unsqueeze(1), relu)
        left, right = found[layer][:-1], found[layer][1:]
        share = left / (left - right)
        crossing = grid[:-1, None] + share * grid.diff()[:, None]
        grid = torch.cat([grid, crossing[left * right < 0]]).sort().values
    return grid


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.5, 1.0, 30.0])
def test_milp_is_the_minimum_of_the_network(seed: int, scale: float) -> None:
    network = random_net(1, 8, 6, 3, seed=seed, scale=scale)
    ball = bounds.Ball(torch.full((1,), 0.1, dtype=torch.float64), radius=2.0)
    relaxation = bounds.relax(network, ball, bounds.margins(0, 3))
    grid = breakpoints(network, 0.1 - 2.0, 0.1 + 2.0)
    values = network(grid.unsqueeze(1)) @ relaxation.C[0].T
    expected = values.min(0).values.numpy()
    solution = lp_reference.solve(relaxation, milp=True)
    assert (solution.status == "optimal").all()
    np.testing.assert_allclose(solution.value[0], expected, rtol=1e-9)
    np.testing.assert_allclose(solution.dual_value[0], expected, rtol=1e-9)
    at = network(torch.from_numpy(solution.x[0])) @ relaxation.C[0].T
    np.testing.assert_allclose(at.diagonal(), expected, rtol=1e-9)
    # The relaxation is not tight here, so an LP would not pass for the MILP.
    lp = lp_reference.solve(relaxation)
    assert (lp.value < solution.value - 1e-3 * scale).any()


@settings(max_examples=max(1, settings.default.max_examples // 4))
@given(problems())
def test_milp_lies_between_the_lp_and_samples(problem: Problem) -> None:
    relaxation = problem.relax(intermediate="backward")
    assume(max(relaxation.unstable) <= 10)
    lp, exact = lp_reference.solve(relaxation), lp_reference.solve(relaxation, milp=True)
    assert (exact.status == "optimal").all()
    tiny = 1e-8 * np.maximum(1, np.abs(lp.value))
    assert (lp.value <= exact.value + tiny).all()
    for index, inputs in enumerate(points(problem.input_set, 30)):
        outputs = relaxation.network(inputs).flatten(1)
        rows = outputs @ relaxation.C[index].flatten(1).T + relaxation.d[index]
        assert (exact.value[index] <= rows.detach().numpy().min(0) + tiny[index]).all()


def test_milp_refuses_what_it_cannot_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    relaxation = random_relaxation(3, 8, 3, radius=1.0, batch=1)
    (unstable,) = relaxation.unstable
    monkeypatch.setattr(milp, "LIMIT", unstable)
    assert lp_reference.solve(relaxation, milp=True).status[0, 0] == "optimal"
    monkeypatch.setattr(milp, "LIMIT", unstable - 1)
    with pytest.raises(bounds.InvalidInputError, match=f"{unstable} unstable .* smaller radius"):
        lp_reference.solve(relaxation, milp=True)
    with pytest.raises(bounds.InvalidInputError, match=r"solver='CLARABEL'.*'HIGHS' only"):
        lp_reference.solve(relaxation, milp=True, solver="CLARABEL")


# -- balls -----------------------------------------------------------------------------------------


def around_the_origin(norm: int, radius: float) -> bounds.Relaxation:
    """Two inputs with x₁ ≤ 0.6 within the ball, and no network after them."""
    x = torch.zeros(2, dtype=torch.float64)
    rows = torch.tensor([[-3.0, -2.0], [-3.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    return bounds.relax(
        Network((InputNode("input", (2,), ()),)),
        bounds.Ball(x, radius=radius, norm=norm, upper=torch.tensor([0.6, 5.0], dtype=x.dtype)),
        bounds.Specification(rows),
    )


@pytest.mark.parametrize(
    ("norm", "solver", "expected"),
    [
        (1, "HIGHS", [-2.6, -1.8, -1.0, 0.0]),
        (1, "CLARABEL", [-2.6, -1.8, -1.0, 0.0]),
        (2, "CLARABEL", [-3.4, -1.8, -np.sqrt(2), 0.0]),
        (2, "SCS", [-3.4, -1.8, -np.sqrt(2), 0.0]),
    ],
)
def test_balls_by_hand(norm: int, solver: str, expected: list[float]) -> None:
    solution = lp_reference.solve(around_the_origin(norm, 1.0), solver=solver)
    np.testing.assert_allclose(solution.value, [expected], atol=1e-7)
    np.testing.assert_allclose(solution.dual_value, [expected], atol=1e-7)
    tiny = lp_reference.solve(around_the_origin(norm, 0.0))
    np.testing.assert_allclose(tiny.value, [[0.0] * 4], atol=1e-12)


@settings(max_examples=max(1, settings.default.max_examples // 2))
@given(problems(norms=(2, 2, 2)))
def test_cone_programs_are_solved_and_proved(problem: Problem) -> None:
    solution = lp_reference.solve(problem.relax())
    assert (solution.status == "optimal").all()
    size = np.maximum(1, np.abs(solution.value))
    assert (np.abs(solution.value - solution.dual_value) <= 1e-6 * size).all()
    assert max(r.relative.worst for r in solution.residuals.flat) <= 1e-7


@given(
    norm=st.sampled_from([1, 2]),
    centre=st.sampled_from([0.1, 0.6, 1.5]),
    reach=st.floats(0.01, 1.2),
    seed=seeds,
)
def test_minimum_over_a_ball_is_that_of_a_fine_grid(
    norm: int, centre: float, reach: float, seed: int
) -> None:
    """In the box [0, 1]², with the centre in it or beside it."""
    side = np.linspace(0, 1, 401)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    middle = np.array([centre, 0.3])
    distance = np.linalg.norm(grid - middle, norm, axis=1)
    ball = NormBall(norm, middle, distance.min() + reach)
    costs = Dice(seed).normal(2).numpy()
    found = ball.minimum(costs, np.zeros(2), np.ones(2))
    least = (grid[distance <= ball.radius] @ costs).min()
    assert found <= least + 1e-12
    assert least - found <= 4 / 400 * np.abs(costs).sum()


def test_what_takes_no_cones_is_refused() -> None:
    cone = around_the_origin(2, 1.0)
    for solver in ("HIGHS", "OSQP", "SCIPY"):
        with pytest.raises(bounds.InvalidInputError, match=rf"'{solver}'.*ℓ2 balls.*'CLARABEL'"):
            lp_reference.solve(cone, solver=solver)
    with pytest.raises(bounds.InvalidInputError, match=r"milp=True.*ℓ2 balls.*norm 1"):
        lp_reference.solve(cone, milp=True)
