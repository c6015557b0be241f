"""VNN-LIB 1.0 → `Property`: what the files of the neural network verification competition ask.

Such a file is a list of SMT-LIB commands that declare the inputs X_0 … and the outputs Y_0 … of a
network, and assert when they are a counterexample. Read here are conjunctions and disjunctions, in
any nesting, of bounds on single inputs and of linear inequalities between outputs. Everything else
is refused by name, with its line and column: inequalities between inputs, or between inputs and
outputs; products of variables; other connectives.

A number is the real number that its decimals say. It is kept exactly, as a fraction;
`bounds.read.vnnlib.property` says how it is rounded, and to which side.

The standard's own parser, the package `vnnlib`, reads version 2 only, while the files of the
competitions of 2021 to 2024 are all of version 1.
"""

from __future__ import annotations

import os
import re

from bounds.errors import InvalidInputError
from bounds.read.vnnlib.formula import Formula, Leaf, connect, expand, split
from bounds.read.vnnlib.property import Case, Disjunct, Interval, Property, Row
from bounds.read.vnnlib.syntax import MAX_DEPTH, Malformed, Source, quoted
from bounds.read.vnnlib.terms import (
    COMPARISONS,
    OPERATORS,
    Bound,
    Term,
    Variable,
    combine,
    inequality,
    number,
)

#: Boxes times inputs: the intervals in all cases together.
MAX_INTERVALS = 10_000_000

_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d{0,8})", re.ASCII)
#: Commands that say nothing about the property.
_WITHOUT_MEANING = ("set-logic", "set-info", "check-sat", "get-model")

#: What may stand between parentheses: a word, a term or a formula.
_Value = str | Term | Formula


def read_vnnlib(path: str | os.PathLike[str]) -> Property:
    """Read the property that a VNN-LIB 1.0 file states, gzipped or not.

    Raises:
        InvalidInputError: the file cannot be read, is not VNN-LIB 1.0, is too large, or asks what
            is not modelled; in one line, with the place in the file.
    """
    return property_of(Source.read(path))


def parse_vnnlib(text: str, *, name: str = "text") -> Property:
    """The same for VNN-LIB text; name: what errors call it."""
    return property_of(Source(name, text))


def property_of(source: Source) -> Property:
    return _Reader(source).read()


class _Reader:
    """Reads each expression when its parenthesis closes, so that nothing recurses."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.declared: dict[str, set[int]] = {"X": set(), "Y": set()}
        self.asserted: list[Formula] = []

    def read(self) -> Property:
        starts: list[int] = []
        frames: list[list[_Value]] = []
        for offset, token in self.source.tokens():
            if token == "(":
                if len(frames) == MAX_DEPTH:
                    raise self.source.refusal(
                        offset, f"over {MAX_DEPTH} nested parentheses", "flatten the formula"
                    )
                starts.append(offset)
                frames.append([])
            elif not frames:
                raise self.source.refusal(
                    offset, f"found {quoted(token)} outside of every command", "remove it"
                )
            elif token == ")":
                frame, start = frames.pop(), starts.pop()
                try:
                    if frames:
                        frames[-1].append(self._value(frame))
                    else:
                        self._command(frame)
                except Malformed as error:
                    raise self.source.refusal(start, *error.args) from None
            else:
                frames[-1].append(token)
        if frames:
            raise self.source.refusal(starts[-1], "this ( is never closed", "close it")
        return self._property()

    def _command(self, frame: list[_Value]) -> None:
        match frame:
            case ["declare-const", str(name), "Real"] if match := _VARIABLE.fullmatch(name):
                letter, index = match[1], int(match[2])
                if index in self.declared[letter]:
                    raise Malformed(f"{name} is declared twice", "declare it once")
                self.declared[letter].add(index)
            case ["declare-const", *_]:
                raise Malformed(
                    "this declares no X_i or Y_i of type Real", "write (declare-const X_0 Real)"
                )
            case ["assert", formula] if isinstance(formula, Formula):
                self.asserted.append(formula)
            case ["assert", *_]:
                raise Malformed("this asserts no formula", "write (assert (<= X_0 1))")
            case ["vnnlib-version", *_]:
                raise Malformed("this is VNN-LIB 2", "give it to bounds verify")
            case [str(head), *_]:
                if head not in _WITHOUT_MEANING:
                    raise Malformed(
                        f"the command {quoted(head)} is not modelled",
                        "use declare-const and assert",
                    )
            case _:
                raise Malformed("this is no command", "use declare-const and assert")

    def _value(self, frame: list[_Value]) -> Term | Formula:
        match frame:
            case [str(head), *operands] if head in COMPARISONS:
                return inequality(head, self._terms(head, operands))
            case ["=", *operands]:
                terms = self._terms("=", operands)
                return connect("and", [inequality(head, terms) for head in ("<=", ">=")])
            case [str(head), *operands] if head in OPERATORS:
                return combine(head, self._terms(head, operands))
            case [str(head), *operands] if head in ("and", "or"):
                formulas = [operand for operand in operands if isinstance(operand, Formula)]
                if len(formulas) != len(operands):
                    raise Malformed(f"{head!r} of no formula", "give it such as (<= Y_0 Y_1)")
                return connect(head, formulas)
            case [str(head), *_]:
                found = f"({quoted(head)} …) is not modelled"
            case _:
                found = "no word follows this ("
        raise Malformed(found, "use and, or, <=, >=, <, >, = on terms of +, -, *")

    def _terms(self, head: str, operands: list[_Value]) -> list[Term]:
        terms: list[Term] = []
        for value in operands:
            if isinstance(value, str):
                match = _VARIABLE.fullmatch(value)
                if match is None:
                    terms.append(number(value))
                    continue
                variable = Variable(match[1], int(match[2]))
                if variable.index not in self.declared[variable.letter]:
                    raise Malformed(
                        f"{value} is not declared", f"put (declare-const {value} Real) before"
                    )
                terms.append(variable)
            elif isinstance(value, Term):
                terms.append(value)
            else:
                raise Malformed(f"{head!r} of a formula", "give it numbers and variables")
        return terms

    # -- the whole file

    def _property(self) -> Property:
        inputs, outputs = self._count("X"), self._count("Y")
        literals, disjunctions = split(self.asserted)
        try:
            clauses = expand(disjunctions)
        except Malformed as error:
            raise self._refusal(*error.args) from None
        box = [Interval()] * inputs
        for index, interval in _bounds(literals, box).items():
            box[index] = interval
        # The clauses of one box are the disjuncts of one case.
        found: dict[tuple[tuple[int, Interval], ...], list[Disjunct]] = {}
        rows = _rows(literals)
        for clause in clauses:
            disjunct = rows + _rows(clause)
            if not disjunct:
                raise self._refusal(
                    "its counterexamples do not depend on the outputs", "assert something of Y_0 …"
                )
            own = _bounds(clause, box)
            found.setdefault(tuple(sorted(own.items())), []).append(disjunct)
        if len(found) * inputs > MAX_INTERVALS:
            raise self._refusal(
                f"it has {len(found)} boxes of {inputs} inputs", "split it over several files"
            )
        every = [self._case(box, dict(own), disjuncts) for own, disjuncts in found.items()]
        cases = tuple(case for case in every if not any(end.empty for end in case.box))
        if not cases:
            index = next(i for i, interval in enumerate(every[0].box) if interval.empty)
            raise self._refusal(
                f"no input satisfies it: the lower bound of X_{index} is above its upper bound",
                "swap them",
            )
        return Property(self.source.name, inputs, outputs, cases, len(every) - len(cases))

    def _case(
        self, box: list[Interval], own: dict[int, Interval], disjuncts: list[Disjunct]
    ) -> Case:
        intervals = tuple(own.get(index, interval) for index, interval in enumerate(box))
        for index, interval in enumerate(intervals):
            for side, end in (("lower", interval.lower), ("upper", interval.upper)):
                if isinstance(end, float):
                    raise self._refusal(f"X_{index} has no {side} bound", "assert one")
        return Case(intervals, tuple(disjuncts))

    def _count(self, letter: str) -> int:
        declared = self.declared[letter]
        for index in range(len(declared) or 1):
            if index not in declared:
                raise self._refusal(
                    f"{letter}_{index} is not declared", "declare all from 0, without gaps"
                )
        return len(declared)

    def _refusal(self, found: str, remedy: str) -> InvalidInputError:
        return InvalidInputError(f"VNN-LIB {self.source.name!r}: {found}; {remedy}.")


def _bounds(literals: list[Leaf], box: list[Interval]) -> dict[int, Interval]:
    """The intervals that the literals leave of a box, of the inputs that they bound."""
    found: dict[int, Interval] = {}
    for literal in literals:
        if isinstance(literal, Bound):
            interval = found.get(literal.index, box[literal.index])
            found[literal.index] = interval.intersect(literal.interval)
    return found


def _rows(literals: list[Leaf]) -> Disjunct:
    return tuple(literal for literal in literals if isinstance(literal, Row))
