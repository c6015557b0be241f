"""Vertices of many duals at once: what is proposed is optimal by its own gap, without HiGHS."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import bounds
import lp_reference
from bounds import Relaxation, Status
from bounds.deadline import NEVER, Deadline
from bounds.models import load_digits_images, load_digits_model
from bounds.solvers.interior_point.condense import condense
from bounds.solvers.interior_point.simplices import Simplices
from bounds.solvers.interior_point.triangle_lp import TriangleLP
from bounds.solvers.simplex import edges, simplex, vertices
from bounds.solvers.simplex.edges import Edges
from tests.support.problems import Problem, problems


def condensed(relaxation: Relaxation) -> TriangleLP:
    lp = condense(relaxation.double())
    assert lp is not None
    return lp


def ascended(
    lp: TriangleLP, *, limit: int = 1000, deadline: Deadline = NEVER, bound: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The bounds of what all LPs reach, and their pivots."""
    simplices = Simplices(lp)
    running = torch.ones_like(lp.c_0, dtype=torch.bool)
    above = torch.full_like(lp.c_0, math.inf) if bound is None else bound - lp.c_0
    nu, b, z, pivots = Edges(simplices).ascend(running, above, limit, deadline)
    lower, _ = simplices.dual_value(simplices.costs(nu), nu)
    _, upper = simplices.push_forward(lp.within_budget(b), z)
    return lower, upper, pivots


@pytest.fixture(scope="module")
def digits() -> Relaxation:
    """Four inputs of 10 to 81 unstable neurons, 9 rows each."""
    images, labels = load_digits_images()
    network = bounds.from_torch(
        load_digits_model("digits_standard"), (1, 8, 8), dtype=torch.float64
    )
    radius = torch.tensor([0.1, 0.02, 0.05, 0.15], dtype=torch.float64)
    ball = bounds.Ball(images[:4].double(), radius=radius, lower=0.0, upper=1.0)
    return bounds.relax(network, ball, bounds.margins(labels[:4], 10)).double()


# -- optimal, by themselves ------------------------------------------------------------------------


@settings(max_examples=settings().max_examples // 3)
@given(problem=problems())
def test_drawn_lps_are_solved_without_highs(problem: Problem) -> None:
    """Boxes and ℓ1 balls, several layers, rows of zeros and rows twice: degenerate ones too. That
    both bounds hold is for tests with the referee."""
    lp = condensed(problem.relax())
    if lp.e.shape[1]:
        lower, upper, _ = ascended(lp)
        assert (upper - lower <= 1e-8 * (1 + lower.abs())).all(), (upper - lower, lower)


def test_lps_with_neurons_kept_on_a_side_are_solved(digits: Relaxation) -> None:
    """Vertices are missing there: of an active neuron (l, 0), of a dead one (u, u)."""
    centre = (digits.input_set.lower + digits.input_set.upper) / 2
    found: list[Tensor] = []

    def relu(_: int, pre: Tensor) -> Tensor:
        found.append(pre)
        return pre.clamp(min=0)

    digits.network.evaluate(centre, relu)
    phases = [
        torch.where(neurons.unstable, pre.sign(), 0.0)
        for neurons, pre in zip(digits.relu_bounds, found, strict=True)
    ]
    for phase in phases:
        phase[:, ::2] = 0.0
    side = digits.split(phases)
    assert side.is_split
    lower, upper, _ = ascended(condensed(side))
    exact = lp_reference.solve(side).dual_value
    torch.testing.assert_close(lower, torch.from_numpy(exact), rtol=1e-7, atol=1e-7)
    assert (upper - lower <= 1e-8 * (1 + lower.abs())).all()


def test_digits_take_few_pivots(digits: Relaxation) -> None:
    lp = condensed(digits)
    lower, upper, pivots = ascended(lp)
    exact = bounds.solve(digits, method="interior_point")
    torch.testing.assert_close(lower, exact.lower, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(upper, exact.upper, rtol=1e-8, atol=1e-8)
    assert (pivots <= lp.e.shape[1] // 2).all()
    assert pivots.max() > 5


def test_first_vertices_are_corrected_by_their_own_points(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    lp = condensed(digits)
    corrected = ascended(lp)[2]
    monkeypatch.setattr(vertices, "CORRECTIONS", 0)
    assert corrected.sum() < 0.8 * ascended(lp)[2].sum()


def test_points_are_in_the_box_where_the_search_ends_early(digits: Relaxation) -> None:
    """The weights there may not be: the gap of such a point can look closed, and then the LP ends
    as broken down."""
    simplices = Simplices(condensed(digits))
    running = torch.ones_like(digits.d, dtype=torch.bool)
    above = torch.full_like(digits.d, math.inf)
    for limit in (0, 1, 3):
        _, b, _, pivots = Edges(simplices).ascend(running, above, limit, NEVER)
        assert pivots.max() == limit
        assert ((b >= 0) & (b <= 1)).all()


def test_parts_and_single_inputs_change_nothing(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    lp = condensed(digits)
    together = ascended(lp)
    monkeypatch.setattr(edges, "TOGETHER", 1)
    for one, other in zip(ascended(lp), together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_all_kinks_are_put_in_order_where_the_nearest_do_not_end_an_edge(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    lp = condensed(digits)
    usual = ascended(lp)
    monkeypatch.setattr(edges, "KINKS", 1)
    for one, other in zip(ascended(lp), usual, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


# -- how it ends -----------------------------------------------------------------------------------


def test_what_is_cut_short_is_a_bound(digits: Relaxation) -> None:
    lp = condensed(digits)
    optimum, _, needed = ascended(lp)
    before = torch.full_like(optimum, -math.inf)
    for limit in range(6):
        lower, _, pivots = ascended(lp, limit=limit)
        assert (pivots == needed.clamp(max=limit)).all()
        assert (lower <= optimum + 1e-9).all()
        assert (lower >= before - 1e-9).all()
        before = lower


def test_a_bound_ends_lps_whose_optimum_is_above(digits: Relaxation) -> None:
    lp = condensed(digits)
    optimum, _, needed = ascended(lp)
    start, _, _ = ascended(lp, limit=0)
    middle = (start + optimum) / 2
    lower, _, pivots = ascended(lp, bound=middle)
    moved = needed > 0
    assert (lower[moved] >= middle[moved] - 1e-9).all()
    assert pivots.sum() < needed.sum()


def test_nothing_is_begun_when_the_time_is_up(digits: Relaxation) -> None:
    lower, _, pivots = ascended(condensed(digits), deadline=Deadline(0.0))
    assert lower.isnan().all()
    assert (pivots == 0).all()


def test_the_time_ends_a_search_at_valid_bounds(digits: Relaxation) -> None:
    class Second(Deadline):
        """Over when it is asked for the fourth time."""

        asked = 0

        @property
        def passed(self) -> bool:
            self.asked += 1
            return self.asked > 3

    lp = condensed(digits)
    optimum, _, _ = ascended(lp)
    lower, _, pivots = ascended(lp, deadline=Second())
    assert pivots.max() == 2
    assert (lower <= optimum + 1e-9).all()


def test_a_neuron_without_a_vertex_but_zero_is_left_out(digits: Relaxation) -> None:
    lp = condensed(digits)
    lower = lp.lower.clone()
    upper = lp.upper.clone()
    lower[1, 0] = upper[1, 0] = 0.0
    found, _, _ = ascended(replace(lp, lower=lower, upper=upper))
    assert found[1].isnan().all()
    assert found[[0, 2, 3]].isfinite().all()


@pytest.mark.parametrize("field", ["AL", "e", "c_b", "c_z"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none_end_at_once(digits: Relaxation, field: str, value: float) -> None:
    lp = condensed(digits)
    broken = getattr(lp, field).clone()
    broken[0] = value
    lower, _, _ = ascended(replace(lp, **{field: broken}))
    assert not (lower[0] > -math.inf).any()
    whole, _, _ = ascended(lp)
    torch.testing.assert_close(lower[1:], whole[1:], rtol=1e-12, atol=1e-12)


# -- what counts is what is proved -----------------------------------------------------------------


@pytest.mark.parametrize("scale", [math.nan, 0.0, 3.0])
def test_wrong_proposals_are_left_to_highs(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    exact = bounds.solve(digits, method="interior_point")
    original = Edges.ascend

    def wrong(self: Edges, *options: Any) -> tuple[Tensor, ...]:
        nu, b, z, pivots = original(self, *options)
        return scale * nu, b, scale * z, pivots

    monkeypatch.setattr(Edges, "ascend", wrong)
    solution = bounds.solve(digits, method="simplex")
    assert (solution.status == Status.OPTIMAL).all()
    torch.testing.assert_close(solution.lower, exact.lower, rtol=1e-8, atol=1e-8)


def test_one_that_goes_in_circles_is_left_to_highs(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = bounds.solve(digits, method="interior_point")
    monkeypatch.setattr(simplex, "FEW", 3 - max(digits.unstable))
    solution = bounds.solve(digits, method="simplex")
    assert (solution.status == Status.OPTIMAL).all()
    torch.testing.assert_close(solution.lower, exact.lower, rtol=1e-8, atol=1e-8)
    assert solution.iterations.max() > 3  # of HiGHS
