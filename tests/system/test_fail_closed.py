"""The table "How a solve can end" of the documentation: every row of it, and the exit status."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bounds
from bounds import Ball, InvalidInputError, Relaxation, Solution, Specification, Status
from bounds.certification import decide, one_input
from bounds.solvers.interior_point.newton import NewtonSystem
from tests.conftest import Run
from tests.support.pages import DOCS
from tests.support.refusals import refused

PAGE = DOCS / "guide" / "verdicts.md"
Solve = Callable[..., Solution]


def tiny() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3)).double()


def relaxed(radius: float = 0.5) -> Relaxation:
    """Unstable neurons, and all rows positive: the answer is proved."""
    model, x = tiny(), torch.tensor([0.3, -0.2]).double()
    model[2].bias.data[0] += 5.0
    network = bounds.from_torch(model, (2,)).detach()
    return bounds.relax(network, Ball(x, radius=radius), bounds.margins(0, 3))


def options(**given: Any) -> Solve:
    """A solve with these options, whatever else was asked for."""

    def solve(relaxation: Relaxation, **asked: Any) -> Solution:
        return bounds.solve(relaxation, **{**given, "sound": asked.get("sound", True)})

    return solve


def useless_steps(relaxation: Relaxation, **asked: Any) -> Solution:
    """Every Newton step is 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NewtonSystem, "solve", lambda self, r, *, refine: torch.zeros_like(r))
        return options(method="interior_point")(relaxation, **asked)


def nan_weights(relaxation: Relaxation, **asked: Any) -> Solution:
    broken = relaxation.network.convert(lambda tensor: tensor * torch.nan)
    return options(method="adaptive_slope")(replace(relaxation, network=broken), **asked)


def cut_off(relaxation: Relaxation, **asked: Any) -> Solution:
    """l, u, given by hand, that leave out all of the inputs, and would prove anything."""
    [neurons] = relaxation.relu_bounds
    elsewhere = bounds.ReluBounds(-torch.ones_like(neurons.lower), 1e-9 + 0 * neurons.upper)
    given = replace(relaxation, relu_bounds=(elsewhere,), intermediate="given")
    return options(method="adaptive_slope")(given, **asked)


@dataclass(frozen=True)
class Ending:
    """solve: makes it happen. status: that follows. sound: whether lower ≤ LP optimum ≤ upper is
    said and true. verified: whether the rows, all positive, count as proved."""

    solve: Solve
    status: Status
    sound: bool
    verified: bool


ENDINGS = {
    "the gap is closed": Ending(options(method="exact"), Status.OPTIMAL, True, True),
    "the sign is decided": Ending(
        options(method="pdhg", tolerance=1e-15, sign_only=True), Status.SIGN, True, True
    ),
    "one pass is all": Ending(options(method="fixed_slope"), Status.BOUND, True, True),
    "iteration limit": Ending(
        options(method="pdhg", iteration_limit=1), Status.ITERATION_LIMIT, True, True
    ),
    "time limit": Ending(options(method="pdhg", time_limit=1e-9), Status.TIME_LIMIT, True, True),
    "numerical breakdown": Ending(useless_steps, Status.NUMERICAL_ERROR, True, False),
    "NaN or infinity": Ending(nan_weights, Status.NUMERICAL_ERROR, False, False),
    "l, u exclude the inputs": Ending(cut_off, Status.BOUND, False, False),
}
REFUSED = {"no rows or no inputs", "empty input set", "overflow"}
OTHERS = {"`sound=False`", "timeout of `certify`", "Ctrl-C"}


def test_the_page_has_these_rows_and_no_others() -> None:
    [table] = re.findall(r"\| how it ends \|.*?\n\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    rows = [line.split("|")[1].strip() for line in table.strip().splitlines()[2:]]
    assert rows == [*ENDINGS, *rows[len(ENDINGS) :]]
    assert set(rows[len(ENDINGS) :]) == REFUSED | OTHERS


@pytest.mark.parametrize("name", ENDINGS)
def test_status_and_bounds(name: str) -> None:
    ending, relaxation = ENDINGS[name], relaxed()
    exact = bounds.solve(relaxation, method="exact")
    solution = ending.solve(relaxation)
    assert (solution.status == ending.status).all()
    assert solution.sound
    assert solution.verified.tolist() == [ending.verified]
    if ending.sound:
        assert (solution.lower <= exact.upper).all()
        assert (solution.upper >= exact.lower).all()
        assert torch.isfinite(solution.lower).all()
    else:
        assert not (torch.isfinite(solution.lower) & torch.isfinite(solution.upper)).any()


@pytest.fixture
def problem(tmp_path: Path) -> tuple[object, ...]:
    """The same as a command."""
    model = tiny()
    model[2].bias.data[0] += 5.0
    torch.export.save(
        torch.export.export(model, (torch.zeros(1, 2).double(),)), tmp_path / "model.pt2"
    )
    np.save(tmp_path / "x.npy", np.array([0.3, -0.2]))
    given = "--input", tmp_path / "x.npy", "--label", 0, "--radius", 0.5
    return ("certify", tmp_path / "model.pt2", *given)


@pytest.mark.parametrize("name", ENDINGS)
def test_exit_status(
    name: str, run: Run, problem: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (decide, one_input):
        monkeypatch.setattr(module, "solve", ENDINGS[name].solve)
    status, out, _ = run(*problem, "--method", "no_split")
    assert status == (0 if ENDINGS[name].verified else 1)
    assert ("unsat " in out) == ENDINGS[name].verified
    assert ("unknown " in out) != ENDINGS[name].verified


def test_bounds_up_to_rounding_verify_nothing() -> None:
    solution = bounds.solve(relaxed(), sound=False)
    assert (solution.lower > 0).all()
    refused(lambda: solution.verified, InvalidInputError, "rounding", "sound=True")
    refused(lambda: solution.certificate.save("x"), InvalidInputError, "sound=True")


def test_problems_without_rows_or_points_are_refused(
    run: Run, problem: tuple[object, ...], tmp_path: Path
) -> None:
    relaxation = relaxed()
    for part in (relaxation.C[:, :0], relaxation.C[:0]):
        refused(
            lambda: replace(relaxation, C=part, d=part.sum(2)),  # noqa: B023
            InvalidInputError,
            "no rows",
            "one row",
        )
    refused(lambda: Specification(torch.zeros(0, 3)), InvalidInputError, "none of them 0")
    status, out, err = run(*problem, "--clip", 4, 5)
    assert (status, out) == (2, "")
    assert "no point in common" in err
    np.save(tmp_path / "x.npy", np.zeros((0, 2)))
    status, out, err = run(*problem)
    assert (status, out) == (2, "")
    assert "at least one input" in err


def test_overflow_is_refused(run: Run, problem: tuple[object, ...]) -> None:
    status, out, err = run(*problem[:-1], 1e308)
    assert (status, out) == (2, "")
    assert "overflow" in err


def test_a_timeout_is_unknown(run: Run, problem: tuple[object, ...]) -> None:
    status, out, _ = run(*problem, "--timeout", 1e-9)
    assert status == 1
    assert "unknown " in out


def test_ctrl_c_writes_nothing(
    run: Run, problem: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> Solution:
        raise KeyboardInterrupt

    monkeypatch.setattr(decide, "solve", interrupted)
    status, out, err = run(*problem, "--json", tmp_path / "out.json")
    assert status == 130
    assert "1 are unknown" in out
    assert "interrupted" in err
    assert not (tmp_path / "out.json").exists()
