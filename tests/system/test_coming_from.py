"""The tables of docs/guide/coming_from.md, row by row: our side of each runs, and where the other
tool is importable, says what that one says.

    PYTHONPATH=…/auto_LiRPA pytest tests/system/test_coming_from.py
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import CHECKOUT
from tests.support.coming_from import auto_lirpa, convex_adversarial, jax_verify
from tests.support.coming_from.rows import ROWS, Shown

PAGE = CHECKOUT / "docs" / "guide" / "coming_from.md"
assert {auto_lirpa, convex_adversarial, jax_verify}  # which fill in the rows


def cells() -> dict[str, list[str]]:
    """By tool, the first cell of each row."""
    found = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        lines = [line for line in part.splitlines() if line.startswith("| ")]
        found[part.splitlines()[0]] = [line.split(" | ")[0][2:] for line in lines[1:]]
    return found


def test_every_row_is_shown_by_one() -> None:
    assert cells().keys() == ROWS.keys()
    for tool, rows in cells().items():
        shown = [[begins for begins in ROWS[tool] if cell.startswith(begins)] for cell in rows]
        assert [len(each) for each in shown] == [1] * len(rows), tool
        assert sorted(begins for each in shown for begins in each) == sorted(ROWS[tool])


def every_row(*tools: str) -> Iterator[Any]:
    for tool in tools:
        for begins, shown in ROWS[tool].items():
            yield pytest.param(tool, shown, id=f"{tool}, {begins}")


@pytest.mark.parametrize(("tool", "shown"), list(every_row(*ROWS)))
def test_our_side_runs(tool: str, shown: Shown) -> None:
    shown(None)


@pytest.mark.parametrize(("tool", "shown"), list(every_row("convex_adversarial", "auto_LiRPA")))
def test_the_other_tool_says_the_same(tool: str, shown: Shown) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown(imported(tool))


def imported(tool: str) -> ModuleType:
    try:
        return importlib.import_module(tool)
    except ImportError as error:
        pytest.skip(f"{tool} is not importable ({error})")
