"""Solves that stop at the sign: what they say is true, and they stop early."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given

import bounds
import lp_reference
from bounds import Relaxation, Status
from bounds.models import load_digits_images, load_digits_model
from bounds.solvers.goal import Goal
from tests.support.problems import Problem, problems

METHODS = ("interior_point", "simplex", "pdhg", "optimised_slope")


@pytest.mark.parametrize("method", METHODS)
@given(problem=problems())
def test_signs_are_those_of_the_referee(method: Any, problem: Problem) -> None:
    relaxation = problem.relax()
    options = {"iteration_limit": 40} if method == "pdhg" else {}
    solution = bounds.solve(relaxation, method=method, sign_only=True, **options)
    optimum = torch.from_numpy(lp_reference.solve(relaxation).dual_value)
    slack = 1e-7 * (1 + optimum.abs())
    assert (solution.lower <= optimum + slack).all()
    assert (solution.upper >= optimum - slack).all()
    decided = solution.status == Status.SIGN
    assert ((solution.lower > 0) | (solution.upper < 0))[decided].all()
    assert ((solution.lower > 0) == (optimum > 0))[decided & (optimum.abs() > slack)].all()


@pytest.fixture(scope="module")
def digits() -> Relaxation:
    images, labels = load_digits_images()
    network = bounds.from_torch(
        load_digits_model("digits_standard"), (1, 8, 8), dtype=torch.float64
    )
    ball = bounds.Ball(images[:2].double(), radius=0.05, lower=0.0, upper=1.0)
    return bounds.relax(network, ball, bounds.margins(labels[:2], 10)).double()


@pytest.mark.parametrize("method", METHODS)
def test_fewer_iterations_where_the_optimum_is_far_from_0(method: Any, digits: Relaxation) -> None:
    exact = bounds.solve(digits, method="interior_point")
    # Rows a tenth above 0, and a tenth below.
    size = exact.lower.abs().amax()
    shifted = replace(digits, d=digits.d - exact.lower + size / 10)
    shifted.d[:, ::2] -= size / 5
    options = {"tolerance": 1e-4}
    closed = bounds.solve(shifted, method=method, **options)
    signs = bounds.solve(shifted, method=method, sign_only=True, **options)
    assert (signs.status == Status.SIGN).any()
    assert signs.iterations.sum() < closed.iterations.sum()
    assert (signs.upper[:, ::2] < 0).all()
    assert (signs.lower[:, 1::2] > 0).all()


def test_rounding_decides_no_sign() -> None:
    """Bounds that are on one side of 0 by less than what they can be off by."""
    goal = Goal(1e-9, sign_only=True)
    lower, upper = torch.tensor([1e-13, 1e-3, -1.0, -1.0]), torch.tensor([1.0, 1.0, -1e-13, -1e-3])
    closed, decided = goal.reached(lower, upper, upper - lower, 0 * lower + 1, 0 * lower + 1e-12)
    assert decided is not None
    assert decided.tolist() == [False, True, False, True]
    assert not closed.any()


def test_bounds_that_contradict_each_other_decide_no_sign() -> None:
    goal = Goal(1e-9, sign_only=True)
    lower, upper = torch.tensor([2.0]), torch.tensor([1.0])
    answers = goal.reached(lower, upper, upper - lower, lower + upper, 0 * lower + 1e-12)
    assert not any(answer is None or answer.any() for answer in answers)
