"""Optimised slopes as a method: between the one-pass bounds and the LP, and how a solve ends."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
import lp_reference
from benchmarks.published import instances
from bounds import Box, Relaxation, ReluBounds, Solution, Status
from bounds.models import load_digits_images, load_digits_model
from bounds.solvers.slopes import optimised_slope
from bounds.solvers.slopes.ascent import SlopeAscent
from tests.support.networks import Architecture, Dense, Relu
from tests.support.problems import NORMS, Problem, problems

#: How far rounding may put a bound on the wrong side of another, in units of max(1, |bound|).
ROUNDING = 1e-9


def solve(relaxation: Relaxation, **options: float) -> Solution:
    return bounds.solve(relaxation, method="optimised_slope", **options)  # type: ignore[arg-type]


def start(relaxation: Relaxation) -> Tensor:
    """The better of the one-pass bounds of each row."""
    fixed, adaptive = (
        bounds.solve(relaxation, method=method).lower.detach()
        for method in ("fixed_slope", "adaptive_slope")
    )
    return torch.maximum(fixed, adaptive)


def digits_relaxation(dtype: torch.dtype) -> Relaxation:
    """Three inputs of different sizes on the standard digits network, 9 rows each."""
    images, labels = load_digits_images()
    network = bounds.from_torch(load_digits_model("digits_standard"), (1, 8, 8), dtype=dtype)
    radius = torch.tensor([0.1, 0.02, 0.05], dtype=dtype)
    ball = bounds.Ball(images[:3].to(dtype), radius=radius, lower=0.0, upper=1.0)
    return bounds.relax(network.detach(), ball, bounds.margins(labels[:3], 10))


@pytest.fixture(scope="module")
def digits() -> Relaxation:
    return digits_relaxation(torch.float64)


# -- between the one-pass bounds and the optimum ---------------------------------------------------


@settings(max_examples=max(40, settings().max_examples))
@given(problem=problems(), intermediate=st.sampled_from(["interval", "backward", "optimised"]))
def test_between_the_one_pass_bounds_and_the_lp(problem: Problem, intermediate: str) -> None:
    relaxation = problem.relax(intermediate=intermediate)
    referee = lp_reference.solve(relaxation)
    assert (referee.status == "optimal").all(), referee.status
    lp = torch.from_numpy(referee.value)
    unit = lp.abs().clamp(min=1)
    solution = solve(relaxation, tolerance=1e-3, iteration_limit=200)
    assert (solution.lower >= start(relaxation) - ROUNDING * unit).all()
    assert (solution.lower <= lp + ROUNDING * unit).all(), solution.lower - lp
    assert (solution.upper >= lp - ROUNDING * unit).all(), solution.upper - lp
    optimal = solution.status == Status.OPTIMAL
    assert (optimal | (solution.status == Status.ITERATION_LIMIT)).all()
    proved = solution.relative_gap <= 1e-3
    assert (proved | (solution.gap <= ROUNDING * unit))[optimal].all()
    assert (lp - solution.lower <= 2e-3 * unit)[optimal].all(), lp - solution.lower


@given(problem=problems(norms=(2,)), limit=st.integers(1, 30))
def test_never_below_its_start_on_any_ball(problem: Problem, limit: int) -> None:
    relaxation = problem.relax()
    solution = solve(relaxation, iteration_limit=limit)
    unit = solution.lower.abs().clamp(min=1)
    assert (solution.lower >= start(relaxation) - ROUNDING * unit).all()
    assert (solution.lower <= solution.upper + ROUNDING * unit).all()


@given(problem=problems(norms=NORMS), limit=st.integers(1, 30))
def test_certificate_gives_the_bounds_again(problem: Problem, limit: int) -> None:
    relaxation = problem.relax()
    solution = solve(relaxation, iteration_limit=limit)
    again = solution.certificate
    assert torch.equal(again.lower(relaxation), solution.lower)
    assert torch.equal(again.upper(relaxation), solution.upper)


@given(problem=problems(), first=st.integers(1, 15), more=st.integers(1, 15))
def test_more_iterations_never_hurt(problem: Problem, first: int, more: int) -> None:
    relaxation = problem.relax()
    few = solve(relaxation, tolerance=1e-6, iteration_limit=first)
    many = solve(relaxation, tolerance=1e-6, iteration_limit=first + more)
    unit = few.lower.abs().clamp(min=1)
    assert (many.lower >= few.lower - ROUNDING * unit).all()
    assert (many.iterations >= few.iterations).all()


@pytest.mark.parametrize(
    ("name", "radius"),
    [
        ("experiment_2/mnist_MLP_2_100_NOR.pth", 0.02),
        ("experiment_2/mnist_MLP_9_100_LPD.pth", 0.05),
        ("experiment_2/mnist_cnn_small_LPD.pth", 0.1),
    ],
)
def test_closes_the_gap_on_published_networks(shared_data: Path, name: str, radius: float) -> None:
    _, relaxation = instances.relaxation(shared_data, name, radius, slice(0, 2))
    exact = bounds.solve(relaxation, method="interior_point")
    solution = solve(relaxation)
    assert (solution.status == Status.OPTIMAL).all()
    assert (solution.relative_gap <= 1e-3).all()
    assert (solution.lower <= exact.upper + ROUNDING * exact.upper.abs()).all()
    assert (exact.lower - solution.lower <= 1e-3 * exact.lower.abs()).all()


# -- how a solve ends ------------------------------------------------------------------------------


def test_each_lp_leaves_the_batch_when_its_gap_has_closed(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def advance(self: SlopeAscent) -> None:
        sizes.append(self.best.numel())
        original(self)

    original = SlopeAscent.advance
    monkeypatch.setattr(SlopeAscent, "advance", advance)
    solution = solve(digits, tolerance=1e-3)
    assert (solution.status == Status.OPTIMAL).all()
    assert (solution.relative_gap <= 1e-3).all()
    assert len(solution.iterations.unique()) > 2
    assert len(sizes) == int(solution.iterations.max())
    assert sizes[0] == 27
    assert sizes[-1] <= 9
    exact = bounds.solve(digits, method="interior_point")
    assert (solution.lower <= exact.upper + ROUNDING).all()
    assert (solution.upper >= exact.lower - ROUNDING).all()


def test_a_looser_tolerance_takes_fewer_iterations(digits: Relaxation) -> None:
    loose, tight = solve(digits, tolerance=1e-1), solve(digits, tolerance=1e-4)
    assert (loose.status == Status.OPTIMAL).all()
    assert (loose.iterations <= tight.iterations).all()
    assert loose.iterations.sum() < tight.iterations.sum() / 2


def test_iteration_limit_is_said(digits: Relaxation) -> None:
    solution = solve(digits, iteration_limit=3)
    limited = solution.status == Status.ITERATION_LIMIT
    assert limited.any()
    assert (solution.iterations[limited] == 3).all()
    assert (limited | (solution.status == Status.OPTIMAL)).all()
    assert (solution.lower >= start(digits) - ROUNDING).all()


def test_time_limit_is_said(digits: Relaxation) -> None:
    solution = solve(digits, time_limit=1e-9)
    late = solution.status == Status.TIME_LIMIT
    assert late.any()
    assert (solution.iterations == 1).all()
    assert (solution.lower >= start(digits) - ROUNDING).all()
    assert torch.isfinite(solution.upper).all()


def test_nan_weights_are_a_numerical_error(digits: Relaxation) -> None:
    broken = replace(digits, network=digits.network.convert(lambda tensor: tensor * torch.nan))
    solution = solve(broken)
    assert (solution.status == Status.NUMERICAL_ERROR).all()
    assert not solution.verified.any()


def test_a_breakdown_on_the_way_keeps_what_was_found(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: SlopeAscent) -> Tensor:
        up = original(self)
        return up * torch.nan if self.iteration == 4 else up

    original = SlopeAscent._forward
    monkeypatch.setattr(SlopeAscent, "_forward", forward)
    solution = solve(digits, tolerance=1e-6)
    monkeypatch.undo()
    assert (solution.status == Status.NUMERICAL_ERROR).any()
    assert torch.isfinite(solution.lower).all()
    assert (solution.lower >= start(digits) - ROUNDING).all()
    three = solve(digits, tolerance=1e-6, iteration_limit=3)
    torch.testing.assert_close(solution.lower, three.lower)


def test_bounds_that_cut_off_every_point_are_never_optimal() -> None:
    """ẑ = x + 10 with −1 ≤ ẑ ≤ 1 leaves nothing: the LP is infeasible."""
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for layer, bias in ((model[0], 10.0), (model[2], 0.0)):
            layer.weight.fill_(1.0)  # type: ignore[union-attr, operator]
            layer.bias.fill_(bias)  # type: ignore[union-attr, operator]
    one = torch.ones(1, 1, dtype=torch.float64)
    solution = solve(
        Relaxation(
            bounds.from_torch(model, (1,)).detach(),
            Box(0 * one, one),
            one.reshape(1, 1, 1),
            torch.zeros(1, 1, dtype=torch.float64),
            (ReluBounds(-one, one),),
        )
    )
    assert (solution.status == Status.ITERATION_LIMIT).all()
    assert torch.isinf(solution.upper).all()
    assert not solution.verified.any()


def test_without_unstable_neurons_one_iteration_is_enough() -> None:
    architecture = Architecture((3,), (Dense(4), Relu(), Dense(2)), seed=3)
    problem = Problem(architecture, 2, 0.0, "number", clip=False, rows="random", seed=1)
    solution = solve(problem.relax())
    assert (solution.status == Status.OPTIMAL).all()
    assert (solution.iterations == 1).all()


# -- precisions, gradients, parts ------------------------------------------------------------------


@given(problem=problems(norms=NORMS))
def test_float32_bounds_hold_in_float64(problem: Problem) -> None:
    """Of the same relaxation, with no more than float64's rounding for tolerance."""
    relaxation = problem.relax().convert(lambda tensor: tensor.detach().float())
    solution = solve(relaxation, iteration_limit=60)
    assert solution.lower.dtype == solution.upper.dtype == torch.float32
    exact = bounds.solve(relaxation, method="exact")
    unit = exact.lower.abs().clamp(min=1)
    assert (solution.lower.double() <= exact.upper + ROUNDING * unit).all()
    assert (solution.upper.double() >= exact.lower - ROUNDING * unit).all()
    # Rounding of float32 may be all that a row gains over its start.
    assert (solution.lower >= start(relaxation) - 1e-4 * unit).all()
    again = solution.certificate.lower(relaxation)
    assert ((again - solution.lower).abs() <= 1e-4 * unit).all()


def test_float32_closes_its_gap() -> None:
    solution = solve(digits_relaxation(torch.float32), tolerance=1e-3)
    assert solution.lower.dtype == torch.float32
    assert (solution.status == Status.OPTIMAL).all()
    assert (solution.relative_gap <= 1e-3).all()


def test_tensors_that_require_gradients_are_left_alone() -> None:
    model = load_digits_model("digits_robust").double()
    images, labels = load_digits_images()
    ball = bounds.Ball(images[:1].double().requires_grad_(), radius=0.05)
    network = bounds.from_torch(model, (1, 8, 8))
    relaxation = bounds.relax(network, ball, bounds.margins(labels[:1], 10))
    solution = solve(relaxation)
    assert not solution.lower.requires_grad
    assert all(parameter.requires_grad for parameter in model.parameters())
    bounds.solve(relaxation, method="fixed_slope").lower.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_parts_do_not_change_the_answer(
    digits: Relaxation, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[torch.Size] = []

    def solve_together(part: Relaxation, *limits: float) -> Solution:
        parts.append(part.d.shape)
        return original(part, *limits)

    original = optimised_slope._solve_together
    whole = solve(digits, tolerance=1e-2)
    monkeypatch.setattr(optimised_slope, "_solve_together", solve_together)
    split = solve(digits, tolerance=1e-2, max_memory=8 * 5 * optimised_slope._numbers(digits))
    assert sum(math.prod(shape) for shape in parts) == digits.d.numel()
    assert max(math.prod(shape) for shape in parts) <= 5
    torch.testing.assert_close(split.lower, whole.lower, rtol=1e-6, atol=1e-6)
    assert torch.equal(split.iterations, whole.iterations)
    assert (split.status == Status.OPTIMAL).all()
