"""Drawn examples that once failed, which the default run tries again in every drawn test.

`corpus/WING/test_x.json` lists the calls of each test of `tests/WING/test_x.py`, such as

    {"test_y": ["test_y(problem=Problem(architecture=Architecture(...), ...), seed=3)"]}

They are texts of what was drawn: descriptions, numbers and dtypes. Hypothesis' own database holds
the choices that led there, which mean another example once a strategy or a test is edited; a text
stays the example that it says, and where it no longer fits the test, says so.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from hypothesis import example
from hypothesis.strategies import SearchStrategy

from tests.support import exact_layers, layers, networks, onnx_graphs, problems

TESTS = Path(__file__).resolve().parent.parent
FOLDER = Path(__file__).resolve().parent / "corpus"

Test = Callable[..., Any]


@dataclasses.dataclass
class Draws:
    """In place of `st.data()`: what was drawn, in order."""

    drawn: tuple[Any, ...]

    def __post_init__(self) -> None:
        self.left = list(self.drawn)

    def draw(self, strategy: SearchStrategy[Any], label: object = None) -> Any:
        """The next of them, whatever the strategy; none left is an IndexError."""
        return self.left.pop(0)


def drawn_names(test: Test) -> list[str]:
    """The arguments of a test that Hypothesis draws; the others are pytest's."""
    others = inspect.signature(test).parameters
    return [n for n in inspect.signature(test.hypothesis.inner_test).parameters if n not in others]  # type: ignore[attr-defined]


# -- texts and values


def text(test: Test, arguments: Mapping[str, Any]) -> str:
    """The call with these arguments, the drawn ones only."""
    told = (f"{name}={arguments[name]!r}" for name in drawn_names(test))
    return f"{test.__name__}({', '.join(told)})"


def arguments(call: str, module: ModuleType) -> dict[str, Any]:
    """What `text` wrote; descriptions are the dataclasses of tests.support and of the module.

    Raises ValueError for anything but calls of these, literals and dtypes: nothing else is run.
    """
    known: dict[str, Any] = {"inf": math.inf, "nan": math.nan, "Draws": Draws}
    for source in (layers, exact_layers, networks, problems, onnx_graphs, module):
        known |= {n: v for n, v in vars(source).items() if dataclasses.is_dataclass(v)}

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name(id=name) if name in known:
                return known[name]
            case ast.Attribute(value=ast.Name(id="torch"), attr=name):
                if isinstance(found := getattr(torch, name, None), torch.dtype):
                    return found
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.Tuple(elts=elements):
                return tuple(map(value, elements))
            case ast.List(elts=elements):
                return list(map(value, elements))
            case ast.Dict(keys=keys, values=values) if None not in keys:
                return dict(zip(map(value, keys), map(value, values), strict=True))  # type: ignore[arg-type]
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in known:
                return known[name](*map(value, args), **named(keywords))
        raise ValueError(f"{ast.unparse(node)} is no description, number or dtype")

    def named(keywords: list[ast.keyword]) -> dict[str, Any]:
        return {str(keyword.arg): value(keyword.value) for keyword in keywords}

    tree = ast.parse(call, mode="eval").body
    if not isinstance(tree, ast.Call) or tree.args:
        raise ValueError(f"{call} is no call with named arguments")
    return named(tree.keywords)


# -- files


def file_of(module: Path) -> Path:
    return FOLDER / module.relative_to(TESTS).with_suffix(".json")


def read(module: Path) -> dict[str, list[str]]:
    """The calls of each test of a module, none where it has no file."""
    file = file_of(module)
    return json.loads(file.read_text()) if file.exists() else {}


def keep(module: Path, calls: list[str]) -> None:
    """Add calls to the module's file, each once."""
    found, file = read(module), file_of(module)
    for call in calls:
        known = found.setdefault(call.partition("(")[0], [])
        if call not in known:
            known.append(call)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def attach(test: Test, module: ModuleType) -> None:
    """Make the calls of the corpus explicit examples of the test, whatever its parameters."""
    for call in read(Path(str(module.__file__)).resolve()).get(test.__name__, []):
        example(**arguments(call, module))(test)
