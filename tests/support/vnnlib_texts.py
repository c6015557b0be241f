"""VNN-LIB formulas with their text and, apart from it, their meaning; and a small ONNX model.

A formula is a nested tuple: ("and" | "or", formulas…) or (comparison, term, term); a term is a
variable ("X" | "Y", index), the text of a number, or (operator, terms…). `holds` evaluates it in
rational numbers as SMT-LIB defines it, and knows nothing of normal forms.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from pathlib import Path
from typing import Any

import onnx
import torch
from hypothesis import strategies as st
from torch import Tensor

from bounds import Certification
from bounds.read.vnnlib import Property, parse_vnnlib

INPUTS, OUTPUTS = 3, 2

Formula = tuple[Any, ...]

COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}
COMPUTE = {"+": operator.add, "-": operator.sub, "*": operator.mul}

#: Numbers in many notations; several are equal, so that points lie on the faces of boxes.
NUMBERS = ("0", "0.1", "-0.1", "1e-1", "0.5", "5e-1", "+.5", "-1.", "1", "0.3", "2", "-2", "1E0")
numbers = st.sampled_from(NUMBERS)


def holds(formula: Formula, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
    head, *rest = formula
    if head == "and":
        return all(holds(each, x, y) for each in rest)
    if head == "or":
        return any(holds(each, x, y) for each in rest)
    left, right = (value(term, x, y) for term in rest)
    return bool(COMPARE[head](left, right))


def value(term: Any, x: Sequence[Fraction], y: Sequence[Fraction]) -> Fraction:
    if isinstance(term, str):
        return Fraction(term)
    head, *rest = term
    if head in "XY":
        return (x if head == "X" else y)[rest[0]]
    values = [value(each, x, y) for each in rest]
    return -values[0] if head == "-" and len(values) == 1 else reduce(COMPUTE[head], values)


def write(formula: Any) -> str:
    """The formula, or the term, as VNN-LIB text."""
    if isinstance(formula, str):
        return formula
    head, *rest = formula
    if head in ("X", "Y"):
        return f"{head}_{rest[0]}"
    return f"({head} " + " ".join(write(each) for each in rest) + ")"


def file(assertions: Sequence[Formula], inputs: int = INPUTS, outputs: int = OUTPUTS) -> str:
    """A whole file that asserts the formulas."""
    lines = ["; a comment with ( in it", "(set-logic QF_LRA)"]
    lines += [f"(declare-const X_{i} Real)" for i in range(inputs)]
    lines += [f"(declare-const Y_{i}\n\tReal) ; another" for i in range(outputs)]
    lines += [f"(assert {write(formula)})" for formula in assertions]
    return "\n".join(lines)


comparisons = st.sampled_from(list(COMPARE))
bounds = st.one_of(
    st.tuples(comparisons, st.tuples(st.just("X"), st.integers(0, INPUTS - 1)), numbers),
    st.tuples(comparisons, numbers, st.tuples(st.just("X"), st.integers(0, INPUTS - 1))),
    st.tuples(  # −2 x + 1 ≤ 0.5
        comparisons,
        st.tuples(
            st.just("+"),
            st.tuples(
                st.just("*"), st.just("-2"), st.tuples(st.just("X"), st.integers(0, INPUTS - 1))
            ),
            numbers,
        ),
        numbers,
    ),
)


@st.composite
def rows(draw: st.DrawFn) -> Formula:
    """An inequality between outputs in which Y_0 keeps an odd coefficient."""
    other = ("*", draw(numbers), ("Y", 1))
    left = draw(
        st.sampled_from(
            [
                ("Y", 0),
                ("-", ("Y", 0)),
                ("-", ("Y", 0), other),
                ("+", other, draw(numbers), ("Y", 0)),
                ("-", draw(numbers), ("-", other, ("Y", 0)), ("*", "2", ("Y", 0), "1e0")),
                ("*", ("-", "3"), ("+", ("Y", 0), ("+", other), "1")),
            ]
        )
    )
    right = draw(st.sampled_from([draw(numbers), ("*", "2", ("Y", 0)), ("Y", 1), ("-", "0.1")]))
    pair = draw(st.permutations([left, right]))
    return (draw(comparisons), *pair)


def trees(leaves: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    """Conjunctions and disjunctions of leaves, in any nesting."""
    return st.recursive(
        leaves,
        lambda inner: st.tuples(
            st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
        ).map(lambda pair: (pair[0], *pair[1])),
        max_leaves=8,
    )


@st.composite
def assertions(draw: st.DrawFn) -> list[Formula]:
    """Formulas that together bound every input, and in every clause say something of outputs."""
    found: list[Formula] = []
    for index in range(INPUTS):
        found += [
            (">=", ("X", index), "-2"),
            (draw(st.sampled_from(["<", "<="])), ("X", index), "2"),
        ]
    found.append(draw(trees(rows())))
    found += draw(st.lists(trees(st.one_of(bounds, rows())), max_size=2))
    return draw(st.permutations(found))


# -- a model, and questions about it


def write_model(path: Path, W: Sequence[Sequence[float]] = ((1.0, 1.0), (-1.0, 1.0))) -> Path:
    """y = relu(⟨W₀, x⟩) − relu(⟨W₁, x⟩); by default, relu(x₀ + x₁) − relu(x₁ − x₀), which on
    0 ≤ x₁ ≤ x₀ is x₀ + x₁."""
    weights = {"W": W, "V": [[1.0, -1.0]]}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Gemm", ["x", "W"], ["a"], transB=1),
            onnx.helper.make_node("Relu", ["a"], ["b"]),
            onnx.helper.make_node("Gemm", ["b", "V"], ["y"], transB=1),
        ],
        "model",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1])],
        [
            onnx.numpy_helper.from_array(torch.tensor(value).numpy(), name)
            for name, value in weights.items()
        ],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


#: The inputs of a question: 1 ≤ x₀ ≤ 2 and 0 ≤ x₁ ≤ 1, where y is in [1, 3].
WIDE = (("1", "2"), ("0", "1"))


def question(x0: tuple[str, str], x1: tuple[str, str], unsafe: tuple[str, str]) -> Property:
    """x₀ and x₁ between these numbers; unsafe: a comparison, and what y is compared with."""
    formulas = [(">=", ("X", 0), x0[0]), ("<=", ("X", 0), x0[1])]
    formulas += [(">=", ("X", 1), x1[0]), ("<=", ("X", 1), x1[1])]
    return parse_vnnlib(file([*formulas, (unsafe[0], ("Y", 0), unsafe[1])], 2, 1))


def within(lower: Tensor, upper: Tensor) -> list[Formula]:
    """x in the box, whose ends are written with all their digits."""
    found: list[Formula] = []
    for comparison, ends in ((">=", lower), ("<=", upper)):
        for index, end in enumerate(ends.flatten().tolist()):
            found.append((comparison, ("X", index), f"{Decimal(end):f}"))
    return found


def at_most(row: Tensor, threshold: float) -> Formula:
    """⟨row, y⟩ ≤ threshold."""
    terms = [("*", repr(a), ("Y", i)) for i, a in enumerate(row.flatten().tolist())]
    return ("<=", ("+", *terms), repr(threshold))


def holds_in(property: Property, found: Certification) -> None:
    """Every "sat" has a counterexample in its case's box, and nothing else has one."""
    for case, verdict, counterexample in zip(
        property.cases, found.verdicts, found.counterexamples, strict=True
    ):
        assert (counterexample is not None) == (verdict == "sat")
        if counterexample is not None:
            assert case.contains(counterexample.x)
            assert case.violated_by(counterexample.y)
