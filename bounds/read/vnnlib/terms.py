"""Terms of VNN-LIB and the inequalities between them, in exact arithmetic."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from bounds.read.vnnlib.property import Interval, Row
from bounds.read.vnnlib.syntax import Malformed, quoted

#: Bits of a numerator or denominator: more than any float64 needs, few enough to compute with.
MAX_BITS = 10_000

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_Exact = TypeVar("_Exact", bound=Fraction | int)
_LARGEST = Fraction(sys.float_info.max)
#: The sign that turns each into "at most", and whether it is strict.
COMPARISONS = {"<=": (1, False), "<": (1, True), ">=": (-1, False), ">": (-1, True)}
OPERATORS = ("+", "-", "*")


@dataclass(frozen=True, slots=True, order=True)
class Variable:
    """X_index or Y_index."""

    letter: str
    index: int


@dataclass(frozen=True, slots=True)
class Sum:
    """Σ factor · term."""

    parts: tuple[tuple[Fraction | int, Term], ...]


#: A constant, a variable or a sum.
Term = Fraction | Variable | Sum


@dataclass(frozen=True, slots=True)
class Bound:
    """An inequality on one input."""

    index: int
    interval: Interval


Literal = Bound | Row


def number(text: str) -> Fraction:
    """The number that a token says, exactly."""
    if len(text) <= 1000 and _NUMBER.fullmatch(text):
        return in_range(Fraction(text))
    raise Malformed(
        f"found {quoted(text)}, expected a declared variable or a number",
        "write numbers as 0.5 or 5e-1, and variables as X_0 or Y_0",
    )


def combine(operator: str, terms: Sequence[Term]) -> Term:
    """The sum, the difference or the product of terms."""
    if not terms:
        raise Malformed(f"{operator!r} without terms", "give it one or more")
    constants = [term for term in terms if isinstance(term, Fraction)]
    if operator == "*":
        factor = Fraction(1)
        for constant in constants:
            factor = _handy(factor * constant)
        others = [term for term in terms if not isinstance(term, Fraction)]
        if len(others) > 1:
            raise Malformed("a product of variables is not linear", "multiply by numbers only")
        return Sum(((factor, others[0]),)) if others else factor
    signs = [1] * len(terms)
    if operator == "-":
        signs = [-1] if len(terms) == 1 else [1] + [-1] * (len(terms) - 1)
    if len(constants) == len(terms):
        return _handy(sum((s * c for s, c in zip(signs, constants, strict=True)), Fraction(0)))
    return Sum(tuple(zip(signs, terms, strict=True)))


def inequality(comparison: str, terms: Sequence[Term]) -> Literal:
    """The row on the outputs, or the bound on an input, that a comparison of two terms is."""
    if len(terms) != 2:
        raise Malformed(f"{comparison!r} of {len(terms)} terms", "compare two terms at a time")
    sign, strict = COMPARISONS[comparison]
    left, right = terms
    coefficients, constant = collected(Sum(((sign, left), (-sign, right))))
    letters = {variable.letter for variable in coefficients}
    if letters == {"Y"}:
        return row({v.index: coefficients[v] for v in coefficients}, -constant, strict)
    if letters == {"X"} and len(coefficients) == 1:
        [(variable, coefficient)] = coefficients.items()
        return solved(variable.index, coefficient, -constant, strict)
    kinds = ("without variables", "between inputs", "between inputs and outputs")
    raise Malformed(
        f"an inequality {kinds[len(letters)]} is not modelled",
        "bound each input by numbers, and compare outputs with outputs or numbers",
    )


def row(coefficients: Mapping[int, Fraction | int], bound: Fraction, strict: bool) -> Row:
    """Σ a_i y_i ≤ bound."""
    pairs = ((index, Fraction(in_range(a))) for index, a in sorted(coefficients.items()))
    return Row(tuple(pairs), in_range(bound), strict)


def solved(
    index: int, coefficient: Fraction | int, end: Fraction, strict: bool, *, outward: bool = False
) -> Bound:
    """coefficient · x ≤ end as a bound on x; outward: a float64, rounded to the safe side."""
    limit = end / coefficient
    if outward:
        limit = _outward(limit, up=coefficient > 0)
    limit = in_range(limit)
    if coefficient > 0:
        return Bound(index, Interval(upper=limit, upper_open=strict))
    return Bound(index, Interval(lower=limit, lower_open=strict))


def _outward(value: Fraction, *, up: bool) -> Fraction:
    rounded = float(in_range(value))
    if Fraction(rounded) < value if up else Fraction(rounded) > value:
        rounded = math.nextafter(rounded, math.inf if up else -math.inf)
    return Fraction(rounded)


def collected(term: Term) -> tuple[dict[Variable, Fraction | int], Fraction]:
    """The coefficients of a term, none of them 0, and its constant."""
    coefficients: dict[Variable, Fraction | int] = {}
    constant = Fraction(0)
    pending: list[tuple[Fraction | int, Term]] = [(1, term)]
    while pending:  # no recursion: a file may nest as deep as it is long
        factor, part = pending.pop()
        if isinstance(part, Sum):
            pending += [(_handy(factor * inner), each) for inner, each in part.parts]
        elif isinstance(part, Variable):
            coefficients[part] = _handy(coefficients.get(part, 0) + factor)
        else:
            constant = _handy(constant + factor * part)
    return {v: a for v, a in coefficients.items() if a}, constant


def _handy(value: _Exact) -> _Exact:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise Malformed("a number here has too many digits", "write it with fewer")
    return value


def in_range(value: _Exact) -> _Exact:
    if not -_LARGEST <= value <= _LARGEST:
        raise Malformed("a number here is beyond the range of float64", "scale the inequality")
    return value
