"""Formulas of VNN-LIB, of either version, and their disjunctive normal form.

Nothing here recurses: a file may nest as deep as it is long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bounds.read.vnnlib.comparisons import Comparison
from bounds.read.vnnlib.syntax import Malformed
from bounds.read.vnnlib.terms import Literal

#: Limits of the disjunctive normal form: its clauses, and the inequalities in all of them. Of the
#: competition's files the largest has 120,000, a box and two rows each.
MAX_CLAUSES = 150_000
MAX_LITERALS = 2_000_000


@dataclass(frozen=True, slots=True)
class Connective:
    """The conjunction, or else the disjunction, of its children.

    clauses, literals: how many its disjunctive normal form has, counted no further than the limits.
    """

    conjunction: bool
    children: tuple[Formula, ...]
    clauses: int
    literals: int


#: What formulas are made of: of version 1, and of version 2.
Leaf = Literal | Comparison
Formula = Leaf | Connective


def connect(head: str, children: Sequence[Formula]) -> Connective:
    """The formula that "and" or "or" makes of others."""
    if not children:
        raise Malformed(f"{head!r} without formulas", "give it one or more")
    total = _size(children[0])
    for child in children[1:]:
        one, other = total, _size(child)
        if head == "and":
            total = (one[0] * other[0], one[0] * other[1] + one[1] * other[0])
        else:
            total = (one[0] + other[0], one[1] + other[1])
        total = (min(total[0], MAX_CLAUSES + 1), min(total[1], MAX_LITERALS + 1))
    return Connective(head == "and", tuple(children), *total)


def _size(formula: Formula) -> tuple[int, int]:
    """The clauses of its disjunctive normal form, and the literals in them."""
    return (formula.clauses, formula.literals) if isinstance(formula, Connective) else (1, 1)


def split(formulas: Iterable[Formula]) -> tuple[list[Leaf], list[Connective]]:
    """The literals of a conjunction, and its disjunctions of two formulas or more."""
    literals: list[Leaf] = []
    disjunctions: list[Connective] = []
    pending = list(formulas)[::-1]
    while pending:
        formula = pending.pop()
        if not isinstance(formula, Connective):
            literals.append(formula)
        elif formula.conjunction or len(formula.children) == 1:
            pending += formula.children[::-1]
        else:
            disjunctions.append(formula)
    return literals, disjunctions


# Linked lists, whose tails the branches of an expansion share.
_Chosen = tuple[list[Leaf], "_Chosen"] | None
_Todo = tuple[Connective, "_Todo"] | None


def expand(disjunctions: Sequence[Connective]) -> Iterator[list[Leaf]]:
    """The clauses of a conjunction of disjunctions, each as the literals chosen from them.

    Raises Malformed where there are too many.
    """
    if disjunctions:
        whole = connect("and", disjunctions)
        if whole.clauses > MAX_CLAUSES or whole.literals > MAX_LITERALS:
            raise Malformed(
                f"its disjunctive normal form has more than {MAX_CLAUSES} clauses, or "
                f"{MAX_LITERALS} inequalities",
                "split it over several files",
            )
    return _branches(disjunctions)


def _branches(disjunctions: Sequence[Connective]) -> Iterator[list[Leaf]]:
    branches: list[tuple[_Chosen, _Todo]] = [(None, _ahead(disjunctions, None))]
    while branches:
        chosen, todo = branches.pop()
        if todo is None:
            parts: list[list[Leaf]] = []
            while chosen is not None:
                part, chosen = chosen
                parts.append(part)
            yield [literal for part in parts[::-1] for literal in part]
            continue
        first, rest = todo
        for child in first.children[::-1]:
            literals, inner = split([child])
            branches.append(((literals, chosen) if literals else chosen, _ahead(inner, rest)))


def _ahead(disjunctions: Sequence[Connective], rest: _Todo) -> _Todo:
    for disjunction in disjunctions[::-1]:
        rest = (disjunction, rest)
    return rest
