"""Certificates of relaxations that are split: about the inputs that are on their sides, and proved
again for these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import bounds
import lp_reference
from bounds import InvalidInputError
from tests.checker.test_checker import RULES, checked
from tests.solvers.test_splits import METHODS, phases_at
from tests.support.certificates import Arrays, edit, reasons, save
from tests.support.networks import seeds
from tests.support.problems import NORMS, Problem, points, problems
from tests.support.referee import random_relaxation
from tests.support.refusals import refused


@settings(max_examples=settings().max_examples // 4)
@given(
    problem=problems(norms=NORMS),
    seed=seeds,
    method=st.sampled_from([*METHODS]),
    rule=st.sampled_from(RULES),
)
def test_honest_ones_are_accepted(
    problem: Problem, seed: int, method: str, rule: dict[str, str]
) -> None:
    """And prove no more than the referee's optimum of the split LP."""
    assume(problem.norm != 2 or method not in ("interior_point", "simplex"))
    relaxation = problem.relax(**rule)
    x = points(problem.input_set, 1, seed)
    side = relaxation.split(phases_at(relaxation, x, seed))
    assume(side.is_split)
    solution, check = checked(side, method=method, **METHODS[method])
    assert check.accepted, reasons(check)
    assert check.partial
    assert not check.verified.any()
    assert (check.lower >= solution.lower.numpy()).all()
    assert (check.upper <= solution.upper.numpy()).all()
    referee = lp_reference.solve(side)
    unit = 1e-5 * (1 + np.abs(referee.value))
    found = referee.status == "optimal"
    assert (check.lower <= referee.value + unit)[found].all()
    assert (check.upper >= referee.value - unit)[found].all()


def one() -> tuple[bounds.Relaxation, bounds.Relaxation]:
    """A relaxation, and one side of it, which its LP gains by."""
    relaxation = random_relaxation(3, 6, 6, 2, seed=4, batch=1, radius=0.5)
    x = points(relaxation.input_set, 1, 3)
    return relaxation, relaxation.split(phases_at(relaxation, x, 1))


def test_optima_in_fractions(tmp_path: Path) -> None:
    whole, side = one()
    solution = save(tmp_path / "c", side, method="exact")
    check = bounds.check(tmp_path / "c", side.network, exact=True)
    assert check.accepted, reasons(check)
    assert check.optimum is not None
    optimum = check.optimum.astype(float)
    assert (optimum > bounds.solve(whole, method="exact").upper.numpy() + 1e-3).any()
    np.testing.assert_allclose(optimum, lp_reference.solve(side).value, atol=1e-7)
    assert (solution.lower.numpy() <= optimum).all()


def test_edits_are_rejected(tmp_path: Path) -> None:
    whole, side = one()
    path = tmp_path / "c"
    save(path, side, method="exact")
    [k, *_] = [k for k, neurons in enumerate(side.relu_bounds) if neurons.split is not None]
    [at, *_] = side.relu_bounds[k].side[0].nonzero().flatten().tolist()
    stable = [*whole.relu_bounds[k].stable[0].nonzero().flatten().tolist(), None][0]

    def turned(arrays: Arrays) -> None:
        arrays[f"relu.{k}.side"][0, at] *= -1

    def forgotten(arrays: Arrays) -> None:
        arrays[f"relu.{k}.side"][0, at] = 0

    def of_all(arrays: Arrays) -> None:
        for name in [name for name in arrays if name.endswith(".side")]:
            del arrays[name]

    def higher(arrays: Arrays) -> None:
        arrays["lower"] += 1e-3

    def tighter(arrays: Arrays) -> None:
        """What a split leaves is no bound on the whole set."""
        arrays[f"relu.{k}.lower"] = side.relu_bounds[k].lower.numpy() - 1e-9
        arrays[f"relu.{k}.upper"] = side.relu_bounds[k].upper.numpy() + 1e-9

    edits: dict[Callable[[Arrays], None], str] = {
        turned: "",
        forgotten: "bound is claimed as",
        of_all: "bound is claimed as",
        higher: "the lower bound is claimed",
        tighter: f"of ReLU {k}",
    }
    for change, words in edits.items():
        edited = edit(path, lambda _, arrays, change=change: change(arrays))  # type: ignore[misc]
        check = bounds.check(edited, side.network)
        assert not check.accepted, change.__name__
        assert words in reasons(check)

    def half(arrays: Arrays) -> None:
        arrays[f"relu.{k}.side"][0, at] = 0.5

    def no_neuron(arrays: Arrays) -> None:
        arrays[f"relu.{k}.side"][0, at if stable is None else stable] = 2 if stable is None else 1

    for change in (half, no_neuron):
        edited = edit(path, lambda _, arrays, change=change: change(arrays))  # type: ignore[misc]
        refused(
            lambda edited=edited: bounds.check(edited, side.network),  # type: ignore[misc]
            InvalidInputError,
            "other than 1 and −1 of unstable neurons",
        )


def test_a_side_without_points(tmp_path: Path) -> None:
    """x ≥ 0 and x + 1 ≤ 0: any lower bound holds, and nothing is an upper one."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    model.requires_grad_(False)
    model[0].weight.copy_(torch.ones(2, 1))
    model[0].bias.copy_(torch.tensor([0.0, 1.0]))
    ball = bounds.Ball(torch.zeros(1, 1, dtype=torch.float64), radius=2.0)
    rows = bounds.Specification(torch.tensor([[1.0]], dtype=torch.float64))
    relaxation = bounds.relax(bounds.from_torch(model, (1,)), ball, rows)
    side = relaxation.split([torch.tensor([[1.0, -1.0]])])
    solution = save(tmp_path / "c", side, method="interior_point", sign_only=True)
    assert solution.lower.item() > 0
    check = bounds.check(tmp_path / "c", side.network, exact=True)
    assert check.accepted, reasons(check)
    assert check.optimum is not None
    assert check.optimum[0, 0] is None

    def bounded(arrays: Arrays) -> None:
        arrays["upper"][:] = 1e3

    edited = edit(tmp_path / "c", lambda _, arrays: bounded(arrays))
    assert "or the sides" in reasons(bounds.check(edited, side.network))
