"""VNN-LIB 2.0 files: what they declare and assert, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import pytest

from bounds import InvalidInputError
from bounds.read.vnnlib.comparisons import Comparison, Operation, Place
from bounds.read.vnnlib.formula import Connective
from bounds.read.vnnlib.query_cases import cases_of
from bounds.read.vnnlib.query_reader import MAX_DEPTH, is_query, parse_query
from bounds.read.vnnlib.syntax import Source
from tests.support.queries import network, query, within
from tests.support.refusals import refused

F = Fraction
ONE = network(
    "f",
    *("input X real [2,3]", "input S real []"),
    *('hidden H real [1] "a\\"b\\\\c"', "output Y real [2]"),
)


def test_declarations_and_places() -> None:
    tensors = ("input U real [2,3]", "input T real []", "output V real [2]")
    same = network("g", *tensors, like="(equal-to f)")
    found = parse_query(query(ONE + same, (">=", ("Y", 1), "0.5")))
    first, second = found.networks
    assert [t.name for t in found.tensors] == ["X", "S", "H", "Y", "U", "T", "V"]
    assert (first.hidden[0].node, first.equal_to, second.equal_to) == ('a"b\\c', None, "f")
    assert [found.starts[name] for name in "XSHYUTV"] == [0, 6, 7, 8, 10, 16, 17]
    assert found.inputs == [*range(7), *range(10, 17)]
    assert found.others == [7, 8, 9, 17, 18]
    assert (found.element, found.shown(4), found.shown(6)) == ("real", "X[1,1]", "S")
    assert found.formulas == (Comparison(">=", (Place(9),), (F(1, 2),), "real"),)


def test_expressions_are_read_from_left_to_right() -> None:
    term = ("-", ("*", "2.0", ("+", ("X", 1, 2), ("S",))), ("-", ("Y", 0)), "1.5")
    [formula] = parse_query(query(ONE, ("<", term, "0.1"))).formulas
    assert isinstance(formula, Comparison)
    assert formula.left == (
        *(F(2), Place(5), Place(6), Operation("+", 2), Operation("*", 2)),
        *(Place(8), Operation("-", 1), F(3, 2), Operation("-", 3)),
    )
    numbers = [F(0)] * 10
    numbers[5], numbers[6], numbers[8] = F(1), F(2), F(-5)
    # 2 (1 + 2) − 5 − 1.5 = −0.5
    assert formula.holds(numbers)
    numbers[8] = F(-43, 10)  # −4.3 makes it 0.2
    assert not formula.holds(numbers)


def test_equal_and_unequal_are_two_inequalities_each() -> None:
    same, other = parse_query(query(ONE, ("==", ("S",), "0.5"), ("!=", ("S",), "0.5"))).formulas
    for formula, heads, conjunction in ((same, ["<=", ">="], True), (other, ["<", ">"], False)):
        assert isinstance(formula, Connective)
        assert [child.head for child in formula.children if isinstance(child, Comparison)] == heads
        assert formula.conjunction == conjunction


def test_inputs_that_are_equal_are_one_and_boxes_are_narrowed() -> None:
    declared = network("f", "input X real [3]", "output Y real [1]")
    found = cases_of(
        parse_query(
            query(
                declared,
                *within("X", 2, "0.0", "1.0"),
                ("==", ("X", 0), ("X", 1)),
                ("<=", ("+", ("X", 0), ("*", "2.0", ("X", 2))), "3.0"),
                (">=", ("X", 2), ("-", ("X", 0), "0.5")),
                (">=", ("Y", 0), "0.5"),
            )
        ),
        lambda hull, member: [1.0],
    )
    assert (found.member, found.bounded, found.mixed) == ((0, 0, 1), True, True)
    [case] = found.property.cases
    assert [(i.lower, i.upper) for i in case.box] == [(0, 1), (F(-1, 2), F(3, 2))]
    assert found.property.outputs == 3


def test_versions_are_told_apart() -> None:
    assert is_query(Source("a", "; (x\n\n ( vnnlib-version <2.0>)"))
    assert not is_query(Source("a", "(set-logic QF_LRA)(vnnlib-version <2.0>)"))
    assert parse_query(query(ONE, (">=", ("S",), "0.5")).replace("2.0", "2.7", 1)).networks


REFUSED = {
    "nothing": ("", ["Parse error"]),
    "no network": ("(vnnlib-version <2.0>)", ["Parse error"]),
    "version 3": (query(ONE, (">=", ("S",), "0.5")).replace("<2.0>", "<3.0>"), ["ersion"]),
    "no such place": (query(ONE, (">=", ("Y", 2), "0.5")), ["line 3", "Y[2]", "out of bounds"]),
    "undeclared": (query(ONE, (">=", ("Z", 2), "0.5")), ["Undeclared variable (Z)"]),
    "half": (
        query(ONE.replace("real", "float16"), (">=", ("S",), "0.5")),
        ["no proof here", "real"],
    ),
    "integers": (query(ONE.replace("S real", "S int64")), ["no proof here covers the type"]),
    "mixed": (query(ONE.replace("Y real", "Y float32"), (">=", ("S",), "0.5")), ["mixes real"]),
    "twice": (query(ONE.replace("S real", "X real"), (">=", ("X", 0, 0), "0.5")), ["X"]),
    "long number": (query(ONE, (">=", ("S",), "0." + "1" * 2000)), ["expected a declared"]),
    "beyond floats": (
        query(ONE.replace("real", "float32"), (">=", ("S",), "1" + "0" * 40 + ".0")),
        ["beyond the range of float32"],
    ),
    "null": ("(vnnlib-version <2.0>)\0", ["null character"]),
    "deep": ("(" * (MAX_DEPTH + 1), [f"over {MAX_DEPTH} nested"]),
    "large": (
        query(ONE.replace("Y real [2]", "Y real [99999999]"), (">=", ("S",), "0.5")),
        ["numbers"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    text, fragments = REFUSED[case]
    if case == "integers":
        text += "\n(assert (>= Y[0] 0.5))"
    refused(lambda: parse_query(text), InvalidInputError, "VNN-LIB 'text'", *fragments)


def test_a_deep_formula_is_read() -> None:
    depth = MAX_DEPTH - 10
    text = query(ONE) + f"(assert {'(and ' * depth}(>= S 0.5){')' * depth})"
    found = parse_query(text)
    assert found.holds([F(1)] * 10)
    assert not found.holds([F(0)] * 10)
