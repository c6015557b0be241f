"""The property that names the project: the dual bound equals the LP optimum, asserted both ways.

`pytest -k dual_equals_lp`. The referee is `lp_reference`: the same relaxation, other code, another
solver.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import bounds
import lp_reference
from benchmarks.published import instances
from bounds import Relaxation, Status
from bounds.solution.soundness import soundly
from bounds.solvers.solve import Method
from tests.support.problems import Problem, problems

#: How far rounding may put a bound on the wrong side of the optimum, in units of max(1, |LP|).
ROUNDING = 1e-9
#: How far below the LP optimum an exact bound may be, in the same units.
EXACTNESS = 1e-6

ONE_PASS: tuple[Method, ...] = ("fixed_slope", "adaptive_slope")
EXACT: tuple[Method, ...] = ("interior_point", "simplex")
Optima = tuple[Tensor, Tensor, Tensor]


def referee_optima(relaxation: Relaxation) -> Optima:
    """What the referee's feasible point attains, what its multipliers prove, and the unit of every
    tolerance. The LP optimum lies between the two."""
    referee = lp_reference.solve(relaxation)
    assert (referee.status == "optimal").all(), referee.status
    lp = torch.from_numpy(referee.value)
    return lp, torch.from_numpy(referee.dual_value), lp.abs().clamp(min=1)


def assert_dual_equals_lp(relaxation: Relaxation, *methods: Method) -> None:
    """Compare exact methods, the interior point if none is given, and the one-pass bounds with the
    referee, which is asked once."""
    optima = referee_optima(relaxation)
    for method in methods or ("interior_point",):
        assert_equals(relaxation, method, optima)


def assert_equals(relaxation: Relaxation, method: Method, optima: Optima) -> None:
    lp, dual, unit = optima
    exact = bounds.solve(relaxation, method=method, sound=False)
    assert (exact.status == Status.OPTIMAL).all(), (exact.status, exact.gap)
    assert (exact.lower <= lp + ROUNDING * unit).all(), exact.lower - lp
    assert (lp - exact.lower <= EXACTNESS * unit).all(), lp - exact.lower
    assert (dual <= exact.upper + ROUNDING * unit).all(), dual - exact.upper
    assert (exact.gap <= 1e-9 * unit).all(), exact.gap
    # What rounding may have done is taken off sound bounds, and is little.
    sound = soundly(exact, relaxation)
    assert (sound.lower < exact.lower).all()
    assert (exact.upper < sound.upper).all()
    assert (lp - sound.lower <= EXACTNESS * unit).all(), lp - sound.lower
    assert (sound.upper - lp <= EXACTNESS * unit).all(), sound.upper - lp
    for one_pass in ONE_PASS:
        loose = bounds.solve(relaxation.double(), method=one_pass)
        assert (loose.lower <= exact.lower + ROUNDING * unit).all(), loose.lower - exact.lower
        assert (dual <= loose.upper + ROUNDING * unit).all(), dual - loose.upper


@pytest.mark.parametrize("intermediate", ["interval", "backward"])
@settings(max_examples=max(100, settings().max_examples))
@given(problem=problems())
def test_dual_equals_lp_on_drawn_networks(problem: Problem, intermediate: str) -> None:
    assert_dual_equals_lp(problem.relax(intermediate=intermediate), *EXACT)


@given(problem=problems())
def test_dual_equals_lp_with_adaptive_intermediate_bounds(problem: Problem) -> None:
    assert_dual_equals_lp(problem.relax(slope="adaptive"))


@given(problem=problems())
def test_dual_equals_lp_in_float32(problem: Problem) -> None:
    """A relaxation in float32 is data like any other: its LP is solved in float64."""
    network = problem.network.to(torch.float32)
    ball = dataclasses.replace(problem.ball, x=problem.ball.x.float())
    rows = bounds.Specification(problem.specification.C.float(), problem.specification.d)
    assert_dual_equals_lp(bounds.relax(network, ball, rows))


@given(problem=problems(norms=(2, 2, 2)))
def test_one_pass_bounds_are_around_the_cone_program(problem: Problem) -> None:
    """ℓ2 balls, where the referee is an interior point, exact to `EXACTNESS` alone."""
    relaxation = problem.relax()
    lp, dual, unit = referee_optima(relaxation)
    for method in ONE_PASS:
        solution = bounds.solve(relaxation, method=method)
        assert (solution.lower <= lp + EXACTNESS * unit).all(), solution.lower - lp
        assert (dual <= solution.upper + EXACTNESS * unit).all(), dual - solution.upper


PUBLISHED_MLPS = [
    ("experiment_1/ADV_MLP_A_0.1_npy", 0.05),
    ("experiment_1/ADV_MLP_B_0.03.pth", 0.03),
    ("experiment_1/ADV_MLP_B_0.05.pth", 0.05),
    ("experiment_1/ADV_MLP_B_0.1.pth", 0.1),
    ("experiment_1/LPD_MLP_B_0.1.pth", 0.1),
    ("experiment_1/LPD_MLP_B_0.2.pth", 0.2),
    ("experiment_1/LPD_MLP_B_0.3.pth", 0.3),
    ("experiment_1/LPD_MLP_B_0.4.pth", 0.4),
    ("experiment_1/NOR_MLP_B.pth", 0.02),
    ("experiment_2/mnist_MLP_2_100_NOR.pth", 0.02),
    ("experiment_2/mnist_MLP_2_100_LPD.pth", 0.1),
    ("experiment_2/mnist_MLP_9_100_LPD.pth", 0.05),
]


@pytest.mark.parametrize(("name", "radius"), PUBLISHED_MLPS)
def test_dual_equals_lp_on_published_mlps(shared_data: Path, name: str, radius: float) -> None:
    _, relaxation = instances.relaxation(shared_data, name, radius, slice(0, 2))
    assert_dual_equals_lp(relaxation, *EXACT)


@pytest.mark.parametrize(
    ("name", "radius"),
    [
        ("experiment_2/mnist_cnn_small_LPD.pth", 0.1),
        ("experiment_2/mnist_cnn_small_ADV.pth", 0.005),
        ("experiment_2/mnist_cnn_small_NOR.pth", 0.005),
        ("experiment_2/mnist_cnn_wide_1_LPD.pth", 0.1),
        ("experiment_2/mnist_cnn_wide_1_ADV.pth", 0.01),
        ("experiment_2/mnist_cnn_wide_1_NOR.pth", 0.005),
    ],
)
def test_dual_equals_lp_on_published_conv_nets(shared_data: Path, name: str, radius: float) -> None:
    _, relaxation = instances.relaxation(shared_data, name, radius, slice(1, 2))
    assert_dual_equals_lp(relaxation, *EXACT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "radius"),
    [
        ("experiment_2/mnist_MLP_9_100_NOR.pth", 0.02),
        ("experiment_2/mnist_MLP_9_100_ADV.pth", 0.05),
        ("experiment_2/mnist_cnn_small_NOR.pth", 0.02),
        ("experiment_2/mnist_cnn_wide_1_ADV.pth", 0.1),
    ],
)
def test_dual_equals_lp_on_hard_published_networks(
    shared_data: Path, name: str, radius: float
) -> None:
    _, relaxation = instances.relaxation(shared_data, name, radius, slice(0, 1))
    rows = torch.arange(3)
    assert_dual_equals_lp(relaxation.take(torch.arange(1), rows))
