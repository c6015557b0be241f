"""Queries in VNN-LIB 2.0."""

from __future__ import annotations

import random
import re
from fractions import Fraction
from pathlib import Path

from bounds.read.vnnlib.query_cases import cases_of
from bounds.read.vnnlib.query_reader import read_query
from tests.fuzzing.damage import INTEGERS, damage_bytes, damage_list
from tests.fuzzing.properties import RARELY, formula_at

TOKEN = re.compile(r'[()\[\],]|;[^\n]*\n|"(?:[^"\\]|\\.)*"|[^\s()";\[\],]+')
NUMBERS = ["0.0", "-0.0", "1", "0.1", "-1.5", "1e9", "9" * 400, "9" * 40 + ".0", "0." + "1" * 900]
NUMBERS += [*map(str, INTEGERS), *(f"{n}.0" for n in INTEGERS), "nan", "inf", "0x1", "-", "0."]
WORDS = ["and", "or", "<=", ">=", "<", ">", "==", "!=", "+", "-", "*", "assert", "initialized"]
WORDS += ["declare-network", "declare-input", "declare-output", "declare-hidden", "equal-to"]
WORDS += [
    "isomorphic-to",
    "vnnlib-version",
    "<2.0>",
    "<2.9>",
    "<3.0>",
    "float32",
    "float64",
    "real",
]
WORDS += [
    "float16",
    "int64",
    "bool",
    "X",
    "Y",
    "H",
    "U",
    "V",
    "f",
    "g",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
]
WORDS += ['"', "\0", "é", "X[0]", "\\"]

ONE = """(declare-network f (declare-input X {0} [1,2]) (declare-hidden H {0} [2] "h\\"h")
 (declare-output Y {0} []))
"""
TWO = """(declare-network g (equal-to f) (declare-input U {0} [1,2]) (declare-output V {0} []))
"""
BOX = """(assert (and (>= X[0,0] -1.0) (<= X[0,0] 0.5) (>= X[0,1] 0.0) (< X[0,1] 0.1))) ; the box
"""
ROWS = (
    "(assert (>= Y 0.5))\n",
    "(assert (or (and (<= Y 1.0) (> H[0] 0.0)) (<= (- (* 2.0 Y) H[1] 3.0) (+ X[0,0] 0.1))))\n",
    "(assert (== X[0,0] U[0,0])) (assert (<= (+ U[0,1] 0.1) X[0,1])) (assert (!= Y V))\n",
    "(assert (<= (+ X[0,0] (* 0.3 X[0,1])) (- 0.25)))\n",
)


class Queries:
    name = "query"

    def seeds(self) -> list[bytes]:
        return [
            f"(vnnlib-version <2.0>)\n{(ONE + TWO).format(kind)}{BOX}{row}".encode()
            for kind in ("float32", "real")
            for row in ROWS
        ]

    def mutate(self, data: bytes, dice: random.Random, donors: list[bytes]) -> bytes:
        if dice.random() < 0.2:
            return damage_bytes(data, dice, donors)
        tokens = TOKEN.findall(data.decode("utf-8", "replace"))
        others = NUMBERS + WORDS
        for _ in range(dice.choice((1, 1, 2, 4))):
            match dice.randrange(5):
                case 0 if tokens:  # a formula again, and again
                    first, last = formula_at(tokens, dice.randrange(len(tokens)))
                    times = 1000 if dice.random() < RARELY else dice.choice((1, 2, 4))
                    tokens[last:last] = tokens[first:last] * min(times, 20_000 // (last - first))
                case 1 if tokens:  # within others
                    first, last = formula_at(tokens, dice.randrange(len(tokens)))
                    head, depth = (
                        dice.choice(("and", "or", "-")),
                        dice.choice((1, 3, 3, 1900, 9000)),
                    )
                    tokens[last:last] = [")"] * depth
                    tokens[first:first] = ["(", head] * depth
                case 2 if tokens:  # one in place of another
                    one, other = (formula_at(tokens, dice.randrange(len(tokens))) for _ in range(2))
                    tokens[slice(*one)] = tokens[slice(*other)]
                case _:
                    damage_list(tokens, dice, others)
        # "(assert" is one word to the parser.
        return " ".join(tokens[:60_000]).replace("( ", "(").encode("utf-8", "replace")

    def read(self, path: Path) -> None:
        query = read_query(path)
        if sum(tensor.size for tensor in query.tensors) > 1000:
            return
        query.holds([Fraction(1, 2)] * sum(tensor.size for tensor in query.tensors))
        found = cases_of(query, lambda hull, member: [1.0] * len(query.others))
        assert len(found.member) == len(query.inputs)
        for case in found.property.cases[:3]:
            lower, upper = case.outer()
            assert bool((lower <= upper).all())
            assert len(lower) == found.property.inputs
            found.property.specification(case.disjuncts, grown=True)
