"""The mutants that nothing notices are written down with lines that are there."""

from __future__ import annotations

import inspect
import pkgutil
from functools import cached_property

import pytest

from tests.mutation.__main__ import Mutant, explained


def source_of(function: str) -> str:
    """Of a function, or of a class's method or property, by its dotted name."""
    found = pkgutil.resolve_name(function)
    match found:
        case property():
            found = found.fget
        case cached_property():
            found = found.func
    return inspect.getsource(inspect.unwrap(found))


@pytest.mark.parametrize("mutant", explained(), ids=lambda mutant: mutant.function)
def test_a_survivor_is_of_a_line_that_is_there(mutant: Mutant) -> None:
    assert "".join(mutant.was.split()) in "".join(source_of(mutant.function).split())
