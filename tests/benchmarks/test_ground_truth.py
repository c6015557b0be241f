"""The benchmark that looks for contradictions finds them, and goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import bounds
from benchmarks.competition import ground_truth
from benchmarks.competition import instances as competition
from benchmarks.published import tables as published
from bounds.certification.counterexample import Counterexample
from tests.support.vnnlib_texts import file, write_model

BOX = [(">=", ("X", 0), "1"), ("<=", ("X", 0), "2"), (">=", ("X", 1), "0"), ("<=", ("X", 1), "1")]


@pytest.fixture
def instance(tmp_path: Path) -> competition.Instance:
    """y = x₀ + x₁ on 1 ≤ x₀ ≤ 2 and 0 ≤ x₁ ≤ 1 is unsafe up to 1.5, as it is at (1.1, 0.2)."""
    path = tmp_path / "spec.vnnlib"
    path.write_text(file([*BOX, ("<=", ("Y", 0), "1.5")], 2, 1))
    model = write_model(tmp_path / "model.onnx")
    return competition.Instance("small", model, path, "sat", torch.tensor([1.1, 0.2]))


def found(instance: competition.Instance) -> list[str]:
    return competition.check(instance, timeout=1e6)["contradictions"]


def test_nothing_contradicts_what_is_right(instance: competition.Instance) -> None:
    record = competition.check(instance, timeout=1e6)
    assert record["contradictions"] == []
    assert (record["verdict"], record["compared"]) == ("sat", 1)


def test_another_verdict_contradicts(instance: competition.Instance) -> None:
    assert found(replace(instance, truth="unsat")) == ["we say sat, the competition unsat"]


def test_a_proof_against_a_counterexample_contradicts(
    instance: competition.Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bounds.certify_vnnlib

    def wrong(*arguments: Any, **options: Any) -> bounds.Certification:
        certification = real(*arguments, **options)
        lower = torch.full_like(certification.lower, 0.01)
        return replace(certification, verdicts=("unsat",), lower=lower, counterexamples=(None,))

    monkeypatch.setattr(bounds, "certify_vnnlib", wrong)
    words = " ".join(found(instance))
    assert "we say unsat, the competition sat" in words
    assert "we say unsat, but a counterexample is known" in words
    assert "certify_vnnlib's lower bound is 0.21 above our network's value" in words
    assert "certify_vnnlib's lower bound is 0.21 above ONNX Runtime's value" in words


def test_a_lower_bound_above_the_value_contradicts(
    instance: competition.Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is 1 − 1.5 and the value there 1.3 − 1.5."""
    real = bounds.solve
    for by, contradicted in ((0.299, False), (0.301, True)):

        def raised(*arguments: Any, by: float = by, **options: Any) -> bounds.Solution:
            solution = real(*arguments, **options)
            return replace(solution, lower=solution.lower + by)

        monkeypatch.setattr(bounds, "solve", raised)
        assert bool(found(instance)) == contradicted


def test_bounds_of_a_relu_that_exclude_a_point_contradict(
    instance: competition.Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bounds.relax

    def narrowed(*arguments: Any, **options: Any) -> bounds.Relaxation:
        relaxation = real(*arguments, **options)
        first, *others = relaxation.relu_bounds
        first = replace(first, upper=torch.minimum(first.upper, torch.tensor(1.2).double()))
        return replace(relaxation, relu_bounds=(first, *others))

    monkeypatch.setattr(bounds, "relax", narrowed)
    assert "an input of ReLU 0 is 0.1 beyond its bounds" in found(instance)


def test_a_counterexample_that_does_not_replay_contradicts(
    instance: competition.Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bounds.certify_vnnlib

    def wrong(*arguments: Any, **options: Any) -> bounds.Certification:
        certification = real(*arguments, **options)
        point = Counterexample(torch.tensor([3.0, 0.5]), torch.tensor([0.0]), "onnxruntime")
        return replace(certification, counterexamples=(point,))

    monkeypatch.setattr(bounds, "certify_vnnlib", wrong)
    assert found(instance)[:2] == [
        "our counterexample lies outside of its box",
        "our counterexample, replayed by onnxruntime, does not replay again",
    ]


TABLE_1 = {"pgd": "5", "milp_lower": "6", "milp_upper": "8", "lp_all": "9", "lp_greedy": "12"}
TABLE_2 = {"lp_greedy": "10", "lp_last": "11", "lp_all": "12", "pgd_upper": "20"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ""),
        ({"exact": 8.9}, "lp_all 9.00 is above exact 8.90"),
        ({"attacked": 8.1}, "attacked 8.10 is above milp_upper 8.00"),
        ({"fixed": 11.9}, "fixed 11.90 is not lp_greedy 12.00"),
        ({"clean": 1.1}, "clean 1.10 is not test_error 1.00"),
        ({"exact": 12.1}, "exact 12.10 is above fixed 12.00"),
    ],
)
def test_what_contradicts_table_1(changed: dict[str, float], expected: str) -> None:
    ours = {"clean": 1.0, "fixed": 12.0, "exact": 9.5, "attacked": 6.0} | changed
    row = {"network": "A", "weights": "a.pth", "epsilon": "0.1", "test_error": "1"} | TABLE_1
    assert ", ".join(published.contradicted_errors(row, ours)) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ""),
        ({"fixed": 10.2}, "fixed 10.20 is not lp_greedy 10.00"),
        ({"fixed": 9.95, "exact": 9.94}, "fixed 9.95 is above exact 9.94"),
        ({"exact": 12.8}, "exact 12.80 is above lp_all 12.00"),
        ({"exact": 20.1}, "exact 20.10 is above pgd_upper 20.00"),
    ],
)
def test_what_contradicts_table_2(changed: dict[str, float], expected: str) -> None:
    row = {"network": "A", "mode": "NOR"} | TABLE_2
    words = ", ".join(published.contradicted_radii(row, {"fixed": 9.97, "exact": 11.0} | changed))
    assert words.startswith(expected)
    assert bool(words) == bool(expected)


# -- being stopped


def test_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    calls: list[str] = []

    def task(name: str, *, stop: bool = False) -> Callable[[], dict[str, Any]]:
        def run() -> dict[str, Any]:
            calls.append(name)
            if stop:
                raise KeyboardInterrupt
            return {"contradictions": []}

        return run

    path, console = tmp_path / "out.json", Console(quiet=True)
    fresh = {"benchmark": "ground_truth", "commit": "a", "timeout": 1.0, "suites": {}}
    tasks = {"s": {"one": task("one"), "two": task("two", stop=True)}}
    with pytest.raises(KeyboardInterrupt):
        ground_truth.measure(tasks, ground_truth.resumed(path, fresh), path, console)
    assert list(json.loads(path.read_text())["suites"]["s"]) == ["one"]
    tasks = {"s": {"one": task("one"), "two": task("two")}}
    ground_truth.measure(tasks, ground_truth.resumed(path, fresh), path, console)
    assert calls == ["one", "two", "two"]
    stored = json.loads(path.read_text())
    assert list(stored["suites"]["s"]) == ["one", "two"]
    for key, value in (("commit", "b"), ("timeout", 2.0)):
        other = {**fresh, key: value, "suites": {}}
        assert ground_truth.resumed(path, other) is other


def test_what_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    def broken() -> dict[str, Any]:
        raise bounds.ModelFileError("it is damaged.")

    record: dict[str, Any] = {"suites": {}}
    ground_truth.measure({"s": {"one": broken}}, record, None, Console(quiet=True))
    assert ground_truth.contradictions(tmp_path, record) == ["one: it is damaged."]
