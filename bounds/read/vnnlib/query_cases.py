"""`Query` → `Property`: all networks of a query become one, on one vector of inputs.

Inputs that are asserted to be equal are one number of that vector. The outputs of the property are
all numbers that the networks compute (outputs and hidden ones), and after them the inputs: so an
inequality between inputs, or between inputs and outputs, is a row like any other. Boxes are also
narrowed by what inequalities between inputs leave of them.

Everything here makes the set of possible counterexamples larger, never smaller, for the sake of
proofs; `Query.holds` has the last word on a counterexample. It is made larger by what rounding can
do to sums and products that are compared, in queries over floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from bounds.errors import InvalidInputError
from bounds.read.vnnlib.comparisons import Comparison, Place
from bounds.read.vnnlib.formula import Leaf, expand, split
from bounds.read.vnnlib.property import Case, Disjunct, Interval, Property, Row
from bounds.read.vnnlib.query import Query
from bounds.read.vnnlib.reader import MAX_INTERVALS
from bounds.read.vnnlib.syntax import Malformed
from bounds.read.vnnlib.terms import COMPARISONS, Bound, Sum, collected, in_range, row, solved

#: Where an input has no bound, counterexamples are looked for this far from the other, or from 0.
REACH = Fraction(1000)
#: Rounds of narrowing boxes by inequalities between inputs, and of how many boxes.
ROUNDS, NARROWED = 3, 1000

#: Given a box, and which of its numbers each input of the query is: the largest size of each number
#: that the networks compute.
Sizes = Callable[[Sequence[Interval], Sequence[int]], Sequence[float]]


@dataclass(frozen=True, eq=False)
class Cases:
    """property: has no cases where no input satisfies the query whatever its outputs are.

    member: for each input of the query, in order, which input of the property it is. mixed:
    whether some row is about inputs, which then come after the outputs. bounded: whether every
    input has bounds; if not, the cases are about a part of all inputs, and prove nothing.
    """

    property: Property
    member: tuple[int, ...]
    mixed: bool
    bounded: bool


def cases_of(query: Query, sizes: Sizes) -> Cases:
    """Raises InvalidInputError for products of variables, and for what is too large."""
    try:
        return _Normal(query, sizes).cases()
    except Malformed as error:
        raise InvalidInputError(
            f"VNN-LIB {query.name!r}: {error.args[0]}; {error.args[1]}."
        ) from None


class _Normal:
    def __init__(self, query: Query, sizes: Sizes) -> None:
        self.query, self._sizes = query, sizes
        self.top, self.disjunctions = split(query.formulas)
        self.member = _merged(query, self.top)
        self.count = max(self.member) + 1
        self.columns: dict[int, tuple[str, int]] = {
            place: ("X", member) for place, member in zip(query.inputs, self.member, strict=True)
        }
        self.outputs = len(query.others)
        self.columns |= {place: ("Y", index) for index, place in enumerate(query.others)}
        self.known: dict[int, Bound | Row | bool] = {}
        self.largest: list[Fraction | float] = []
        self.hull: list[Interval] = []

    def cases(self) -> Cases:
        clauses = [*expand(self.disjunctions)]
        if len(clauses) * self.count > MAX_INTERVALS:
            raise Malformed(
                f"it has {len(clauses)} boxes of {self.count} inputs", "split it over several files"
            )
        box = [Interval()] * self.count
        for index, interval in self._bounds(self.top, box).items():
            box[index] = interval
        self._narrow_rounding(box)
        own = [self._bounds(clause, box) for clause in clauses]
        for index in range(self.count):
            mine = [bounds.get(index, box[index]) for bounds in own]
            self.hull.append(Interval(min(i.lower for i in mine), max(i.upper for i in mine)))
        top, self.rounds = self._rows(self.top), ROUNDS * (len(clauses) <= NARROWED)
        found: dict[tuple[Interval, ...], list[Disjunct]] = {}
        for clause, bounds in zip(clauses, own, strict=True):
            rows, inside = self._rows(clause), list(box)
            for index, interval in bounds.items():
                inside[index] = interval
            if top is None or rows is None or not self._narrow(inside, top + rows):
                continue
            # A clause without rows is satisfied by every input of its box.
            disjunct = tuple(top + rows) or (Row((), Fraction(1)),)
            found.setdefault(tuple(inside), []).append(disjunct)
        ends = [(interval.lower, interval.upper) for inside in found for interval in inside]
        bounded = all(math.isfinite(end) for pair in ends for end in pair)
        mixed = any(
            index >= self.outputs
            for disjuncts in found.values()
            for disjunct in disjuncts
            for line in disjunct
            for index, _ in line.coefficients
        )
        property = Property(
            self.query.name,
            self.count,
            self.outputs + self.count * mixed,
            tuple(
                Case(tuple(map(_within_reach, inside)), tuple(disjuncts))
                for inside, disjuncts in found.items()
            ),
            len(clauses) - len(found),
        )
        return Cases(property, self.member, mixed, bounded)

    def _bounds(self, leaves: Sequence[Leaf], box: Sequence[Interval]) -> dict[int, Interval]:
        """The intervals that bounds on single inputs leave of a box."""
        found: dict[int, Interval] = {}
        for leaf in leaves:
            if isinstance(leaf, Comparison) and self._is_bound(leaf):
                bound = self._literal(leaf)
                if isinstance(bound, Bound):
                    interval = found.get(bound.index, box[bound.index])
                    found[bound.index] = interval.intersect(bound.interval)
        return found

    def _is_bound(self, comparison: Comparison) -> bool:
        """Whether it is about one input, and nothing is rounded in it."""
        columns = {self.columns[place] for place in comparison.places}
        return [letter for letter, _ in columns] == ["X"] and not comparison.rounds

    def _rows(self, leaves: Sequence[Leaf]) -> list[Row] | None:
        """What is no bound; None where one of them never holds."""
        rows: list[Row] = []
        for leaf in leaves:
            if isinstance(leaf, Comparison):
                literal = self._literal(leaf)
                if literal is False:
                    return None
                if isinstance(literal, Row):
                    rows.append(literal)
        return rows

    def _literal(self, leaf: Comparison) -> Bound | Row | bool:
        if id(leaf) not in self.known:
            self.known[id(leaf)] = self._made(leaf)
        return self.known[id(leaf)]

    def _made(self, leaf: Comparison) -> Bound | Row | bool:
        sign, strict = COMPARISONS[leaf.head]
        match leaf.left, leaf.right:
            case (Place(place),), (Fraction() as end,) if self.columns[place][0] == "X":
                return solved(self.columns[place][1], sign, sign * end, strict)  # most are so
        coefficients, constant = self._collected(leaf)
        if coefficients and self._is_bound(leaf):
            [((_, index), factor)] = coefficients.items()
            return solved(index, factor, -constant, strict)
        slack = leaf.rounding(lambda place: self._size(self.columns[place]))
        if not coefficients:
            return slack > constant or (slack == constant and not strict)
        rounded: dict[int, Fraction] = {}
        for (letter, index), factor in coefficients.items():
            # Rows are computed with in float64.
            near = Fraction(float(in_range(factor)))
            if near != factor:
                slack += abs(factor - near) * self._size((letter, index))
            rounded[index if letter == "Y" else self.outputs + index] = near
        if slack == math.inf:
            return True  # nothing is known of it
        return row(rounded, Fraction(slack) - constant, strict)

    def _size(self, column: tuple[str, int]) -> Fraction | float:
        """The largest size of a number, for inputs of the hull of all boxes."""
        if not self.largest:
            self.largest = [max(-interval.lower, interval.upper) for interval in self.hull]
            finite = all(map(math.isfinite, self.largest))
            outputs = self._sizes(self.hull, self.member) if finite else [math.inf] * self.outputs
            self.largest += [Fraction(n) if math.isfinite(n) else math.inf for n in outputs]
        letter, index = column
        return self.largest[index + self.count * (letter == "Y")]

    def _narrow_rounding(self, box: list[Interval]) -> None:
        """What is left of a box by inequalities between inputs in which something is rounded: these
        may be all that bounds an input, whose size their rounding is a part of."""
        between = [
            leaf
            for leaf in self.top
            if isinstance(leaf, Comparison)
            and leaf.rounds
            and all(self.columns[place][0] == "X" for place in leaf.places)
        ]
        for _ in range(ROUNDS if between else 0):
            for leaf in between:
                by_column, constant = self._collected(leaf)
                for column in by_column:
                    self._solve_rounding(box, leaf, column[1], by_column, constant)

    def _solve_rounding(
        self,
        box: list[Interval],
        leaf: Comparison,
        index: int,
        by_column: dict[tuple[str, int], Fraction],
        constant: Fraction,
    ) -> None:
        """a x + Σ a_i x_i + constant ≤ error, of which x has the share s |x|."""
        others = -constant
        for (_, other), factor in by_column.items():
            end = box[other].lower if factor > 0 else box[other].upper
            if other != index:
                if not isinstance(end, Fraction):
                    return
                others -= factor * end

        def error(size: int) -> Fraction | float:
            def largest(place: int) -> Fraction | float:
                own = self.columns[place][1]
                return Fraction(size) if own == index else max(-box[own].lower, box[own].upper)

            return leaf.rounding(largest)

        fixed, share = error(0), error(1)
        factor = by_column["X", index]
        if fixed == math.inf or share == math.inf or share - fixed >= abs(factor):
            return
        end, share = others + Fraction(fixed), Fraction(share) - Fraction(fixed)
        slope = abs(factor) + (share if end < 0 else -share)
        bound = solved(index, slope if factor > 0 else -slope, end, strict=False, outward=True)
        box[index] = box[index].intersect(bound.interval)

    def _collected(self, leaf: Comparison) -> tuple[dict[tuple[str, int], Fraction], Fraction]:
        """The factors of a comparison, none of them 0, and its constant: Σ + constant ≤ 0."""
        by_place, constant = collected(Sum(((COMPARISONS[leaf.head][0], leaf.difference()),)))
        found: dict[tuple[str, int], Fraction] = {}
        for variable, factor in by_place.items():
            column = self.columns[variable.index]
            found[column] = found.get(column, Fraction(0)) + factor
        return {column: factor for column, factor in found.items() if factor}, constant

    def _narrow(self, box: list[Interval], rows: Sequence[Row]) -> bool:
        """Leave of a box what rows on inputs alone do; whether anything is left."""
        between = [r for r in rows if all(i >= self.outputs for i, _ in r.coefficients)]
        for _ in range(self.rounds if between else 0):
            before = list(box)
            for line in between:
                self._narrow_by(box, line)
            if any(interval.empty for interval in box) or before == box:
                break
        return not any(interval.empty for interval in box)

    def _narrow_by(self, box: list[Interval], line: Row) -> None:
        """Σ a_i x_i ≤ b says that a_k x_k ≤ b − Σ_{i≠k} min a_i x_i."""
        least: dict[int, Fraction] = {}
        for column, factor in line.coefficients:
            interval = box[column - self.outputs]
            end = interval.lower if factor > 0 else interval.upper
            if isinstance(end, Fraction):
                least[column] = factor * end
        total = sum(least.values(), Fraction(0))
        for column, factor in line.coefficients:
            if least.keys() | {column} == {index for index, _ in line.coefficients}:
                others = total - least.get(column, Fraction(0))
                index = column - self.outputs
                bound = solved(index, factor, line.bound - others, strict=False, outward=True)
                box[index] = box[index].intersect(bound.interval)


def _within_reach(interval: Interval) -> Interval:
    lower, upper = interval.lower, interval.upper
    if not math.isfinite(lower):
        lower = upper - 2 * REACH if math.isfinite(upper) else -REACH
        return _within_reach(Interval(lower, upper, False, interval.upper_open))
    if not math.isfinite(upper):
        return Interval(lower, lower + 2 * REACH, interval.lower_open)
    return interval


def _merged(query: Query, top: Sequence[Leaf]) -> tuple[int, ...]:
    """For each input of the query, which number it is: those that are asserted to be equal to each
    other are one."""
    below: set[tuple[int, int]] = set()
    for leaf in top:
        if isinstance(leaf, Comparison) and len(leaf.left) == len(leaf.right) == 1:
            match leaf.left[0], leaf.right[0]:
                case Place(one), Place(other):
                    below.add((one, other) if leaf.head in ("<=", "<") else (other, one))
    leader = {place: place for place in query.inputs}

    def find(place: int) -> int:
        while leader[place] != place:
            leader[place] = leader[leader[place]]
            place = leader[place]
        return place

    for one, other in below:
        if (other, one) in below and one in leader and other in leader:
            first, second = sorted((find(one), find(other)))
            leader[second] = first
    leaders = sorted({find(place) for place in query.inputs})
    numbers = {place: number for number, place in enumerate(leaders)}
    return tuple(numbers[find(place)] for place in query.inputs)
