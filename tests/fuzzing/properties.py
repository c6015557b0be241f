"""Properties in VNN-LIB."""

from __future__ import annotations

import random
import re
from pathlib import Path

import torch

from bounds.read.vnnlib import read_vnnlib
from tests.fuzzing.damage import INTEGERS, damage_bytes, damage_list

TOKEN = re.compile(r'[()]|;[^\n]*\n|"[^"]*"|\|[^|]*\||[^\s()";|]+')
NUMBERS = ["0", "-0", "1", "0.1", "-1.5e3", "1e999", "1e-999", "1e9999", "9" * 400, "." + "1" * 900]
NUMBERS += [*map(str, INTEGERS), "nan", "inf", "0x1", "1_0", "²", "1/3"]
WORDS = ["and", "or", "<=", ">=", "<", ">", "+", "-", "*", "=", "not", "let", "assert", "Real"]
WORDS += [
    "declare-const",
    "set-logic",
    "check-sat",
    "vnnlib-version",
    "(",
    ")",
    ";",
    "|",
    '"',
    "\0",
]
WORDS += ["X_0", "X_1", "Y_0", "Y_1", "X_00", "X_999999999", "X_-1", "Y_", "Z_0", "é"]

DECLARED = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "(assert (>= X_0 -1))(assert (<= X_0 0.5))(assert (and (>= X_1 0) (< X_1 1e-1)))\n"
ROWS = (
    "(assert (<= Y_0 Y_1)) ; the first\n",
    "(assert (or (and (<= Y_0 1) (> Y_1 0)) (and (>= (- (* 2 Y_0) Y_1 3) 0.5))))\n",
    "(assert (or (and (<= X_0 0) (<= Y_0 0)) (and (>= X_0 0) (>= Y_1 (+ 1 Y_0)))))\n",
    "(assert (and (or (<= Y_0 0) (<= Y_1 0)) (or (<= Y_0 1) (<= Y_1 1))))\n",
)


#: How often a case is large, which takes long.
RARELY = 0.002


class Properties:
    name = "vnnlib"

    def seeds(self) -> list[bytes]:
        return [
            (f"; {k}\n(set-logic QF_LRA)\n" + DECLARED + BOX + ROWS[k]).encode() for k in range(4)
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
                        dice.choice(("and", "or", "-", "+")),
                        dice.choice((1, 3, 3, 11_000)),
                    )
                    tokens[last:last] = [")"] * depth
                    tokens[first:first] = ["(", head] * depth
                case 2 if tokens:  # one in place of another
                    one, other = (formula_at(tokens, dice.randrange(len(tokens))) for _ in range(2))
                    tokens[slice(*one)] = tokens[slice(*other)]
                case _:
                    damage_list(tokens, dice, others)
        return " ".join(tokens[:60_000]).encode("utf-8", "replace")

    def read(self, path: Path) -> None:
        property = read_vnnlib(path)
        for case in property.cases[:3]:
            lower, upper = case.outer()
            assert bool((lower <= upper).all())
            assert len(lower) == property.inputs
            rows = property.specification(case.disjuncts, grown=True)
            assert bool(torch.isfinite(rows.C).all())
            assert not case.violated_by(torch.full((property.outputs,), torch.nan))


def formula_at(tokens: list[str], at: int) -> tuple[int, int]:
    """From this token, or from the parenthesis that it is in, to where that closes."""
    depth = 0
    for end in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[end], 0)
        if depth <= 0:
            return at, end + 1
    return at, len(tokens)
