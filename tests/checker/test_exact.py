"""LP optima in rational numbers: those of cvxpy, proved."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bounds
import lp_reference
from bounds.checker import exact, simplex
from bounds.checker.arithmetic import rationals
from tests.support.certificates import Arrays, Statement, edit, reasons, save
from tests.support.networks import Dice, seeds
from tests.support.problems import POLYHEDRAL, Problem, problems
from tests.support.referee import HAND_MADE, hand_made_relaxation, random_net, random_relaxation
from tests.support.refusals import refused


def fractions(numbers: np.ndarray) -> list[Fraction]:
    return [Fraction(int(number.p), int(number.q)) for number in numbers]


@given(problem=problems(norms=POLYHEDRAL))
def test_optima_are_those_of_the_referee(problem: Problem) -> None:
    relaxation = problem.relax()
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "certificate", relaxation)
        check = bounds.check(Path(folder) / "certificate", relaxation.network, exact=True)
    assert check.accepted, reasons(check)
    assert check.optimum is not None
    reference = lp_reference.solve(relaxation)
    for index in np.ndindex(*check.lower.shape):
        optimum = check.optimum[index]
        assert Fraction(check.lower[index]) <= optimum <= Fraction(check.upper[index])
        if reference.status[index] == "optimal":
            value = reference.value[index]
            assert float(optimum) == pytest.approx(value, rel=1e-9, abs=1e-9 * (1 + abs(value)))


def test_optima_by_hand(tmp_path: Path) -> None:
    """Five ReLUs of one x, with bounds that only trust makes good."""
    relaxation, path = hand_made_relaxation(), tmp_path / "certificate"
    save(path, relaxation)
    check = bounds.check(path, relaxation.network, exact=True, trust_bounds=True)
    assert check.optimum is not None
    assert check.optimum[0].tolist() == [Fraction(value) for value in HAND_MADE]


@pytest.mark.parametrize("hint", [True, False])
def test_the_first_basis_leads_to_the_same_optimum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hint: bool
) -> None:
    relaxation, path = random_relaxation(3, 6, 6, 2), tmp_path / "certificate"
    save(path, relaxation)
    if not hint:
        monkeypatch.setattr(exact, "likely_basis", lambda rows, c: None)
    check = bounds.check(path, relaxation.network, exact=True)
    value = lp_reference.solve(relaxation).value
    assert check.optimum is not None
    assert check.optimum.astype(float) == pytest.approx(value, rel=1e-9)


def test_claims_beyond_the_optimum_are_rejected(tmp_path: Path) -> None:
    relaxation, path = random_relaxation(3, 6, 6, 2), tmp_path / "certificate"
    save(path, relaxation)

    def beyond(statement: Statement, arrays: Arrays) -> None:
        arrays["lower"][0] += 1e-6
        arrays["upper"][1] -= 1e-6

    check = bounds.check(edit(path, beyond), relaxation.network, exact=True)
    assert "input 0, row 0: the lower bound" in reasons(check)
    assert "lies above the LP optimum" in reasons(check)
    assert "lies below the LP optimum" in reasons(check)


def test_an_input_whose_bounds_are_rejected_has_no_optimum(tmp_path: Path) -> None:
    relaxation, path = random_relaxation(3, 6, 6, 2), tmp_path / "certificate"
    save(path, relaxation)

    def narrow(statement: Statement, arrays: Arrays) -> None:
        arrays["relu.0.lower"][0] /= 2

    check = bounds.check(edit(path, narrow), relaxation.network, exact=True)
    assert check.optimum is not None
    assert check.optimum[0, 0] is None
    assert check.optimum[1, 0] is not None


def test_bounds_that_contradict_the_input_set_are_said_to(tmp_path: Path) -> None:
    relaxation, path = random_relaxation(3, 6, 6, 2), tmp_path / "certificate"
    save(path, relaxation)

    def far(statement: Statement, arrays: Arrays) -> None:
        lower, upper = arrays["relu.1.lower"], arrays["relu.1.upper"]
        unstable = (lower < 0) & (upper > 0)
        lower[unstable], upper[unstable] = -1e-9, 1e-9

    edited = edit(path, far)
    check = bounds.check(edited, relaxation.network, exact=True, trust_bounds=True)
    assert "leave its LP no point" in reasons(check)


@given(seed=seeds, variables=st.integers(1, 3), extra=st.integers(0, 4))
def test_the_simplex_method_finds_the_best_vertex(seed: int, variables: int, extra: int) -> None:
    """Against all vertices of a box cut by planes with small integers: ties and degeneracy."""
    dice = Dice(seed)
    cuts = (dice.below(5, extra, variables) - 2).numpy()
    A = np.concatenate((np.eye(variables), -np.eye(variables), cuts)).astype(float)
    b = np.concatenate((np.full(2 * variables, -1.0), (dice.below(3, extra) - 2).numpy()))
    c = (dice.below(5, variables) - 2).numpy().astype(float)
    rows = simplex.Rows(rationals().numbers(A), rationals().numbers(b))
    costs = rationals().numbers(c)
    values = []
    for chosen in map(list, combinations(range(len(A)), variables)):
        if abs(np.linalg.det(A[chosen])) > 0.5:  # an integer
            v = np.linalg.solve(A[chosen], b[chosen])
            if (A @ v >= b - 1e-9).all():
                values.append(float(c @ v))
    for basis in (list(range(variables)), simplex.likely_basis(rows, costs)):
        if basis is None:
            continue
        value, v = simplex.optimum(rows, costs, basis)
        assert float(value) == pytest.approx(min(values), abs=1e-9)
        assert all(s >= 0 for s in fractions(rows.A @ v - rows.b))


def test_an_infeasible_program() -> None:
    rows = simplex.Rows(
        rationals().numbers(np.array([[1.0], [-1.0]])), rationals().numbers(np.array([1.0, 0.0]))
    )
    costs = rationals().numbers(np.ones(1))
    with pytest.raises(simplex.Infeasible):
        simplex.optimum(rows, costs, [0])


def test_what_has_no_small_linear_program_is_refused(tmp_path: Path) -> None:
    x = torch.zeros(1, 3, dtype=torch.float64)
    network, path = random_net(3, 6, 2), tmp_path / "certificate"
    save(path, bounds.relax(network, bounds.Ball(x, radius=0.5, norm=2), bounds.margins(0, 2)))
    refused(
        lambda: bounds.check(path, network, exact=True),
        bounds.InvalidInputError,
        "ℓ2",
        "not rational",
    )
    wide = random_net(301, 2)
    x = torch.zeros(1, 301, dtype=torch.float64)
    save(path, bounds.relax(wide, bounds.Ball(x, radius=0.5), bounds.margins(0, 2)))
    refused(
        lambda: bounds.check(path, wide, exact=True),
        bounds.InvalidInputError,
        "301 variables for input 0, expected at most 300",
    )
