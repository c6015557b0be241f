"""The pytest plugin of a soak: drawn tests alone, and what fails goes into the corpus."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import is_hypothesis_test
from hypothesis.errors import HypothesisException
from hypothesis.strategies import DataObject

from tests.soak import corpus

#: In a report's properties: the calls that failed.
PROPERTY = "failed draws"


class Recorder:
    """`st.data()`, and what was drawn from it."""

    def __init__(self, data: Any) -> None:
        self.data, self.drawn = data, []

    def draw(self, strategy: Any, label: Any = None) -> Any:
        self.drawn.append(self.data.draw(strategy, label))
        return self.drawn[-1]

    def __repr__(self) -> str:
        return repr(corpus.Draws(tuple(self.drawn)))


def record(test: corpus.Test) -> dict[object, str]:
    """Have the test note how it was called when it failed, the last call for each way to fail:
    Hypothesis runs the smallest examples of all at the end."""
    inner, failed = test.hypothesis.inner_test, {}  # type: ignore[attr-defined]

    @functools.wraps(inner)
    def recorded(**arguments: Any) -> Any:
        given = dict(arguments)
        for name, value in arguments.items():
            if isinstance(value, DataObject):
                given[name] = Recorder(value)
        try:
            return inner(**given)
        except HypothesisException:  # an assumption that does not hold
            raise
        except Exception as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            place = None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
            failed[type(error), place] = corpus.text(test, given)
            raise

    test.hypothesis.inner_test = recorded  # type: ignore[attr-defined]
    return failed


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    drawn = [item for item in items if is_hypothesis_test(getattr(item, "function", None))]
    config.hook.pytest_deselected(items=[item for item in items if item not in drawn])
    items[:] = drawn


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Iterator[None]:
    test = item.function
    inner = test.hypothesis.inner_test  # type: ignore[attr-defined]
    failed = record(test)
    try:
        return (yield)
    except Exception:
        item.user_properties.append((PROPERTY, list(failed.values())))
        raise
    finally:
        test.hypothesis.inner_test = inner  # type: ignore[attr-defined]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the one process that hears of every test."""
    calls = dict(report.user_properties).get(PROPERTY)
    if calls and report.when == "call" and "PYTEST_XDIST_WORKER" not in os.environ:
        corpus.keep(corpus.TESTS.parent / report.nodeid.partition("::")[0], calls)
