"""Verdicts: against the exact minimum, against other tools, and what may never count as a proof."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
import lp_reference
from bounds import InvalidInputError, Network, Solution, Status, certify
from bounds.certification import decide
from bounds.certification.attacks import attack
from bounds.rounding import down_to
from bounds.solution.verdict import proved, trusted
from tests.support.networks import Architecture, Dice, architectures, seeds
from tests.support.problems import NORMS, Problem, problems
from tests.support.refusals import refused

UNSAT, SAT, UNKNOWN = "unsat", "sat", "unknown"

# -- what counts as a proof


@given(
    st.lists(st.sampled_from([1.0, 1e-300, 0.0, -0.0, -1.0, math.nan, -math.inf]), min_size=4),
    st.lists(st.lists(st.integers(0, 3), min_size=1), min_size=1),
)
@example([0.0, -0.0, math.nan, 1.0], [[0], [3]])
@example([0.0, -0.0, math.nan, 1.0], [[1, 2], [3]])
def test_every_disjunct_needs_a_positive_row(
    lower: list[float], disjuncts: list[list[int]]
) -> None:
    expected = True
    for disjunct in disjuncts:
        if {lower[row] for row in disjunct}.isdisjoint({1.0, 1e-300}):
            expected = False
    assert proved(lower, disjuncts) is expected


def test_only_sound_bounds_are_trusted() -> None:
    relaxation = bounds.relax(*tiny())
    solution = bounds.solve(relaxation)
    nan, inf = math.nan, math.inf
    assert (solution.lower > 0).all()
    changes: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"status": int(Status.BOUND)}, True),
        ({"status": int(Status.ITERATION_LIMIT)}, True),
        ({"status": int(Status.TIME_LIMIT)}, True),
        ({"status": int(Status.NUMERICAL_ERROR)}, False),
        ({"lower": 1e9}, False),  # above the point that was found
        ({"lower": -1e9}, True),
        ({"lower": nan}, False),
        ({"lower": inf}, False),
        ({"upper": nan}, False),
        ({"upper": inf}, False),  # no feasible point: the relaxation may be empty
        ({"upper": -1e-9}, False),  # a point contradicts the bound
        ({"upper": 0.0}, False),
    ]
    for change, believed in changes:
        fields = {name: torch.full_like(getattr(solution, name), to) for name, to in change.items()}
        changed = replace(solution, **fields)
        expected = changed.lower if believed else torch.full_like(solution.lower, -inf)
        assert torch.equal(trusted(changed), expected), change
    refused(
        lambda: trusted(replace(solution, sound=False)), InvalidInputError, "rounding", "sound=True"
    )


@given(problems(norms=NORMS), st.sampled_from(["adaptive_slope", "interior_point", "pdhg"]))
def test_rounding_is_subtracted(problem: Problem, method: Any) -> None:
    """Sound bounds are around what the same evidence gives in plain arithmetic, and close."""
    if problem.norm == 2 and method == "interior_point":
        method = "pdhg"
    relaxation = problem.relax()
    solution = bounds.solve(relaxation, method=method)
    lower = solution.certificate.lower(relaxation, sound=False)
    upper = solution.certificate.upper(relaxation, sound=False)
    assert solution.sound
    assert (solution.lower < lower).all()
    assert (upper < solution.upper).all()
    assert (lower - solution.lower < 1e-9 * lower.abs().clamp(min=1)).all()
    assert (solution.upper - upper < 1e-7 * upper.abs().clamp(min=1)).all()


def tiny() -> tuple[Network, bounds.Ball, bounds.Specification]:
    """A ball on which the answer is proved."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    ball = bounds.Ball(torch.tensor([0.3, -0.2]).double(), radius=0.02)
    answer = int(model(ball.x).argmax())
    return bounds.from_torch(model, (2,)), ball, bounds.margins(answer, 3)


Change = Callable[[Solution], dict[str, Tensor]]

BROKEN: dict[str, Change] = {
    "NaN": lambda s: {"lower": torch.full_like(s.lower, math.nan)},
    "an infinite bound": lambda s: {"lower": torch.full_like(s.lower, math.inf)},
    "no feasible point": lambda s: {"upper": torch.full_like(s.upper, math.inf)},
    "failure": lambda s: {"status": torch.full_like(s.status, int(Status.NUMERICAL_ERROR))},
    "contradiction": lambda s: {"upper": torch.full_like(s.upper, -1.0)},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_solver_proves_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, ball, _ = tiny()
    x, y = ball.x, int(network(ball.x.unsqueeze(0)).argmax())
    assert certify(network, x, y, radius=0.01).verdict == UNSAT

    def broken(relaxation: bounds.Relaxation, **options: Any) -> Solution:
        solution = bounds.solve(relaxation, **options)
        return replace(solution, **BROKEN[name](solution))

    monkeypatch.setattr(decide, "solve", broken)
    certification = certify(network, x, y, radius=0.01, method="no_split")
    assert certification.verdict == UNKNOWN
    assert not certification.verified.any()
    assert (certification.lower == -math.inf).all()


# -- data sets, against the exact minimum


@given(problems())
def test_verdicts_agree_with_the_exact_minimum(problem: Problem) -> None:
    ball, outputs = problem.ball, math.prod(problem.network.output_shape)
    labels = Dice(problem.seed).below(outputs, problem.batch)
    options: dict[str, Any] = {"radius": ball.radius, "norm": ball.norm}
    options |= {"lower": ball.lower, "upper": ball.upper}
    found = certify(problem.model, ball.x, labels, **options, method="no_split")
    relaxation = bounds.relax(problem.network, ball, bounds.margins(labels, outputs))
    exact = lp_reference.solve(relaxation, milp=True)
    assert (exact.status == "optimal").all()
    minimum = torch.from_numpy(exact.value)
    slack = 1e-6 * minimum.abs().clamp(min=1)
    assert (found.lower <= minimum + slack).all()
    for i, verdict in enumerate(found.verdicts):
        worst = minimum[i].amin()
        counterexample = found.counterexamples[i]
        assert found.verified[i] == (verdict == UNSAT)
        assert (counterexample is not None) == (verdict == SAT)
        if verdict == UNSAT:
            assert worst > -slack[i].amin()
            assert (found.lower[i] > 0).all()
        if counterexample is not None:
            assert worst < slack[i].amax()
            assert counterexample.replayed_by == "bounds"
            x = counterexample.x.unsqueeze(0)
            assert (
                problem.input_set.convert(lambda t, i=i: t[i : i + 1])
                .contains(x.unsqueeze(1))
                .all()
            )
            with torch.no_grad():
                y = problem.model(x).flatten()
            torch.testing.assert_close(y, counterexample.y.flatten())
            assert (y > y[labels[i]]).any()


def twins() -> tuple[nn.Module, Tensor, int]:
    """z₀ = relu(x) − relu(x) + 0.01, which is 0.01, but the LP takes the two for different neurons;
    and z₁ = 0."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
        model[2].bias.copy_(torch.tensor([0.01, 0.0]))
    return model, torch.zeros(1, 1).double(), 0


def test_all_three_verdicts_occur() -> None:
    model, x, _ = twins()
    labels, radius = torch.tensor([0, 0, 1]), torch.tensor([[0.01], [0.1], [0.1]])
    found = certify(model, x.expand(3, 1), labels, radius=radius, method="no_split")
    assert found.verdicts == (UNSAT, UNKNOWN, SAT)
    # At worst x = 0, where the second may be r / 2 while the first is 0.
    torch.testing.assert_close(found.lower[1, 0].item(), 0.01 - 0.05, rtol=1e-6, atol=1e-9)
    assert found.verified.tolist() == [True, False, False]
    assert found.verdict == SAT
    assert certify(model, x.expand(2, 1), 0, radius=0.1, method="no_split").verdict == UNKNOWN
    assert certify(model, x, 0, radius=0.01).verdict == UNSAT


@settings(max_examples=max(1, settings().max_examples // 6))
@given(architectures(depth=2), seeds)
def test_options_of_a_batch_are_those_of_its_inputs(architecture: Architecture, seed: int) -> None:
    """More inputs than are relaxed together, with radii and boxes of their own."""
    dice, model = Dice(seed), architecture.build()
    network = bounds.from_torch(model, architecture.input_shape)
    count, ones = 35, [1] * len(architecture.input_shape)
    x = dice.normal(count, *architecture.input_shape)
    labels = network(x).flatten(1).argmax(1)
    radius = 0.2 * dice.uniform(count, *ones)
    lower = x - 0.1 * dice.uniform(count, *architecture.input_shape)
    options: dict[str, Any] = {"upper": 9.0, "method": "no_split"}
    found = certify(network, x, labels, radius=radius, lower=lower, **options)
    for i in (0, 31, 32, 34):
        alone = certify(
            network, x[i], int(labels[i]), radius=float(radius[i]), lower=lower[i], **options
        )
        torch.testing.assert_close(alone.lower[0], found.lower[i], rtol=1e-6, atol=1e-9)


def test_float32_is_proved_in_float64() -> None:
    network, ball, _ = tiny()
    x, y = ball.x.float(), int(network(ball.x.unsqueeze(0)).argmax())
    found = certify(network, x, y, radius=0.05, dtype=torch.float32)
    relaxation = bounds.relax(
        network.to(torch.float32),
        bounds.Ball(x, radius=0.05),
        bounds.margins(y, 3),
        slope="adaptive",
    )
    single = bounds.solve(relaxation, method="adaptive_slope")
    assert found.verdict == UNSAT
    double = single.certificate.lower(relaxation.double())
    # They are rounded down to the dtype of the bounds that they replace.
    assert torch.equal(found.lower, down_to(double, torch.float32).double())
    assert (found.lower > single.lower).all()


def test_time_ends() -> None:
    network, ball, _ = tiny()
    found = certify(network, ball.x.expand(40, 2), 0, radius=9.0, timeout=1e-9)
    assert found.verdicts == (UNKNOWN,) * 40
    assert found.methods == ("none",) * 40
    assert found.lower.shape == (40, 2)
    assert (found.lower == -math.inf).all()
    for timeout in (0, -1.0, math.nan):
        refused(
            lambda timeout=timeout: certify(network, ball.x, 0, radius=0.1, timeout=timeout),
            InvalidInputError,
            f"timeout={timeout!r}",
            "positive time in seconds",
        )


def test_time_may_end_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        found = attack(*arguments, **options)
        while not options["deadline"].passed:
            pass
        return found

    monkeypatch.setattr(decide, "attack", slow)
    found = certify(*twins(), radius=0.1, timeout=0.5, method="no_split")
    assert found.verdict == UNKNOWN
    assert "exact" not in found.seconds


def test_a_failed_solve_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(relaxation: bounds.Relaxation, **options: Any) -> Solution:
        solution = bounds.solve(relaxation, **options)
        failed = torch.full_like(solution.status, int(Status.NUMERICAL_ERROR))
        return replace(solution, status=failed) if options["method"] == "exact" else solution

    monkeypatch.setattr(decide, "solve", failing)
    found = certify(*twins(), radius=0.1, method="no_split")
    assert found.verdict == UNKNOWN
    assert torch.isfinite(found.lower).all()


def test_arguments_that_do_not_fit() -> None:
    network, ball, _ = tiny()
    x = ball.x
    cases: dict[str, tuple[Callable[[], object], list[str]]] = {
        "no tensor": (lambda: certify(network, [0.0], 0, radius=0.1), ["list", "tensor"]),  # type: ignore[arg-type]
        "labels": (
            lambda: certify(network, x, torch.tensor([0, 1]), radius=0.1),
            ["(2,), labels for 1 inputs"],
        ),
        "class": (lambda: certify(network, x, 3, radius=0.1), ["3", "0 … 2"]),
        "shape": (lambda: certify(network, torch.zeros(2, 3), 0, radius=0.1), ["(2, 3)", "(2,)"]),
        "NaN": (lambda: certify(network, x * math.nan, 0, radius=0.1), ["NaN"]),
        "seed": (lambda: certify(network, x, 0, radius=0.1, seed=-1), ["seed=-1"]),
    }
    for act, fragments in cases.values():
        refused(act, InvalidInputError, *fragments)
