"""The same draws in every run; what a soak finds is kept, and tried again."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import Phase, assume, given, is_hypothesis_test, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.providers import HypothesisProvider

from tests.soak import __main__ as soak
from tests.soak import corpus, plugin
from tests.support.layers import Dense
from tests.support.networks import Architecture
from tests.support.problems import Problem, problems

HERE = sys.modules[__name__]


# -- the default run


def test_draws_depend_on_nothing_but_the_test() -> None:
    profile = settings.get_profile("default")
    assert profile.derandomize
    assert profile.database is None
    assert settings.get_profile("soak").max_examples == 1000
    assert not settings.get_profile("soak").derandomize
    assert len(HypothesisProvider(None)._local_constants) == 0


def drawn() -> list[Any]:
    """Fifty examples of a strategy that has a bit of everything."""
    found = []

    @settings(settings.get_profile("default"), max_examples=50)
    @given(st.tuples(problems(), st.integers(), st.floats(), st.text()))
    def test(arguments: Any) -> None:
        found.append(repr(arguments))

    test()
    return found


def test_two_runs_draw_the_same() -> None:
    first = drawn()
    assert len(set(first)) > 25
    assert drawn() == first


MODULES = sorted(
    ".".join(file.relative_to(corpus.FOLDER).with_suffix("").parts)
    for file in corpus.FOLDER.rglob("*.json")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_corpus_fits_the_tests(name: str) -> None:
    module = importlib.import_module(f"tests.{name}")
    for test_name, calls in corpus.read(Path(str(module.__file__))).items():
        test = getattr(module, test_name)
        assert is_hypothesis_test(test)
        assert len(set(calls)) == len(calls)
        for call in calls:
            assert call.startswith(f"{test_name}(")
            assert sorted(corpus.arguments(call, module)) == sorted(corpus.drawn_names(test))


# -- texts


def test_texts_are_what_was_drawn() -> None:
    @given(problems(), st.sampled_from([torch.float32, torch.int8]), st.lists(st.text()))
    def test(problem: Problem, dtype: torch.dtype, words: list[str]) -> None:
        told = {"problem": problem, "dtype": dtype, "words": words}
        assert corpus.arguments(corpus.text(test, told | {"other": 1}), HERE) == told

    test()


@pytest.mark.parametrize(
    "expression",
    [
        "open('x')",
        "torch.load",
        "Path()",
        "__import__('os')",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "{**{}}",
        "Dense.__class__",
    ],
)
def test_nothing_but_descriptions_is_run(expression: str) -> None:
    with pytest.raises(ValueError, match="no description"):
        corpus.arguments(f"test(x={expression})", HERE)
    with pytest.raises(ValueError, match="no call with named"):
        corpus.arguments(f"test({expression})", HERE)


# -- from a failure to the corpus and back


@given(width=st.integers(1, 50), data=st.data())
@settings(settings.get_profile("soak"), max_examples=100, phases=[Phase.generate, Phase.shrink])
def a_drawn_test(width: int, fixture: str, data: st.DataObject) -> None:
    layer, number = Dense(width), data.draw(st.integers(0, 9))
    assume(number != 2)
    assert layer.width < 7
    if number > 3:
        raise KeyError(number)


def test_what_fails_is_kept_and_fails_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "FOLDER", tmp_path)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    inner = a_drawn_test.hypothesis.inner_test  # type: ignore[attr-defined]
    item: Any = SimpleNamespace(function=a_drawn_test, user_properties=[])
    call = plugin.pytest_runtest_call(item)
    next(call)
    with pytest.raises(ExceptionGroup) as caught:
        a_drawn_test(fixture="given")
    with pytest.raises(ExceptionGroup):
        call.throw(caught.value)
    assert a_drawn_test.hypothesis.inner_test is inner  # type: ignore[attr-defined]
    nodeid = f"{Path(__file__).relative_to(corpus.TESTS.parent)}::a_drawn_test[x]"
    report: Any = SimpleNamespace(user_properties=item.user_properties, nodeid=nodeid)
    for report.when in ("setup", "call", "call", "teardown"):
        plugin.pytest_runtest_logreport(report)
    expected = {
        "a_drawn_test(width=7, data=Draws(drawn=(0,)))",
        "a_drawn_test(width=1, data=Draws(drawn=(4,)))",
    }
    kept = corpus.read(Path(__file__))
    assert set(kept) == {"a_drawn_test"}
    assert set(kept["a_drawn_test"]) == expected
    assert len(kept["a_drawn_test"]) == 2

    @given(width=st.just(1), data=st.data())
    @settings(phases=[Phase.explicit])
    def a_drawn_test_again(width: int, data: st.DataObject) -> None:
        inner(width=width, fixture="given", data=data)

    a_drawn_test_again.__name__ = "a_drawn_test"
    corpus.attach(a_drawn_test_again, HERE)
    with pytest.raises(ExceptionGroup) as again:
        a_drawn_test_again()
    assert {type(error) for error in again.value.exceptions} == {AssertionError, KeyError}


def test_only_drawn_tests_are_run() -> None:
    items: list[Any] = [
        SimpleNamespace(function=test) for test in (a_drawn_test, test_two_runs_draw_the_same)
    ]
    gone: list[Any] = []
    hook = SimpleNamespace(pytest_deselected=lambda items: gone.extend(items))
    config: Any = SimpleNamespace(hook=hook)
    everything = list(items)
    plugin.pytest_collection_modifyitems(config, items)
    assert (items, gone) == (everything[:1], everything[1:])


def test_each_seed_is_one_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses, runs = iter([0, 1, 0, 2]), []

    def run(command: list[str], **options: Any) -> Any:
        runs.append((command, options["env"]))
        return SimpleNamespace(returncode=next(statuses))

    monkeypatch.setattr(subprocess, "run", run)
    options = ["--seeds", "3", "--first", "7", "--examples", "50", "tests/dual"]
    assert soak.main(options) == 1
    assert "seeds [8]" in capsys.readouterr().out
    for seed, (command, environment) in zip((7, 8, 9), runs, strict=True):
        assert f"--hypothesis-seed={seed}" in command
        assert command[-1] == "tests/dual"
        assert environment["HYPOTHESIS_PROFILE"] == "soak"
        assert environment["SOAK_EXAMPLES"] == "50"
    # A run that did not take place is no success, and ends the soak.
    assert soak.main(["--seeds", "3"]) == 2
    assert len(runs) == 4


def test_descriptions_are_rebuilt_with_their_defaults() -> None:
    [value] = corpus.arguments("test(a=Architecture((1,), (Dense(2),), seed=3))", HERE).values()
    assert value == Architecture((1,), (Dense(2),), seed=3)
