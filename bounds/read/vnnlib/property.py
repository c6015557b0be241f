"""What a VNN-LIB file asks: may an output be unsafe for an input of these boxes?

All numbers are exact. Where they become floating point, they are rounded to the safe side: boxes
and unsafe sets grow for a proof, and shrink for a counterexample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import torch
from torch import Tensor

from bounds.errors import InvalidInputError
from bounds.network.affine import Shape
from bounds.relaxation.specification import Specification
from bounds.sets.box import Box


@dataclass(frozen=True, slots=True)
class Interval:
    """The values that one input may take. An end is infinite where it is not given."""

    lower: Fraction | float = -math.inf
    upper: Fraction | float = math.inf
    lower_open: bool = False
    upper_open: bool = False

    @property
    def empty(self) -> bool:
        open_ended = self.lower_open or self.upper_open
        return self.lower > self.upper or (self.lower == self.upper and open_ended)

    def contains(self, value: Fraction) -> bool:
        above = self.lower < value if self.lower_open else self.lower <= value
        below = value < self.upper if self.upper_open else value <= self.upper
        return above and below

    def intersect(self, other: Interval) -> Interval:
        lower, upper = max(self.lower, other.lower), min(self.upper, other.upper)
        pair = (self, other)
        return Interval(
            lower,
            upper,
            any(one.lower_open for one in pair if one.lower == lower),
            any(one.upper_open for one in pair if one.upper == upper),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """Σ a_i y_i ≤ bound, or < bound where `strict`; coefficients: pairs (i, a_i) in rising i."""

    coefficients: tuple[tuple[int, Fraction], ...]
    bound: Fraction
    strict: bool = False

    def holds(self, y: list[Fraction]) -> bool:
        total = sum((a * y[i] for i, a in self.coefficients), Fraction(0))
        return total < self.bound if self.strict else total <= self.bound


#: A conjunction: an output is in it where every row holds.
Disjunct = tuple[Row, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """One box of inputs, and the outputs that are unsafe for it: those in any of the disjuncts."""

    box: tuple[Interval, ...]
    disjuncts: tuple[Disjunct, ...]

    @property
    def rows(self) -> list[range]:
        """The rows of each disjunct, counted through all of them."""
        ends = list(accumulate(map(len, self.disjuncts)))
        return [range(end - len(d), end) for end, d in zip(ends, self.disjuncts, strict=True)]

    def outer(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """The smallest box with ends in `dtype` that contains this one: what a proof is over."""
        lower, upper = outward(self.box)
        return _convert(lower, dtype, up=False), _convert(upper, dtype, up=True)

    def inner(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The largest box with ends in `dtype` inside this one: where a counterexample may lie.

        Where no number of `dtype` lies in an input's interval, its lower end is above its upper.
        """
        lower = _tensor(_inward(i.lower, i.lower_open, up=True) for i in self.box)
        upper = _tensor(_inward(i.upper, i.upper_open, up=False) for i in self.box)
        return _convert(lower, dtype, up=True), _convert(upper, dtype, up=False)

    def contains(self, x: Tensor) -> bool:
        """Whether x, of as many numbers as there are inputs, lies in the box exactly."""
        values = x.flatten().tolist()
        return all(map(math.isfinite, values)) and all(
            interval.contains(Fraction(value))
            for interval, value in zip(self.box, values, strict=True)
        )

    def violated_by(self, y: Tensor) -> bool:
        """Whether the outputs y are unsafe, exactly; a NaN or an infinity never is."""
        values = y.flatten().tolist()
        if not all(map(math.isfinite, values)):
            return False
        exact = [Fraction(value) for value in values]
        return any(all(row.holds(exact) for row in disjunct) for disjunct in self.disjuncts)


@dataclass(frozen=True, eq=False)
class Property:
    """The cases of a VNN-LIB file. It holds where no case has an input with an unsafe output.

    name: the file. inputs, outputs: how many numbers the network takes and gives, in row-major
    order. empty: how many cases were left out because no input is in their box.
    """

    name: str
    inputs: int
    outputs: int
    cases: tuple[Case, ...]
    empty: int = 0

    def alike(self, size: int) -> list[list[int]]:
        """The positions of the cases, in groups of at most `size` with the same disjuncts."""
        found: dict[tuple[Disjunct, ...], list[int]] = {}
        for index, case in enumerate(self.cases):
            found.setdefault(case.disjuncts, []).append(index)
        return [
            indices[first : first + size]
            for indices in found.values()
            for first in range(0, len(indices), size)
        ]

    def box(self, cases: Sequence[Case], input_shape: Shape, dtype: torch.dtype) -> Box:
        """The boxes of cases, grown to numbers of `dtype`, for a network of this input shape."""
        ends = [case.outer(dtype) for case in cases]
        lower, upper = (
            torch.stack(side).reshape(-1, *input_shape) for side in zip(*ends, strict=True)
        )
        return Box(lower, upper)

    def specification(
        self, disjuncts: Sequence[Disjunct], *, grown: bool, dtype: torch.dtype = torch.float64
    ) -> Specification:
        """⟨a, y⟩ − b for every row of the disjuncts, one after another, in numbers of `dtype`.

        b is rounded up where `grown`, so that rows are positive only where the unsafe condition
        fails; else down, so that they are negative only where it holds. Coefficients are rounded to
        the nearest float64 and have to be numbers of `dtype`: whole ones are exact.
        """
        rows = [row for disjunct in disjuncts for row in disjunct]
        C = torch.zeros(len(rows), self.outputs, dtype=torch.float64)
        for line, row in zip(C, rows, strict=True):
            for output, coefficient in row.coefficients:
                line[output] = float(coefficient)
        if not bool((C.to(dtype).double() == C).all()):
            raise InvalidInputError(
                f"VNN-LIB {self.name!r} has coefficients that {dtype} does not hold: use "
                "torch.float64."
            )
        b = _tensor(_rounded(row.bound, up=grown) for row in rows)
        return Specification(C.to(dtype), -_convert(b, dtype, up=grown))

    def require_exact(self) -> None:
        """Refuse coefficients that float64 does not hold, as rows with others prove nothing."""
        for case in self.cases:
            for row in (row for disjunct in case.disjuncts for row in disjunct):
                for _, coefficient in row.coefficients:
                    if Fraction(float(coefficient)) != coefficient:
                        raise InvalidInputError(
                            f"VNN-LIB {self.name!r} has the coefficient {coefficient}, which "
                            "float64 does not hold, and a proof would be about another row: "
                            "multiply its inequality by a number that makes all of them whole."
                        )

    def require_fit(self, input_shape: Shape, output_shape: Shape) -> None:
        """Refuse a network of other numbers of inputs or outputs."""
        for letter, declared, shape in (
            ("X", self.inputs, input_shape),
            ("Y", self.outputs, output_shape),
        ):
            if declared != math.prod(shape):
                what = "inputs" if letter == "X" else "outputs"
                raise InvalidInputError(
                    f"VNN-LIB {self.name!r} declares {letter}_0 … {letter}_{declared - 1} but the "
                    f"network has {math.prod(shape)} {what}, of shape {tuple(shape)}: choose the "
                    "model that the property was written for."
                )


def outward(box: Sequence[Interval]) -> tuple[Tensor, Tensor]:
    """The smallest box with ends in float64 that contains this one."""
    lower = _tensor(_rounded(interval.lower, up=False) for interval in box)
    return lower, _tensor(_rounded(interval.upper, up=True) for interval in box)


def _tensor(values: Iterable[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)


def _rounded(value: Fraction | float, *, up: bool) -> float:
    """The nearest float64 that is not below the value, or not above it."""
    nearest = float(value)
    if up and nearest < value:
        return math.nextafter(nearest, math.inf)
    if not up and nearest > value:
        return math.nextafter(nearest, -math.inf)
    return nearest


def _inward(value: Fraction | float, open_end: bool, *, up: bool) -> float:
    """The outermost float64 that an interval's end leaves in it."""
    rounded = _rounded(value, up=up)
    if open_end and rounded == value:
        return math.nextafter(rounded, math.inf if up else -math.inf)
    return rounded


def _convert(end: Tensor, dtype: torch.dtype, *, up: bool) -> Tensor:
    """Each float64 rounded up, or down, to a number of `dtype`."""
    nearest = end.to(dtype)
    outside = nearest.double() < end if up else nearest.double() > end
    beyond = torch.full_like(nearest, math.inf if up else -math.inf)
    return torch.where(outside, torch.nextafter(nearest, beyond), nearest)
