"""VNN-LIB that is refused: in one line, with the place, what was found and the remedy."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from bounds import InvalidInputError
from bounds.read.vnnlib import parse_vnnlib, read_vnnlib
from bounds.read.vnnlib.formula import MAX_CLAUSES
from bounds.read.vnnlib.syntax import MAX_BYTES, MAX_DEPTH
from tests.support.refusals import refused

#: Declarations and a bounded input, on one line, so that what follows them is in line 2.
DECLARED = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)"
START = f"{DECLARED}(assert (<= 0 X_0))(assert (<= X_0 1))(assert (<= 0 X_1))(assert (<= X_1 1))\n"
UNSAFE = "(assert (<= Y_0 0))"

#: Text after START; the column in line 2; what the message says.
LINES: dict[str, tuple[str, int, list[str]]] = {
    "stray word": ("hello", 1, ["'hello' outside of every command", "remove"]),
    "stray parenthesis": (" )", 2, ["')' outside"]),
    "open parenthesis": ("(assert (<= Y_0 0)", 1, ["( is never closed"]),
    "the innermost": ("(assert (<= Y_0", 9, ["( is never closed"]),
    "open string": ('(set-info :source "here', 19, ['" is never closed']),
    "open quotes": ("(set-info |here", 11, ["| is never closed"]),
    "no command": ("()", 1, ["no command", "declare-const and assert"]),
    "list as command": ("((<= Y_0 0))", 1, ["no command"]),
    "unknown command": ("(push 1)", 1, ["command 'push'", "declare-const and assert"]),
    "functions": ("(declare-fun X_2 () Real)", 18, ["no word follows this ("]),
    "VNN-LIB 2": ("(vnnlib-version <2.0>)", 1, ["VNN-LIB 2", "bounds verify"]),
    "other names": ("(declare-const Z_0 Real)", 1, ["no X_i or Y_i", "(declare-const X_0 Real)"]),
    "leading zeros": ("(declare-const X_02 Real)", 1, ["no X_i or Y_i"]),
    "long index": ("(declare-const X_1234567890 Real)", 1, ["no X_i or Y_i"]),
    "other types": ("(declare-const X_2 Int)", 1, ["no X_i or Y_i of type Real"]),
    "no type": ("(declare-const X_2)", 1, ["no X_i or Y_i of type Real"]),
    "declared twice": ("(declare-const X_1 Real)", 1, ["X_1 is declared twice"]),
    "no formula": ("(assert Y_0)", 1, ["asserts no formula", "(assert (<= X_0 1))"]),
    "two formulas": ("(assert (<= Y_0 0) (<= Y_0 0))", 1, ["asserts no formula"]),
    "a term asserted": ("(assert (+ Y_0 0))", 1, ["asserts no formula"]),
    "nested assert": ("(assert (and (assert (<= Y_0 0))))", 14, ["('assert' …) is not modelled"]),
    "not": ("(assert (not (<= Y_0 0)))", 9, ["('not' …)", "use and, or, <=, >="]),
    "inequality of two": (
        "(assert (distinct Y_0 0))",
        9,
        ["('distinct' …)", "use and, or, <=, >="],
    ),
    "equality of three": ("(assert (= Y_0 0 1))", 9, ["'<=' of 3 terms", "two terms at a time"]),
    "implication": ("(assert (=> (<= Y_0 0) (<= Y_0 1)))", 9, ["('=>' …)"]),
    "division": ("(assert (<= (/ Y_0 3) 1))", 13, ["('/' …)"]),
    "let": ("(assert (let ((a 1)) (<= Y_0 a)))", 15, ["('a' …) is not modelled"]),
    "empty and": ("(assert (and))", 9, ["'and' without formulas"]),
    "or of terms": ("(assert (or Y_0 (<= Y_0 0)))", 9, ["'or' of no formula"]),
    "one term": ("(assert (<= Y_0))", 9, ["'<=' of 1 terms", "two terms"]),
    "three terms": ("(assert (<= 0 Y_0 1))", 9, ["'<=' of 3 terms", "two terms"]),
    "formula as term": ("(assert (<= (<= Y_0 0) 1))", 9, ["'<=' of a formula"]),
    "no terms": ("(assert (<= (+) Y_0))", 13, ["'+' without terms"]),
    "undeclared input": ("(assert (<= X_2 0))", 9, ["X_2 is not declared", "(declare-const X_2"]),
    "undeclared output": ("(assert (<= Y_0 Y_1))", 9, ["Y_1 is not declared"]),
    "a word": ("(assert (<= Y_0 zero))", 9, ["'zero'", "a declared variable or a number"]),
    "lower case": ("(assert (<= y_0 0))", 9, ["'y_0'"]),
    "hexadecimal": ("(assert (<= Y_0 #x1F))", 9, ["'#x1F'"]),
    "underscores": ("(assert (<= Y_0 1_000))", 9, ["'1_000'"]),
    "infinity": ("(assert (<= Y_0 inf))", 9, ["'inf'"]),
    "not a number": ("(assert (<= Y_0 NaN))", 9, ["'NaN'"]),
    "other digits": ("(assert (<= Y_0 １))", 9, ["'１'"]),
    "beyond float64": ("(assert (<= Y_0 1e400))", 9, ["beyond the range of float64", "scale"]),
    "bound beyond float64": ("(assert (<= (* 1e-300 X_0) 1e300))", 9, ["beyond the range"]),
    "huge exponent": ("(assert (<= Y_0 1e999999999))", 9, ["'1e999999999'"]),
    "long number": (f"(assert (<= Y_0 {'1' * 2000}))", 9, ["1111…", "write numbers"]),
    "growing product": (
        f"(assert (<= {'(* 1e300 ' * 40}1{')' * 40} Y_0))",
        13 + 29 * 9,
        ["too many digits"],
    ),
    "growing coefficient": (
        f"(assert (<= {'(* 1e300 ' * 40}Y_0{')' * 40} 1))",
        9,
        ["too many digits"],
    ),
    "square": ("(assert (<= (* Y_0 Y_0) 1))", 13, ["product of variables", "multiply by numbers"]),
    "no variables": ("(assert (<= 0 1))", 9, ["without variables"]),
    "variables that cancel": ("(assert (<= (- Y_0 Y_0) 1))", 9, ["without variables"]),
    "two inputs": ("(assert (<= X_0 X_1))", 9, ["between inputs is not modelled", "bound each"]),
    "sum of inputs": ("(assert (<= (+ X_0 X_1) 1))", 9, ["between inputs is not modelled"]),
    "input and output": ("(assert (<= X_0 Y_0))", 9, ["between inputs and outputs"]),
}


@pytest.mark.parametrize("name", LINES)
def test_line_and_column(name: str) -> None:
    text, column, fragments = LINES[name]
    place = f"VNN-LIB 'text', line 2, column {column}: "
    refused(lambda: parse_vnnlib(START + text), InvalidInputError, place, *fragments)


BOTH = "(assert (or (<= Y_0 0) (<= Y_0 1)))"

FILES: dict[str, tuple[str, list[str]]] = {
    "empty": ("", ["X_0 is not declared"]),
    "no outputs": ("(declare-const X_0 Real)", ["Y_0 is not declared", "without gaps"]),
    "a gap": (START + UNSAFE + "(declare-const X_3 Real)", ["X_2 is not declared"]),
    "no lower bound": (DECLARED + "(assert (<= X_0 1))" + UNSAFE, ["X_0 has no lower bound"]),
    "no upper bound": (
        START.replace("(assert (<= X_1 1))", "") + UNSAFE,
        ["X_1 has no upper bound", "assert one"],
    ),
    "no bound in one case": (
        START.replace("(assert (<= X_1 1))", "")
        + "(assert (or (and (<= X_1 1) (<= Y_0 0)) (<= Y_0 0)))",
        ["X_1 has no upper bound"],
    ),
    "no outputs asserted": (START, ["do not depend on the outputs", "Y_0"]),
    "no outputs in one case": (
        START + "(assert (or (<= Y_0 0) (<= X_0 0.5)))",
        ["do not depend on the outputs"],
    ),
    "no inputs": (START + UNSAFE + "(assert (>= X_0 2))", ["no input satisfies it", "X_0"]),
    "no inputs, open": (START + UNSAFE + "(assert (< X_1 0))", ["no input satisfies it", "X_1"]),
    "too many clauses": (START + BOTH * 18, [f"more than {MAX_CLAUSES} clauses", "split"]),
    "too many, nested": (
        START + f"(assert {'(or (<= Y_0 1) (<= Y_0 2) ' * 300}(<= Y_0 0){')' * 300})" * 2,
        [f"more than {MAX_CLAUSES} clauses"],
    ),
    "too many inequalities": (
        START + f"(assert (or (and {'(<= Y_0 0)' * 1000}) (<= Y_0 1)))" + BOTH * 12,
        ["2000000 inequalities"],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_whole_file(name: str) -> None:
    text, fragments = FILES[name]
    refused(
        lambda: parse_vnnlib(text, name="a.vnnlib"), InvalidInputError, "'a.vnnlib'", *fragments
    )


def test_depth_is_no_danger() -> None:
    deep = MAX_DEPTH - 2
    for opening in ("(and ", "(or ", "(and (<= Y_0 1) "):
        nested = f"(assert {opening * deep}(<= Y_0 0){')' * deep})"
        assert len(parse_vnnlib(START + nested).cases[0].disjuncts) == 1
    sum_ = f"(assert (<= {'(- 1 ' * (deep - 1)}Y_0{')' * (deep - 1)} 0))"
    assert parse_vnnlib(START + sum_).cases[0].disjuncts[0][0].coefficients in (
        ((0, 1),),
        ((0, -1),),
    )
    refused(
        lambda: parse_vnnlib("(" * 10**6),
        InvalidInputError,
        f"column {MAX_DEPTH + 1}: over {MAX_DEPTH} nested parentheses",
    )


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "bytes.vnnlib").write_bytes(b"(assert\xff")
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large.vnnlib", "wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    cases: dict[str, list[str]] = {
        "missing.vnnlib": ["No such file", ".vnnlib"],
        "": ["not a regular file"],
        "pipe": ["not a regular file"],
        "bytes.vnnlib": ["not text", "byte 7", "save it as UTF-8"],
        "large.vnnlib": [f"{MAX_BYTES + 1} bytes", "split"],
        "null\0": ["null"],
    }
    for name, fragments in cases.items():
        refused(lambda name=name: read_vnnlib(tmp_path / name), InvalidInputError, *fragments)
    refused(lambda: read_vnnlib(3), InvalidInputError, "int", "path")  # type: ignore[arg-type]


# -- damaged files

SAMPLE = (
    START
    + """(set-info :source |a (quoted) symbol|) ; and a comment
(assert (or (and (<= X_0 0.25) (>= (* 2 X_1) -3e-1)) (and (>= X_0 .5) (< (- Y_0) 1))))
(assert (or (<= Y_0 (+ 1 (* -2 Y_0) (- 3)))
            (and (<= Y_0 0) (or (>= Y_0 1) (> Y_0 2.5)))))
"""
)
PIECES = (
    *("(", ")", "((", "))", " ", "\n", ";", '"', "|", "\0", "é", "-", "*", "and", "or", "<="),
    *("X_0", "X_1", "X_9", "Y_0", "0", "1e99", "1e999", "-1", "assert", "declare-const", "Real"),
)


def damaged(text: str, dice: random.Random) -> str:
    for _ in range(dice.randint(1, 3)):
        start = dice.randrange(len(text) + 1)
        end = min(len(text), start + dice.choice([0, 1, 1, 2, 5, 20, 100]))
        piece = dice.choice([*PIECES, "", "", text[start:end] * 2, text[: dice.randrange(30)]])
        text = text[:start] + piece + text[end:]
    return text


def test_damaged_files_are_read_or_refused_in_one_line() -> None:
    dice, outcomes = random.Random(0), {"read": 0, "refused": 0}
    for _ in range(4000):
        text, message = damaged(SAMPLE, dice), ""
        try:
            parse_vnnlib(text)
        except InvalidInputError as error:
            message = str(error)
        outcomes["refused" if message else "read"] += 1
        assert "\n" not in message, repr(text)
        assert len(message) < 400, repr(text)
    assert min(outcomes.values()) > 100, outcomes
