"""Comparisons of VNN-LIB 2.0: what they mean in the arithmetic of their type.

A query over float32 or float64 is about numbers of that type: a constant stands for the nearest of
them, and sums and products are rounded, from left to right. Over "real", and over integers, all is
exact.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

from bounds.read.vnnlib.terms import Sum, Term, Variable, combine

#: The types whose arithmetic rounds.
FLOATS: dict[str, type[np.floating]] = {"float32": np.float32, "float64": np.float64}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
_COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}


@dataclass(frozen=True, slots=True)
class Place:
    """The number of a tensor at this place, see `Query`."""

    place: int


@dataclass(frozen=True, slots=True)
class Operation:
    """Takes the last `count` values; "-" of one is its negative."""

    symbol: str
    count: int


Step = Fraction | Place | Operation
#: An expression, operands before what is done to them.
Program = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """left ≤ right, say; element: the type of all variables in it, "real" where there are none."""

    head: str
    left: Program
    right: Program
    element: str

    def holds(self, numbers: Sequence[Fraction]) -> bool:
        """Whether it holds for the numbers at all places, as its type computes."""
        kind = FLOATS.get(self.element)

        def value(number: Fraction) -> Any:
            return number if kind is None else kind(float(number))

        with np.errstate(all="ignore"):  # what overflows is infinite or NaN, and compared as such
            left, right = (
                _run(program, lambda place: value(numbers[place]), value)
                for program in (self.left, self.right)
            )
            return bool(_COMPARE[self.head](left, right))

    def difference(self) -> Term:
        """left − right, whose variables have the letter V and their places as indices.

        Raises Malformed for a product of variables.
        """
        terms: list[Term] = []
        for program in (self.left, self.right):
            stack: list[Term] = []
            for step in program:
                match step:
                    case Place(place):
                        stack.append(Variable("V", place))
                    case Operation(symbol, count):
                        operands = stack[-count:]
                        del stack[-count:]
                        stack.append(combine(symbol, operands))
                    case _:
                        stack.append(step)
            terms += stack
        return Sum(((1, terms[0]), (-1, terms[1])))

    @property
    def places(self) -> set[int]:
        return {step.place for step in self.left + self.right if isinstance(step, Place)}

    @property
    def operations(self) -> int:
        """How many sums and products of two numbers are computed."""
        steps = self.left + self.right
        return sum(step.count - 1 for step in steps if isinstance(step, Operation))

    @property
    def rounds(self) -> bool:
        """Whether anything is rounded where it is evaluated."""
        return self.element in FLOATS and self.operations > 0

    def rounding(self, largest: Callable[[int], Fraction | float]) -> Fraction | float:
        """How far left − right can be from its real value, at most, once evaluated in its type;
        largest: of each place, the largest size of its number."""
        kind, count = FLOATS.get(self.element), self.operations
        if kind is None or not count:
            return Fraction(0)
        sizes = [_run(program, largest, abs, size=True) for program in (self.left, self.right)]
        total = sizes[0] + sizes[1]
        if total > float(np.finfo(kind).max) / 4:  # it may overflow
            return math.inf
        # Each term goes through at most `count` operations, each off by half an ulp or, where it
        # underflows, by the smallest number, which later factors may enlarge.
        unit = Fraction(float(np.finfo(kind).eps)) / 2
        constants = [step for step in self.left + self.right if isinstance(step, Fraction)]
        growth = math.prod(max(abs(constant), Fraction(1)) for constant in constants)
        tiny = count * Fraction(float(np.finfo(kind).smallest_subnormal)) * growth
        return count * unit / (1 - count * unit) * Fraction(total) + tiny


def _run(
    program: Program,
    variable: Callable[[int], Any],
    constant: Callable[[Fraction], Any],
    *,
    size: bool = False,
) -> Any:
    """The value; or where `size`, the sum of the sizes of its terms."""
    stack: list[Any] = []
    for step in program:
        match step:
            case Place(place):
                stack.append(variable(place))
            case Operation(symbol, count):
                operands = stack[-count:]
                del stack[-count:]
                if size:
                    symbol = "*" if symbol == "*" else "+"
                if symbol == "-" and count == 1:
                    stack.append(-operands[0])
                else:
                    stack.append(reduce(_COMBINE[symbol], operands))
            case _:
                stack.append(constant(step))
    return stack[0]


def nearest(number: Fraction, element: str) -> Fraction:
    """The number of a type that a constant stands for; of two that are equally near the even one.

    Raises OverflowError beyond its range.
    """
    kind = FLOATS.get(element)
    if kind is None:
        return number
    double = float(number)  # rounded once, and to float32 then again
    with np.errstate(all="ignore"):
        found = kind(double)
    if not math.isfinite(found):
        raise OverflowError
    if kind is np.float32 and float(found) != double:
        found = _once(number, double, np.float32(found))
    return Fraction(float(found))


def _once(number: Fraction, double: float, found: np.float32) -> np.float32:
    """The float32 nearest to a number, given the one nearest to the float64 nearest to it: another
    only where that lies in the middle of two, and the number does not."""
    other = np.nextafter(found, np.float32(math.copysign(math.inf, double - float(found))))
    if 2 * double != float(found) + float(other) or Fraction(double) == number:
        return found
    low, high = sorted((found, other))
    return high if number > Fraction(double) else low
