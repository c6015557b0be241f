"""No bound lies above what the original module attains: by samples, by attack, and by the MILP."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

import bounds
import lp_reference
from benchmarks.published import instances
from bounds import Ball, Relaxation
from bounds.sets.norm_balls import L2Ball
from tests.support.problems import NORMS, Problem, points, problems
from tests.support.referee import random_net

METHODS = ("fixed_slope", "adaptive_slope", "interior_point", "simplex", "pdhg")


def attained(model: nn.Module, relaxation: Relaxation, x: Tensor) -> Tensor:
    """Each row's smallest value over the points x (batch, points, *input_shape)."""
    batch, count = x.shape[:2]
    with torch.no_grad():
        outputs = model(x.flatten(0, 1)).reshape(batch, count, -1)
    values = torch.einsum("bso,bpo->bsp", relaxation.C.flatten(2), outputs)
    return (values + relaxation.d.unsqueeze(2)).amin(2)


def attack(model: nn.Module, relaxation: Relaxation, *, steps: int = 20) -> Tensor:
    """Projected sign-gradient descent on every row, from the centre: points (batch, rows, …)."""
    lower, upper = relaxation.input_set.lower.unsqueeze(1), relaxation.input_set.upper.unsqueeze(1)
    batch, rows = relaxation.C.shape[:2]
    middle = relaxation.input_set.project((lower + upper) / 2)
    x = middle.expand(-1, rows, *[-1] * (lower.dim() - 2)).clone()
    best, smallest = x.clone(), torch.full((batch, rows), torch.inf, dtype=x.dtype)
    for step in range(steps):
        x.requires_grad_(True)
        outputs = model(x.flatten(0, 1)).reshape(batch, rows, -1)
        values = (outputs * relaxation.C.flatten(2)).sum(2)
        (gradient,) = torch.autograd.grad(values.sum(), x)
        improved = (values < smallest).detach()
        smallest = torch.where(improved, values.detach(), smallest)
        best = torch.where(improved.reshape(batch, rows, *[1] * (x.dim() - 2)), x.detach(), best)
        length = (upper - lower) / 2 ** (1 + step // 4)
        x = relaxation.input_set.project(x - length * gradient.sign()).detach()
    return best


def assert_below(relaxation: Relaxation, values: Tensor) -> None:
    """Every method's lower bound is at most what the module attains, up to rounding."""
    slack = 1e-10 * values.abs().clamp(min=1)
    for method in METHODS:
        if method in ("interior_point", "simplex") and isinstance(relaxation.input_set, L2Ball):
            continue
        # Every iterate is a bound, wherever the method is cut short.
        limit = {"iteration_limit": 100} if method == "pdhg" else {}
        lower = bounds.solve(relaxation, method=method, **limit).lower  # type: ignore[arg-type]
        assert (lower <= values + slack).all(), (method, lower - values)


@pytest.mark.parametrize("intermediate", ["interval", "backward"])
@given(problem=problems(norms=NORMS))
def test_bounds_are_below_samples_and_attacks(problem: Problem, intermediate: str) -> None:
    relaxation = problem.relax(intermediate=intermediate)
    model = problem.model
    sampled = attained(model, relaxation, points(relaxation.input_set, 200))
    attacked = attained(model, relaxation, attack(model, relaxation))
    assert_below(relaxation, torch.minimum(sampled, attacked))


@given(problem=problems())
def test_bounds_are_below_the_exact_minimum(problem: Problem) -> None:
    relaxation = problem.relax()
    exact = lp_reference.solve(relaxation, milp=True)
    assert (exact.status == "optimal").all(), exact.status
    minimum = torch.from_numpy(exact.value)
    assert_below(relaxation, minimum)
    # The minimum is attained: by the MILP's own input, through the original module.
    batch, rows = relaxation.C.shape[:2]
    outputs = problem.model(torch.from_numpy(exact.x).flatten(0, 1)).reshape(batch, rows, -1)
    replayed = (outputs * relaxation.C.flatten(2)).sum(2) + relaxation.d
    torch.testing.assert_close(replayed, minimum, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("norm", "radius"), [(1, 2.0), (2, 1.0), (math.inf, 0.5)])
def test_the_box_counts_in_every_norm(norm: float, radius: float) -> None:
    """From a corner of [0, 1]⁶: bounds on ball and box are tighter than on either, and sound."""
    network, x = random_net(6, 12, 12, 3, seed=3), torch.zeros(1, 6, dtype=torch.float64)
    rows = bounds.margins(0, 3)
    both = bounds.relax(network, Ball(x, radius=radius, norm=norm, lower=0.0, upper=1.0), rows)
    ball = bounds.relax(network, Ball(x, radius=radius, norm=norm), rows)
    box = bounds.relax(network, bounds.Box(x, x + 1), rows)
    values = (network(points(both.input_set, 5000)[0]) @ both.C[0].mT).amin(0)
    for method in ("fixed_slope", "adaptive_slope", "exact"):
        lower, *loose = (
            bounds.solve(relaxation, method=method).lower[0]  # type: ignore[arg-type]
            for relaxation in (both, ball, box)
        )
        assert all((lower > other + 0.01).all() for other in loose)
        assert (lower <= values).all()


@pytest.mark.parametrize(
    ("name", "radius"),
    [
        ("experiment_1/NOR_MLP_B.pth", 0.02),
        ("experiment_1/LPD_MLP_B_0.1.pth", 0.1),
        ("experiment_2/mnist_MLP_9_100_LPD.pth", 0.05),
        ("experiment_2/mnist_cnn_small_LPD.pth", 0.1),
    ],
)
def test_bounds_are_below_attacks_on_published_networks(
    shared_data: Path, name: str, radius: float
) -> None:
    model, relaxation = instances.relaxation(shared_data, name, radius, slice(0, 3))
    assert_below(relaxation, attained(model, relaxation, attack(model, relaxation)))
