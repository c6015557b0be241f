"""FGS and PGD: they stay in their set, reach known optima, and contradict no proof."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
from bounds import Ball, InvalidInputError
from bounds.models import load_digits_images, load_digits_model
from tests.support.networks import Dice
from tests.support.problems import NORMS, Problem, problems

STEPS = 5


def of(problem: Problem) -> tuple[nn.Sequential, Tensor, Tensor, dict[str, Any]]:
    """The network of a problem, its centres, labels, and its ball's options."""
    ball = problem.ball
    outputs = math.prod(problem.network.output_shape)
    y = Dice(problem.seed + 3).below(outputs, problem.batch)
    # Cross-entropy takes (batch, classes).
    model = nn.Sequential(problem.model, nn.Flatten())
    options = {
        "radius": ball.radius,
        "norm": ball.norm,
        "lower": ball.lower,
        "upper": ball.upper,
    }
    return model, ball.x, y, options


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(model(x), y, reduction="none")


def wrong(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) != y


def pgd(*arguments: Any, seed: int = 0, **options: Any) -> Tensor:
    return bounds.pgd(*arguments, generator=torch.Generator().manual_seed(seed), **options)


@given(problems(norms=NORMS), st.sampled_from([torch.float64, torch.float32]))
def test_points_lie_in_the_ball_and_the_box(problem: Problem, dtype: torch.dtype) -> None:
    model, x, y, options = of(problem)
    model, x = model.to(dtype), x.to(dtype)
    input_set = Ball(x, **options).resolve(x.shape[1:])
    for points in (bounds.fgs(model, x, y, **options), pgd(model, x, y, steps=STEPS, **options)):
        assert points.dtype == dtype
        assert points.shape == x.shape
        assert input_set.contains(points.unsqueeze(1)).all()
        # As exact numbers, too, wherever the set's own nearest point is provably in it.
        nearest = input_set.inside(input_set.project(x.unsqueeze(1)))[1]
        moved, proved = input_set.inside(points.unsqueeze(1))
        assert (proved | ~nearest).all()
        assert torch.equal(moved.squeeze(1), points)


@given(problems(norms=NORMS))
def test_no_point_contradicts_a_bound(problem: Problem) -> None:
    """The robust loss is above that of every attack, and what is broken is not certified."""
    model, x, y, options = of(problem)
    above = bounds.robust_loss(model, x, y, reduction="none", **options)
    for points in (x, bounds.fgs(model, x, y, **options), pgd(model, x, y, steps=STEPS, **options)):
        inside = Ball(x, **options).resolve(x.shape[1:]).contains(points.unsqueeze(1)).squeeze(1)
        found = loss(model, points, y)
        assert (~inside | (above.loss >= found - 1e-9 * (1 + found))).all()
        assert (~inside | ~wrong(model, points, y) | above.error).all()


@given(problems(norms=NORMS))
def test_more_work_finds_no_better_answer(problem: Problem) -> None:
    """x, FGS, PGD, PGD with restarts: each is answered wrongly if the one before is, and has no
    smaller loss unless it alone is answered wrongly."""
    model, x, y, options = of(problem)
    start = Ball(x, **options).resolve(x.shape[1:]).project(x.unsqueeze(1)).squeeze(1)
    chain = [
        start,
        bounds.fgs(model, x, y, **options),
        pgd(model, x, y, steps=STEPS, **options),
        pgd(model, x, y, steps=STEPS, restarts=3, **options),
    ]
    for less, more in itertools.pairwise(chain):
        fooled, before = wrong(model, more, y), wrong(model, less, y)
        losses, slack = loss(model, less, y), 1e-6  # the start itself may have been moved inside
        grown = loss(model, more, y) >= losses - slack * (1 + losses)
        assert (before <= fooled).all()
        assert (grown | (fooled & ~before)).all()


@pytest.mark.parametrize("norm", [math.inf, 2, 1])
@pytest.mark.parametrize("clip", [False, True])
def test_the_optimum_of_two_affine_logits_is_reached(norm: float, clip: bool) -> None:
    """The loss of two classes rises with one affine margin, whose optimum is a support function."""
    dice = Dice(7)
    model = nn.Sequential(nn.Linear(6, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(dice.normal(2, 6))
        model[0].bias.copy_(dice.normal(2))
    x, y = dice.uniform(5, 6), dice.below(2, 5)
    radius = torch.tensor([0.05, 0.1, 0.2, 0.4, 0.8], dtype=torch.float64)
    options: dict[str, Any] = {"radius": radius, "norm": norm}
    options |= {"lower": 0.0, "upper": 1.0} if clip else {}
    input_set = Ball(x, **options).resolve((6,))
    margin = (model[0].weight[y] - model[0].weight[1 - y]).detach()
    offset = (model[0].bias[y] - model[0].bias[1 - y]).detach()
    smallest = input_set.minimum(margin.unsqueeze(1)).squeeze(1) + offset
    optimum = F.softplus(-smallest)
    torch.testing.assert_close(
        loss(model, bounds.fgs(model, x, y, **options), y), optimum, rtol=1e-9, atol=0
    )
    far = pgd(model, x, y, steps=200, **options)
    torch.testing.assert_close(loss(model, far, y), optimum, rtol=1e-9, atol=0)


@pytest.mark.parametrize("norm", [math.inf, 2, 1])
def test_a_gradient_whose_square_underflows_is_followed(norm: float) -> None:
    """At a margin of 70, the gradient of the loss is about 1e-30, in float32."""
    model = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        model[0].bias.copy_(torch.tensor([70.0, 0.0]))
    x, y = torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)
    points = pgd(model, x, y, radius=1.0, norm=norm, steps=200)
    worst = {math.inf: [-1.0, -1.0], 2: [-0.6, -0.8], 1: [0.0, -1.0]}[norm]
    torch.testing.assert_close(points, torch.tensor([worst]), rtol=0, atol=1e-3)


def test_pgd_finds_what_fgs_does_not() -> None:
    """Of the shipped network that was trained for accuracy alone; and restarts find more."""
    model, (x, y) = load_digits_model("digits_standard"), load_digits_images()
    options: dict[str, Any] = {"radius": 0.1, "lower": 0.0, "upper": 1.0}
    one = loss(model, bounds.fgs(model, x, y, **options), y)
    many = loss(model, pgd(model, x, y, **options), y)
    assert many.mean() > one.mean() + 0.1
    restarted = loss(model, pgd(model, x, y, restarts=5, **options), y)
    assert restarted.sum() > many.sum()


@pytest.mark.parametrize("name", ["digits_standard", "digits_robust"])
@pytest.mark.parametrize(("norm", "radius"), [(math.inf, 0.1), (2, 0.5)])
@pytest.mark.parametrize("box", [{}, {"lower": 0.0, "upper": 1.0}])
def test_errors_come_in_their_order(
    name: Any, norm: float, radius: float, box: dict[str, float]
) -> None:
    model, (x, y) = load_digits_model(name).double(), load_digits_images()
    x, options = x.double(), {"radius": radius, "norm": norm, **box}
    clean = wrong(model, x, y)
    one = wrong(model, bounds.fgs(model, x, y, **options), y)
    many = wrong(model, pgd(model, x, y, restarts=2, **options), y)
    certified = bounds.robust_loss(model, x, y, reduction="none", **options).error
    for less, more in ((clean, one), (one, many), (many, certified)):
        assert (less <= more).all()
    assert many.any()


def test_nothing_of_the_model_changes() -> None:
    """Neither its mode, nor gradients that wait there, nor the centres; without gradients, too."""
    model, (x, y) = load_digits_model("digits_robust").train(), load_digits_images()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = x.clone()
    with torch.no_grad():
        points = pgd(model, x, y, radius=0.1)
    bounds.fgs(model, x, y, radius=0.1)
    assert model.training
    assert torch.equal(x, before)
    assert not points.requires_grad
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())


def test_the_generator_decides() -> None:
    model, (x, y) = load_digits_model("digits_standard"), load_digits_images()
    state = torch.random.get_rng_state()
    first, again, other = (pgd(model, x, y, radius=0.3, steps=3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"pgd\(steps=0\): expected a whole number of at least 1"),
        ({"steps": 2.0}, r"pgd\(steps=2.0\)"),
        ({"restarts": True}, r"pgd\(restarts=True\)"),
        ({"step": 0.0}, r"pgd\(step=0.0\): expected a positive number"),
        ({"step": math.nan}, r"pgd\(step=nan\)"),
        ({"radius": -0.1}, r"Ball\(radius\)"),
        ({"lower": 2.0}, "no point in common"),
        ({"y": torch.full((16,), 10)}, r"pgd\(y\) has 10"),
        ({"y": torch.zeros(3, dtype=torch.int64)}, r"got y of shape \(3,\), labels for 16 inputs"),
        ({"x": torch.zeros(16, 1, 8, 8, dtype=torch.float64)}, "network in torch.float32 on cpu"),
    ],
)
def test_what_cannot_be_used_is_refused(options: dict[str, Any], message: str) -> None:
    x, y = load_digits_images()
    arguments = {"x": x, "y": y, "radius": 0.1} | options
    with pytest.raises(InvalidInputError, match=message):
        bounds.pgd(load_digits_model("digits_robust"), **arguments)


def test_active_dropout_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10)).train()
    x, y = load_digits_images()
    with pytest.raises(bounds.BoundsError, match="eval"):
        bounds.fgs(model, x, y, radius=0.1)
