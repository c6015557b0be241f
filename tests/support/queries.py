"""Queries in VNN-LIB 2.0 with small ONNX models, and what they mean, by code of its own.

A formula is a nested tuple: ("and" | "or", formulas…) or (comparison, term, term); a term is the
text of a number, a variable (name, *indices), or ("+" | "-" | "*", terms…).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

COMPARE = {
    **{"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt},
    **{"==": operator.eq, "!=": operator.ne},
}
COMPUTE = {"+": operator.add, "-": operator.sub, "*": operator.mul}
Formula = tuple[Any, ...]


def text(formula: Any) -> str:
    """As VNN-LIB writes it."""
    if isinstance(formula, str):
        return formula
    head, *rest = formula
    if head in COMPARE or head in COMPUTE or head in ("and", "or"):
        return f"({head} {' '.join(map(text, rest))})"
    return f"{head}[{','.join(map(str, rest))}]" if rest else head


def query(declared: str, *formulas: Formula) -> str:
    return "\n".join(
        ["(vnnlib-version <2.0>)", declared, *(f"(assert {text(f)})" for f in formulas)]
    )


def network(name: str, *tensors: str, like: str = "") -> str:
    """network("f", "input X float32 [1]", …)"""
    return f"(declare-network {name} {like} {' '.join(f'(declare-{t})' for t in tensors)})"


def holds(formula: Any, values: Mapping[str, np.ndarray], kind: Any) -> Any:
    """Whether a formula holds, or what a term is; kind: np.float32, or Fraction for real ones."""
    if isinstance(formula, str):
        return kind(formula) if kind is Fraction else kind(float(formula))
    head, *rest = formula
    if head in ("and", "or"):
        return (all if head == "and" else any)(holds(part, values, kind) for part in rest)
    if head not in COMPARE and head not in COMPUTE:
        number = values[head][tuple(rest)]
        return Fraction(float(number)) if kind is Fraction else kind(number)
    terms = [holds(part, values, kind) for part in rest]
    if head in COMPARE:
        return bool(COMPARE[head](*terms))
    if head == "-" and len(terms) == 1:
        return -terms[0]
    return reduce(COMPUTE[head], terms)


def within(name: str, size: int, low: str = "-1.0", high: str = "1.0") -> list[Formula]:
    """A box for all of a vector."""
    return [
        formula
        for i in range(size)
        for formula in ((">=", (name, i), low), ("<=", (name, i), high))
    ]


def write(
    path: Path,
    nodes: Sequence[tuple[str, str, str]],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    *,
    elements: Mapping[str, int] | None = None,
    **constants: Any,
) -> Path:
    """A model of the nodes ("Add", "a b", "y"); elements: of what is not FLOAT."""
    known = elements or {}
    values = {
        name: helper.make_tensor_value_info(name, known.get(name, TensorProto.FLOAT), shape)
        for name, shape in {**inputs, **outputs}.items()
    }
    graph = helper.make_graph(
        [helper.make_node(op, taken.split(), made.split()) for op, taken, made in nodes],
        "graph",
        [values[name] for name in inputs],
        [values[name] for name in outputs],
        [
            numpy_helper.from_array(np.asarray(value, getattr(value, "dtype", np.float32)), name)
            for name, value in constants.items()
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


def run(path: Path, **inputs: Any) -> dict[str, np.ndarray]:
    """What ONNX Runtime makes of the inputs."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    arguments = {
        i.name: np.asarray(inputs[i.name], np.float32).reshape(i.shape)
        for i in session.get_inputs()
    }
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, arguments), strict=True))
