"""Relaxations whose neurons are kept on one side of 0: nodes of branch and bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor, nn

import bounds
import lp_reference
from bounds import InvalidInputError, Relaxation, Status
from tests.support.networks import Dice, seeds
from tests.support.problems import NORMS, Problem, points, problems
from tests.support.refusals import refused

METHODS: dict[str, dict[str, Any]] = {
    "fixed_slope": {},
    "adaptive_slope": {},
    "optimised_slope": {"iteration_limit": 100},
    "interior_point": {},
    "simplex": {},
    "pdhg": {"iteration_limit": 2000},
}


def phases_at(relaxation: Relaxation, x: Tensor, seed: int) -> list[Tensor]:
    """About half of the unstable neurons, on the sides where they are at x (batch, 1, *shape)."""
    found: list[Tensor] = []

    def relu(_: int, pre: Tensor) -> Tensor:
        found.append(pre)
        return pre.clamp(min=0)

    relaxation.network.evaluate(x.flatten(0, 1), relu)
    dice = Dice(seed)
    return [
        torch.where(neurons.unstable & (dice.uniform(*pre.shape) < 0.5), pre.sign(), 0.0)
        for neurons, pre in zip(relaxation.relu_bounds, found, strict=True)
    ]


def split(problem: Problem, seed: int) -> tuple[Relaxation, Relaxation, Sequence[Tensor]]:
    relaxation = problem.relax()
    phases = phases_at(relaxation, points(problem.input_set, 1, seed), seed)
    side = relaxation.split(phases)
    assume(side.is_split)
    return relaxation, side, phases


@settings(max_examples=settings().max_examples // 3)
@given(problem=problems(norms=NORMS), seed=seeds)
def test_dual_equals_lp_on_split_relaxations(problem: Problem, seed: int) -> None:
    """The side has a point, so that the referee's optimum is a number."""
    relaxation, side, _ = split(problem, seed)
    referee = lp_reference.solve(side)
    assert (referee.status == "optimal").all(), referee.status
    lp, proved = torch.from_numpy(referee.value), torch.from_numpy(referee.dual_value)
    unit = lp.abs().clamp(min=1)
    doubt = (lp - proved).abs() + 1e-8 * unit
    for method, options in METHODS.items():
        if method in ("interior_point", "simplex") and problem.norm == 2:
            continue
        solution = bounds.solve(side, method=method, **options)  # type: ignore[arg-type]
        assert (solution.lower <= lp + doubt).all(), (method, solution.lower - lp)
        found = solution.status == Status.OPTIMAL
        if method != "optimised_slope":  # whose gap is 1e-3
            assert ((lp - solution.lower).abs() <= 2e-6 * unit + doubt)[found].all(), method
        if method == "interior_point":
            # A point that keeps to its side exactly is not always found, and then no proof of it.
            assert (lp - solution.lower <= 1e-3 * unit + doubt).all(), solution.status
    whole = bounds.solve(relaxation, method="exact", iteration_limit=2000)
    assert (whole.lower <= lp + 1e-6 * unit + doubt).all()


@given(problem=problems(), seed=seeds)
def test_both_sides_hold_what_the_network_attains(problem: Problem, seed: int) -> None:
    """Every point of the set is on one of the two sides, where the bound lies below its value."""
    relaxation = problem.relax()
    where = [k for k, neurons in enumerate(relaxation.relu_bounds) if neurons.unstable.any()]
    assume(where)
    k = where[seed % len(where)]
    neuron = relaxation.relu_bounds[k].unstable.flatten(1).to(torch.uint8).argmax(1)
    x = points(problem.input_set, 32, seed)
    found: list[Tensor] = []

    def relu(_: int, pre: Tensor) -> Tensor:
        found.append(pre)
        return pre.clamp(min=0)

    y = relaxation.network.evaluate(x.flatten(0, 1), relu).unflatten(0, x.shape[:2])
    values = torch.einsum("bsn,bpn->bps", relaxation.C.flatten(2), y.flatten(2))
    values = values + relaxation.d.unsqueeze(1)
    pre = found[k].unflatten(0, x.shape[:2]).flatten(2)
    pre = pre.gather(2, neuron.reshape(-1, 1, 1).expand(-1, pre.shape[1], 1)).squeeze(2)
    unstable = relaxation.relu_bounds[k].unstable
    for sign in (1.0, -1.0):
        phases = [torch.zeros_like(neurons.lower) for neurons in relaxation.relu_bounds]
        flat = phases[k].flatten(1)
        flat.scatter_(1, neuron.unsqueeze(1), sign)
        phases[k] = torch.where(unstable, flat.reshape(phases[k].shape), 0.0)
        here = (pre * sign >= 0) | ~unstable.flatten(1).any(1, keepdim=True)
        for method in ("fixed_slope", "adaptive_slope", "interior_point"):
            lower = bounds.solve(relaxation.split(phases), method=method).lower  # type: ignore[arg-type]
            assert (lower.unsqueeze(1) <= values)[here].all(), method


def test_a_side_without_points_has_no_bound() -> None:
    """x ≥ 0 and x + 1 ≤ 0: d grows beyond all bounds."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    model.requires_grad_(False)
    model[0].weight.copy_(torch.ones(2, 1))
    model[0].bias.copy_(torch.tensor([0.0, 1.0]))
    network = bounds.from_torch(model, (1,))
    ball = bounds.Ball(torch.zeros(1, 1, dtype=torch.float64), radius=2.0)
    rows = bounds.Specification(torch.tensor([[1.0]], dtype=torch.float64))
    relaxation = bounds.relax(network, ball, rows)
    side = relaxation.split([torch.tensor([[1.0, -1.0]])])
    for method in ("interior_point", "pdhg", "optimised_slope"):
        solution = bounds.solve(side, method=method, sign_only=True, iteration_limit=1000)  # type: ignore[arg-type]
        assert solution.lower.item() > 0
        assert solution.upper.item() == torch.inf


def test_what_holds_on_a_side_verifies_nothing() -> None:
    network = bounds.from_torch(nn.ReLU(), (1,), dtype=torch.float64)
    ball = bounds.Ball(torch.zeros(1, 1, dtype=torch.float64), radius=1.0)
    rows = bounds.Specification(torch.tensor([[1.0]]).double(), torch.tensor([2.0]).double())
    relaxation = bounds.relax(network, ball, rows)
    for method in ("fixed_slope", "exact"):
        solution = bounds.solve(relaxation.split([torch.ones(1, 1)]), method=method)  # type: ignore[arg-type]
        assert solution.lower.item() > 0
        assert solution.partial
        refused(lambda s=solution: s.verified, InvalidInputError, "one side of its splits")


@pytest.mark.parametrize(
    ("phases", "fragment"),
    [([], "0 ReLUs"), ([torch.zeros(2)], "shape (2,)"), ([torch.tensor([[1.0, 1.0]])], "unstable")],
)
def test_splits_that_are_none(phases: list[Tensor], fragment: str) -> None:
    network = bounds.from_torch(nn.ReLU(), (2,), dtype=torch.float64)
    ball = bounds.Ball(torch.tensor([[0.0, 5.0]], dtype=torch.float64), radius=1.0)
    relaxation = bounds.relax(network, ball, bounds.margins(0, classes=2))
    refused(lambda: relaxation.split(phases), InvalidInputError, "Relaxation.split", fragment)
