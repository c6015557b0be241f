"""ℓ1 and ℓ2 balls within boxes: support function, minimiser, projection, gradients, rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import cvxpy as cp
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from bounds import Ball, Box
from bounds.sets import norm_balls, spread
from bounds.sets.norm_balls import L1Ball, L2Ball, NormBall
from tests.support.networks import Dice, seeds
from tests.support.problems import points

Where = str
both = pytest.mark.parametrize("norm", [1, 2])


@dataclass(frozen=True)
class Drawn:
    """Balls around three centres within boxes of their own, and rows; prints as a reproducer.

    where: the centres lie in the box, on its faces, at its corners, or outside. reach: the radius
    beyond the distance to the box, in units of what takes in all of the box; from 1 on the box
    alone counts.
    """

    norm: int
    shape: tuple[int, ...]
    where: Where
    reach: float
    seed: int

    def ball(self, dtype: torch.dtype = torch.float64) -> NormBall:
        dice = Dice(self.seed)
        lower, upper = -dice.uniform(3, *self.shape), dice.uniform(3, *self.shape)
        # Some coordinates are fixed.
        upper = torch.where(dice.below(6, 3, *self.shape) == 0, lower, upper)
        centre = dice.normal(3, *self.shape)
        if self.where != "outside":
            centre = torch.clamp(centre, lower, upper)
        if self.where == "corner":
            centre = torch.where(centre > 0, upper, lower)
        elif self.where == "inside":
            centre = (centre + lower + upper) / 3
        centre, lower, upper = centre.to(dtype), lower.to(dtype), upper.to(dtype)
        near = (torch.clamp(centre, lower, upper) - centre).flatten(1)
        far = torch.maximum(centre - lower, upper - centre).flatten(1)
        distance, all_of_it = (
            torch.linalg.vector_norm(v.double(), self.norm, dim=1) for v in (near, far)
        )
        radius = distance * (1 + 1e-6) + self.reach * (all_of_it - distance)
        found = Ball(centre, radius=radius, norm=self.norm, lower=lower, upper=upper).resolve(
            self.shape
        )
        assert isinstance(found, NormBall)
        return found

    def rows(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Coefficients with zeros, with ties, of many magnitudes, all 0, and one only."""
        dice = Dice(self.seed + 1)
        plain = dice.normal(3, 1, *self.shape)
        zeros = plain * dice.below(2, 3, 1, *self.shape)
        ties = (dice.below(5, 3, 1, *self.shape) - 2).double()
        wide = plain * 10 ** (6 * dice.normal(3, 1, *self.shape))
        single = torch.zeros(3, 1, math.prod(self.shape)).double()
        single[:, :, 0] = 1.0
        single = single.reshape(zeros.shape)
        return torch.cat((plain, zeros, ties, wide, 0 * plain, single), 1).to(dtype)


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    return Drawn(
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([(6,), (1,), (2,), (2, 3), (1, 3, 3)])),
        draw(st.sampled_from(["inside", "face", "corner", "outside"])),
        draw(st.sampled_from([0.3, 1e-12, 1e-3, 0.1, 0.6, 0.99, 1.0, 50.0])),
        draw(seeds),
    )


def magnitude(ball: NormBall, rows: Tensor) -> Tensor:
    """Of what ⟨c, x⟩ is a sum of."""
    x = torch.maximum(ball.lower.abs(), ball.upper.abs()).unsqueeze(1)
    return (rows.abs() * x).flatten(2).sum(2)


def excess(ball: NormBall, x: Tensor) -> float:
    """The worst of ‖x − centre‖ / radius − 1, with sums that do not round."""
    worst = -1.0
    for centre, radius, rows in zip(ball.centre, ball.radius.tolist(), x, strict=True):
        for row in rows:
            away = (row.double() - centre.double()).flatten().tolist()
            length = math.fsum(map(abs, away)) if ball.order == 1 else math.hypot(*away)
            worst = max(worst, length / radius - 1 if radius else math.copysign(2, length - 1e-300))
    return worst


# -- support function and minimiser ----------------------------------------------------------------


@given(drawn())
def test_minimum_is_that_of_cvxpy(case: Drawn) -> None:
    # A cone that only just meets its box is too much for the solver.
    assume(case.where != "outside" or case.reach > 0.01)
    ball, rows = case.ball(), case.rows()[:, :3]
    found, below = ball.minimum(rows), ball.minimum_below(rows)
    for image in range(len(ball)):
        x, c = cp.Variable(rows[0, 0].numel()), cp.Parameter(rows[0, 0].numel())
        centre, lower, upper = (
            t[image].flatten().numpy() for t in (ball.centre, ball.lower, ball.upper)
        )
        inside = cp.norm(x - centre, case.norm) <= float(ball.radius[image])
        problem = cp.Problem(cp.Minimize(c @ x), [x >= lower, x <= upper, inside])
        values = torch.stack((found[image], below[image]), 1).tolist()
        for row, each in zip(rows[image], values, strict=True):
            c.value = row.flatten().numpy()
            problem.solve(solver="CLARABEL")
            assert problem.status == "optimal"
            assert each == pytest.approx([problem.value] * 2, rel=1e-5, abs=1e-5)


@given(drawn())
def test_argmin_is_in_the_set_and_attains_the_minimum(case: Drawn) -> None:
    ball, rows = case.ball(), case.rows()
    x = ball.argmin(rows)
    assert x.shape == rows.shape
    assert ball.contains(x).all()
    assert excess(ball, x) <= 1e-14
    assert ((x >= ball.lower.unsqueeze(1)) & (x <= ball.upper.unsqueeze(1))).all()
    attained = (rows * x).flatten(2).sum(2)
    # A ball that only just meets its box amplifies the rounding of its radius.
    slack = 1e-9 if case.where == "outside" else 1e-13
    assert ((attained - ball.minimum(rows)).abs() <= slack * magnitude(ball, rows)).all()


@given(drawn(), st.sampled_from([torch.float32, torch.float64]))
def test_minimum_is_above_no_point(case: Drawn, dtype: torch.dtype) -> None:
    """Neither above points drawn without its help, nor above those that contains lets through."""
    ball, rows = case.ball(dtype), case.rows(dtype)
    x = torch.cat((points(ball, 40), ball.argmin(rows), ball.project(points(ball, 9) * 3)), 1)
    x = torch.cat((x, x + (x - ball.centre.unsqueeze(1)) * torch.finfo(dtype).eps), 1)
    x = torch.where(ball.contains(x).reshape(*x.shape[:2], *[1] * len(case.shape)), x, x[:, :1])
    values = (rows.double().unsqueeze(2) * x.double().unsqueeze(1)).flatten(3).sum(3).amin(2)
    rounding = 8 * torch.finfo(dtype).eps * magnitude(ball, rows).double()
    assert (ball.minimum(rows).double() <= values + rounding).all()


@both
@given(shape=st.sampled_from([(1,), (7,), (2, 3, 3)]), seed=seeds, scale=st.integers(-20, 20))
def test_without_a_box_it_is_the_dual_norm(
    norm: int, shape: tuple[int, ...], seed: int, scale: int
) -> None:
    dice, size = Dice(seed), 10.0**scale
    x, radius = size * dice.normal(2, *shape), size * dice.uniform(2)
    rows = dice.normal(2, 5, *shape) * dice.below(3, 2, 5, *shape)
    ball = Ball(x, radius=radius, norm=norm).resolve(shape)
    dual = rows.flatten(2).abs().amax(2) if norm == 1 else rows.flatten(2).norm(dim=2)
    expected = (rows * x.unsqueeze(1)).flatten(2).sum(2) - radius.unsqueeze(1) * dual
    torch.testing.assert_close(ball.minimum(rows), expected, rtol=1e-13, atol=1e-13 * size)


@given(drawn())
def test_a_ball_around_the_box_is_the_box(case: Drawn) -> None:
    ball, rows = Drawn(case.norm, case.shape, case.where, 1.5, case.seed).ball(), case.rows()
    box = Box(ball.lower, ball.upper)
    torch.testing.assert_close(ball.minimum(rows), box.minimum(rows), rtol=1e-13, atol=1e-13)
    p = 2 * Dice(0).normal(*rows.shape)
    torch.testing.assert_close(ball.project(p), box.project(p), rtol=0, atol=1e-14)


@both
def test_radius_0_is_the_point(norm: int) -> None:
    x, rows = Dice(0).normal(2, 5), Dice(1).normal(2, 3, 5)
    for box in ({}, {"lower": -9.0, "upper": x}):
        ball = Ball(x, radius=0.0, norm=norm, **box).resolve((5,))
        at = x.unsqueeze(1).expand(2, 3, 5)
        for found in (ball.argmin(rows), ball.project(rows)):
            assert torch.equal(found, at)
        torch.testing.assert_close(ball.minimum(rows), (rows * at).sum(2), rtol=1e-14, atol=1e-14)
        assert ball.contains(at).all()
        assert not ball.contains(torch.nextafter(at, at + 1)).any()


@both
def test_a_ball_that_only_touches_its_box_is_one_point(norm: int) -> None:
    x, corner = torch.tensor([[2.0, 1.25, 0.5]]).double(), torch.tensor([[1.0, 1.0, 0.5]]).double()
    radius = float((x - corner).norm(norm))
    ball = Ball(x, radius=radius, norm=norm, upper=1.0).resolve((3,))
    rows = torch.tensor([[[1.0, 2, 3], [-1, -2, 0], [0, 0, 0], [0, 0, 1]]]).double()
    torch.testing.assert_close(ball.minimum(rows), (rows * corner).sum(2), rtol=1e-6, atol=1e-6)
    for found in (ball.argmin(rows), ball.project(rows)):
        torch.testing.assert_close(found, corner.expand(1, 4, 3), rtol=0, atol=1e-7)
        assert ball.contains(found).all()


def test_by_hand() -> None:
    """Around (0, 0) with x₁ ≤ 0.6: the ℓ1 ball spends 0.6 there and 0.4 on x₂; the ℓ2 ball 0.8."""
    x = torch.zeros(2).double()
    c = torch.tensor([[[-3.0, -2.0], [-3.0, 0.0], [1.0, 1.0]]]).double()
    upper = torch.tensor([0.6, 5.0], dtype=torch.float64)
    l1 = Ball(x, radius=1.0, norm=1, upper=upper).resolve((2,))
    l2 = Ball(x, radius=1.0, norm=2, upper=upper).resolve((2,))
    torch.testing.assert_close(l1.minimum(c), torch.tensor([[-2.6, -1.8, -1.0]]).double())
    torch.testing.assert_close(l2.minimum(c), torch.tensor([[-3.4, -1.8, -math.sqrt(2)]]).double())
    torch.testing.assert_close(l1.argmin(c)[0, 0], torch.tensor([0.6, 0.4]).double())
    torch.testing.assert_close(l2.argmin(c)[0, 0], torch.tensor([0.6, 0.8]).double())


# -- multipliers of many rows at once --------------------------------------------------------------


def centred(case: Drawn) -> bool:
    return case.norm == 1 or case.where != "outside"


@given(drawn(), st.sampled_from([1, 2, 3]))
def test_the_largest_coefficients_are_enough_where_the_budget_ends_in_them(
    case: Drawn, first: int
) -> None:
    """As if all were sorted: the same minimum, and a point that attains it."""
    case = replace(case, norm=1)
    ball, rows = case.ball(), case.rows()
    expected = ball.minimum(rows)
    with mock.patch.object(norm_balls, "FIRST", first):
        found, x = ball.minimum(rows), ball.argmin(rows)
    size = magnitude(ball, rows)
    assert ((found - expected).abs() <= 1e-14 * size).all()
    assert ball.contains(x).all()
    slack = 1e-9 if case.where == "outside" else 1e-13
    assert (((rows * x).flatten(2).sum(2) - expected).abs() <= slack * size).all()


@given(drawn(), st.sampled_from([torch.float32, torch.float64]), st.sampled_from([1, 2, 64]))
def test_the_search_finds_the_best_multiplier(case: Drawn, dtype: torch.dtype, share: int) -> None:
    """Both ends, beside those of an algorithm that sorts, in float64: below them, and hardly.
    share: whether all, half or none of the coordinates are tried before there is a search."""
    assume(centred(case))
    ball, rows = case.ball(dtype), case.rows(dtype)
    exact, double = ball.convert(lambda tensor: tensor.double()), rows.double()
    with mock.patch.object(spread, "SHARE", share):
        middle, below, above = ball.spread(rows, lambda t: t.unsqueeze(1), cut=True, above=True)
    rounding = 64 * torch.finfo(dtype).eps * (magnitude(exact, double) + 1e-25)
    # A ball that only just meets its box amplifies the rounding of its radius.
    if case.where == "outside":
        rounding = rounding * 1e4
    for found, value in (
        (middle.double() - below.double(), exact.minimum(double)),
        (-middle.double() - above.double(), exact.minimum(-double)),
        (ball.minimum_below(rows).double(), exact.minimum(double)),
    ):
        # `minimum` allows for points that only count as inside.
        assert (found <= value + rounding / 4).all()
        assert (found >= value - 4 * rounding).all()


@both
@given(seed=seeds, share=st.floats(0, 3))
def test_no_multiplier_is_above_the_minimum(norm: int, seed: int, share: float) -> None:
    """Weak duality: what the search finds decides how tight the bound is, and nothing else."""
    ball = Drawn(norm, (2, 3), "inside", 0.3, seed).ball()
    rows = Drawn(norm, (2, 3), "inside", 0.3, seed).rows()
    x = torch.cat((points(ball, 40), ball.argmin(rows)), 1)
    values = (rows.unsqueeze(2) * x.unsqueeze(1)).flatten(3).sum(3).amin(2)
    found = getattr(spread, f"l{norm}_multiplier")
    with mock.patch.object(spread, f"l{norm}_multiplier", lambda *args: share * found(*args)):
        assert (ball.minimum_below(rows) <= values).all()


@both
@pytest.mark.parametrize("tail", [0.0, 1.0, 6.0])
def test_a_few_rounds_are_enough(norm: int, tail: float) -> None:
    """For coefficients as even as can be and as uneven, all rows of an image end within a third of
    the rounds that there are."""
    dice = Dice(0)
    x, plain = dice.uniform(2, 800), dice.normal(2, 50, 800)
    rows = plain * 10 ** (tail * dice.normal(2, 50, 800))
    ball = Ball(x, radius=2.0 if norm == 1 else 0.5, norm=norm, lower=0.0, upper=1.0)
    found = ball.resolve((800,))
    assert isinstance(found, NormBall)
    limits = {"ROUNDS": spread.ROUNDS // 3, "SHARE": 1000}  # with a search for all
    with mock.patch.multiple(spread, **limits):
        below = found.minimum_below(rows)
    value, size = found.minimum(rows), magnitude(found, rows)
    assert ((below - value).abs() <= 1e-11 * size).all()


# -- projection ------------------------------------------------------------------------------------


@given(drawn(), st.sampled_from([0.1, 1.0, 30.0]))
def test_projection_is_the_nearest_point(case: Drawn, far: float) -> None:
    """⟨p − x, s − x⟩ ≤ 0 for every point s of the set: at the worst, and at drawn ones."""
    ball = case.ball()
    p = far * Dice(case.seed + 2).normal(3, 8, *case.shape) + ball.centre.unsqueeze(1)
    x = ball.project(p)
    assert ball.contains(x).all()
    assert excess(ball, x) <= 1e-14
    away = (p - x).flatten(2)
    size = (away.abs() * (p.abs() + x.abs()).flatten(2)).sum(2)
    slack = (1e-8 if case.where == "outside" else 1e-13) * (1 + size)
    worst = -ball.minimum(x - p) - (away * x.flatten(2)).sum(2)
    assert (worst <= slack).all()
    s = points(ball, 50).flatten(2)
    inner = torch.einsum("bpn,bpsn->bps", away, s.unsqueeze(1) - x.flatten(2).unsqueeze(2))
    assert (inner.amax(2) <= slack).all()


@given(drawn())
def test_points_of_the_set_stay_where_they_are(case: Drawn) -> None:
    ball = case.ball()
    for x in (points(ball, 20), ball.project(9 * points(ball, 20))):
        assert torch.equal(ball.project(x), x)


@given(drawn())
def test_contains_tells_the_inside_from_the_outside(case: Drawn) -> None:
    ball, x, centre = case.ball(), points(case.ball(), 30), case.ball().centre.unsqueeze(1)
    assert ball.contains(x).all()
    for end, step in ((ball.lower, -1e-9), (ball.upper, 1e-9)):
        beyond = x.clone()
        beyond.flatten(2)[:, :, -1] = end.flatten(1)[:, -1:] + step
        assert not ball.contains(beyond).any()
    further = torch.minimum(
        torch.maximum(centre + 1.01 * (x - centre), ball.lower.unsqueeze(1)),
        ball.upper.unsqueeze(1),
    )
    distance = torch.linalg.vector_norm((further - centre).flatten(2), case.norm, dim=2)
    outside = distance > ball.radius.unsqueeze(1) * (1 + 1e-12)
    assert not ball.contains(further)[outside].any()


# -- rounding --------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("size", [1.0, 1e-25, 1e15])
def test_many_coordinates(norm: int, dtype: torch.dtype, where: str, size: float) -> None:
    """As many as a colour image has, and lengths whose squares leave the range of float32."""
    case = Drawn(norm, (3, 32, 32), where, 0.05, 3)
    ball = case.ball(dtype).convert(lambda tensor: tensor * size)
    rows = case.rows(dtype)[:, [0, 1, 2, 4, 5]]
    exact = ball.convert(lambda tensor: tensor.double()).minimum(rows.double())
    x = ball.argmin(rows)
    assert ball.contains(x).all()
    assert ball.contains(ball.project(ball.centre.unsqueeze(1) + size * rows)).all()
    rounding = 64 * torch.finfo(dtype).eps * magnitude(ball, rows).double()
    attained = (rows.double() * x.double()).flatten(2).sum(2)
    assert (ball.minimum(rows).double() <= exact + rounding).all()
    assert (exact <= ball.minimum(rows).double() + 16 * rounding).all()
    assert (attained <= exact + 16 * rounding).all()


@both
def test_points_far_from_the_origin_are_not_rounded_out_of_a_small_ball(norm: int) -> None:
    x, rows = 1 + Dice(0).uniform(2, 50), Dice(1).normal(2, 40, 50)
    ball = Ball(x, radius=1e-12, norm=norm).resolve((50,))
    assert isinstance(ball, NormBall)
    for found in (ball.argmin(rows), ball.project(x.unsqueeze(1) + rows)):
        assert ball.contains(found).all()
        assert excess(ball, found) <= 1e-14


@given(drawn())
def test_nan_stays_nan(case: Drawn) -> None:
    ball, rows = case.ball(), case.rows()
    for coordinate in range(math.prod(case.shape)):
        broken = rows.clone()
        broken.flatten(2)[:, :, coordinate] = math.nan
        assert ball.minimum(broken).isnan().all()
        assert not ball.contains(ball.project(broken)).any()
        assert not (ball.minimum(broken.nan_to_num(nan=math.inf)) > -math.inf).any()


# -- gradients -------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("where", ["inside", "corner", "outside"])
@pytest.mark.parametrize("reach", [0.05, 0.3, 0.7, 2.0])
def test_gradients_are_those_of_finite_differences(norm: int, where: str, reach: float) -> None:
    """With respect to the rows, the centre, the radius and both ends of the box."""
    case = Drawn(norm, (2, 3), where, reach, 11)
    ball, rows = case.ball(), case.rows()[:, :1]
    dice = Dice(4)
    # Away from kinks: no coordinate fixed, no centre on a face.
    upper = ball.upper + 0.3 * dice.uniform(*ball.upper.shape) + 0.1
    lower = ball.lower - 0.3 * dice.uniform(*ball.upper.shape) - 0.1
    given = [t.detach().requires_grad_() for t in (rows, ball.centre, ball.radius, lower, upper)]

    def minimum(rows: Tensor, x: Tensor, radius: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        box: dict[str, Any] = {"lower": lower, "upper": upper}
        return Ball(x, radius=radius, norm=norm, **box).resolve((2, 3)).minimum(rows)

    assert torch.autograd.gradcheck(minimum, given, eps=1e-7, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("minimum", ["minimum", "minimum_below"])
@given(case=drawn())
def test_the_gradient_in_the_rows_is_a_minimiser(minimum: str, case: Drawn) -> None:
    """Finite and a point of the set, also where there are ties and zeros."""
    ball, rows = case.ball(), case.rows().requires_grad_()
    (gradient,) = torch.autograd.grad(getattr(ball, minimum)(rows).sum(), rows)
    assert ((gradient - ball.project(gradient)).abs() <= 1e-7).all()
    attained = (gradient * rows).flatten(2).sum(2)
    slack = 1e-9 * magnitude(ball, rows)
    assert ((attained - ball.minimum(rows)).abs() <= slack).all()


@both
def test_gradients_are_finite_where_the_set_is_a_point(norm: int) -> None:
    x = torch.zeros(1, 3).double().requires_grad_()
    radius, rows = torch.zeros(1).double().requires_grad_(), torch.zeros(1, 2, 3).double()
    rows[0, 0, 1] = 2.0
    rows.requires_grad_()
    value = Ball(x, radius=radius, norm=norm, upper=0.0).resolve((3,)).minimum(rows)
    for gradient in torch.autograd.grad(value.sum(), (x, radius, rows)):
        assert torch.isfinite(gradient).all()


# -- balls as the user writes them -----------------------------------------------------------------


@pytest.mark.parametrize(("norm", "kind"), [(1, L1Ball), (2.0, L2Ball), (math.inf, Box)])
def test_norms(norm: float, kind: type) -> None:
    assert type(Ball(torch.zeros(3), radius=1.0, norm=norm).resolve((3,))) is kind


@both
@pytest.mark.parametrize("shape", [(), (1,), (2,), (2, 1, 1)])
def test_radius_of_each_input(norm: int, shape: tuple[int, ...]) -> None:
    x, radius = torch.zeros(2, 1, 2), torch.tensor([0.5, 2.0])[: math.prod(shape)].reshape(shape)
    ball = Ball(x, radius=radius, norm=norm, upper=1.0).resolve((1, 2))
    expected = [0.5, 2.0 if radius.numel() == 2 else 0.5]
    assert isinstance(ball, NormBall)
    assert ball.radius.tolist() == expected
    assert ball.lower[:, 0, 1].tolist() == [-r for r in expected]
    assert ball.upper[:, 0, 1].tolist() == [min(r, 1.0) for r in expected]


def test_a_box_of_each_coordinate_counts() -> None:
    """What the box takes away, the bound gains: peers ignore it in every norm but ℓ∞."""
    x, upper = torch.zeros(1, 4).double(), torch.tensor([0.1, 0.2, 9.0, 0.0], dtype=torch.float64)
    c = torch.full((1, 1, 4), -1.0).double()
    for norm, free, held in ((1, -1.0, -1.0), (2, -2.0, -0.3 - math.sqrt(0.95))):
        without = Ball(x, radius=1.0, norm=norm).resolve((4,))
        within = Ball(x, radius=1.0, norm=norm, upper=upper).resolve((4,))
        assert without.minimum(c).item() == pytest.approx(free)
        assert within.minimum(c).item() == pytest.approx(held)


@both
def test_convert_keeps_the_set(norm: int) -> None:
    ball = Drawn(norm, (2, 3), "outside", 0.3, 0).ball()
    single = ball.convert(lambda tensor: tensor.float())
    assert type(single) is type(ball)
    for name in ("lower", "upper", "centre", "radius"):
        assert torch.equal(getattr(single, name), getattr(ball, name).float())
    last = ball.convert(lambda tensor: tensor[2:])
    c = Dice(0).normal(3, 2, 2, 3)
    assert torch.equal(last.minimum(c[2:]), ball.minimum(c)[2:])
