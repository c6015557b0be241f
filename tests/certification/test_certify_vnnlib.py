"""Verdicts on VNN-LIB: replayed exactly, and never against what is known of a property."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bounds
import lp_reference
from benchmarks.competition import instances as competition
from bounds import InvalidInputError, Network, certify_vnnlib
from bounds.read.vnnlib import parse_vnnlib
from tests.support.networks import Dice
from tests.support.problems import Problem, points, problems
from tests.support.refusals import refused
from tests.support.vnnlib_texts import (
    WIDE,
    Formula,
    at_most,
    file,
    holds_in,
    question,
    within,
    write_model,
)

UNSAT, SAT, UNKNOWN = "unsat", "sat", "unknown"


# -- against the exact minimum, and against samples

boxes = problems(norms=(math.inf,))


@settings(max_examples=settings().max_examples // 2)
@given(boxes, st.sampled_from([-0.1, -1e-4, 1e-4, 0.1]))
def test_one_row_against_the_exact_minimum(problem: Problem, by: float) -> None:
    relaxation = problem.relax(intermediate="interval")
    exact = lp_reference.solve(relaxation, milp=True)
    # The first row of each input is unsafe up to a little more, or less, than its minimum.
    cases = []
    for i in range(problem.batch):
        row, least = relaxation.C[i, 0], float(exact.value[i, 0] - relaxation.d[i, 0])
        if not row.any():  # an inequality without variables is refused
            row, least = torch.ones_like(row), math.inf * by
        box = within(problem.input_set.lower[i], problem.input_set.upper[i])
        if math.isfinite(least):
            cases.append(("and", *box, at_most(row, least + by * max(1, abs(least)))))
    if cases:
        property = parse_vnnlib(file([("or", *cases)], *sizes(problem.network)))
        found = certify_vnnlib(problem.network, property, method="no_split")
        holds_in(property, found)
        assert set(found.verdicts) <= ({SAT, UNKNOWN} if by > 0 else {UNSAT, UNKNOWN})


@settings(max_examples=settings().max_examples // 2)
@given(boxes, st.floats(-1, 1), st.floats(-1, 1))
def test_no_sample_contradicts_a_proof(problem: Problem, first: float, second: float) -> None:
    """Both rows of a conjunction, or the third: relative to what they are at some point."""
    network, box = problem.network, problem.input_set.convert(lambda tensor: tensor[:1])
    rows = Dice(problem.seed).normal(3, math.prod(network.output_shape))
    outputs = network(points(box, 200)[0]).flatten(1)
    least, least_too, third = (outputs @ rows.T).amin(0).tolist()
    both = ("and", at_most(rows[0], least + first), at_most(rows[1], least_too + second))
    unsafe = ("or", both, at_most(rows[2], third - abs(first)))
    property = parse_vnnlib(file([*within(box.lower, box.upper), unsafe], *sizes(network)))
    found = certify_vnnlib(network, property, method="no_split")
    holds_in(property, found)
    if found.verdict == UNSAT:
        assert not any(property.cases[0].violated_by(y) for y in outputs)


def sizes(network: Network) -> tuple[int, int]:
    return math.prod(network.input_shape), math.prod(network.output_shape)


# -- cases


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


def test_each_case_has_its_own_verdict(model: Path) -> None:
    def part(low: str, high: str, unsafe: Formula) -> Formula:
        return ("and", (">=", ("X", 0), low), ("<=", ("X", 0), high), unsafe)

    x1: list[Formula] = [(">=", ("X", 1), "0"), ("<=", ("X", 1), "0.5")]
    low, high = ("<=", ("Y", 0), "0.5"), (">=", ("Y", 0), "9")
    found = certify_vnnlib(
        model, parse_vnnlib(file([*x1, ("or", part("1", "2", low), part("2", "3", high))], 2, 1))
    )
    assert found.verdicts == (UNSAT, UNSAT)
    torch.testing.assert_close(found.lower, torch.tensor([[0.5], [5.5]]).double())
    both = ("or", high, low)
    parts = [part("2", "3", high), part("1", "2", both), part("0.5", "0.6", low)]
    found = certify_vnnlib(model, parse_vnnlib(file([*x1, ("or", *parts)], 2, 1)))
    assert found.verdicts == (UNSAT, UNSAT, SAT)
    assert found.lower.isnan().tolist() == [[False, True], [False, False], [False, True]]
    assert found.verdict == SAT
    # What comes after a counterexample is left.
    parts = [part("0.5", "0.6", low), part("2", "3", high)]
    found = certify_vnnlib(model, parse_vnnlib(file([*x1, ("or", *parts)], 2, 1)))
    assert found.verdicts == (SAT, UNKNOWN)


def test_every_disjunct_is_attacked(model: Path) -> None:
    """Above 3 is nothing, but no bound says so; at the other end is what is looked for."""
    x = [*within(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 1.0]))]
    unsafe = [(">", ("Y", 0), "3"), ("<=", ("Y", 0), "1.1")]
    for order in (unsafe, unsafe[::-1]):
        text = file([*x, ("or", *order)], 2, 1)
        assert certify_vnnlib(model, parse_vnnlib(text)).verdict == SAT


def test_every_disjunct_is_solved_exactly() -> None:
    """Thresholds between what one pass proves and the LP optimum."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU())
    network = bounds.from_torch(nn.Sequential(*layers, nn.Linear(12, 3)).double(), (4,)).detach()
    box = bounds.Box(-torch.ones(4).double(), torch.ones(4).double())
    relaxation = bounds.relax(
        network, box, bounds.Specification(torch.eye(3).double()), slope="adaptive"
    )
    one_pass = bounds.solve(relaxation, method="adaptive_slope").lower[0]
    exact = bounds.solve(relaxation).lower[0]
    assert (one_pass < exact - 1e-6).all()
    rows = torch.eye(3).double()
    unsafe = [at_most(rows[i], float(one_pass[i] + exact[i]) / 2) for i in range(3)]
    property = parse_vnnlib(file([*within(box.lower, box.upper), ("or", *unsafe)], 4, 3))
    found = certify_vnnlib(network, property, method="no_split")
    assert found.verdict == UNSAT
    assert "exact" in found.seconds


def test_time_ends(model: Path) -> None:
    found = certify_vnnlib(model, question(*WIDE, ("<=", "0.5")), timeout=1e-9)
    assert found.verdicts == (UNKNOWN,)
    assert found.methods == ("none",)


def test_a_property_of_another_network(model: Path, tmp_path: Path) -> None:
    one = file([(">=", ("X", 0), "0"), ("<=", ("X", 0), "1"), ("<=", ("Y", 0), "0")], 1, 1)
    (tmp_path / "one.vnnlib").write_text(one)
    refused(
        lambda: certify_vnnlib(model, tmp_path / "one.vnnlib"),
        InvalidInputError,
        "one.vnnlib",
        "X_0 … X_0",
        "2 inputs",
    )
    two = file([*within(torch.zeros(2), torch.ones(2)), ("<=", ("Y", 1), "0")], 2, 2)
    refused(lambda: certify_vnnlib(model, parse_vnnlib(two)), InvalidInputError, "1 outputs")


# -- the competition


def checked(shared_data: Path, suites: list[str], *, every: int, timeout: float) -> Counter[str]:
    """How often each verdict came, in a sample of the suites; none contradicts what is known."""
    verdicts: Counter[str] = Counter()
    for suite in suites:
        known = [i for i in competition.instances(shared_data, suite) if i.truth]
        for instance in known[::every]:
            record = competition.check(instance, timeout=timeout)
            assert not record["contradictions"], (instance.name, record["contradictions"])
            verdicts[record["verdict"]] += 1
    return verdicts


def test_no_verdict_contradicts_other_tools(shared_data: Path) -> None:
    suites = [s for s in competition.suites(shared_data) if s != "cifar10_resnet"]
    verdicts = checked(shared_data, suites, every=20, timeout=1)
    assert min(verdicts[UNSAT], verdicts[SAT]) >= 5


@pytest.mark.slow
def test_no_verdict_contradicts_other_tools_anywhere(shared_data: Path) -> None:
    checked(shared_data, competition.suites(shared_data), every=1, timeout=10)


def test_small_instances_with_known_answers(shared_data: Path) -> None:
    for instance in competition.instances(shared_data, "test"):
        assert certify_vnnlib(instance.model, instance.property).verdict == instance.truth
