"""Hypothesis strategies for VNN-LIB formulas, with their text and, apart from it, their meaning.

A formula is a nested tuple: ("and" | "or", formulas…) or (comparison, term, term); a term is a
variable ("X" | "Y", index), the text of a number, or (operator, terms…). `holds` evaluates it in
rational numbers as SMT-LIB defines it, and knows nothing of normal forms.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

from hypothesis import strategies as st

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
