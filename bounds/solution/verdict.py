"""What counts as a proof: the one place where bounds become verdicts.

Everything else fails closed. However a solve ends (docs/guide/verdicts.md has a table), what it
says counts only through `trusted`: sound bounds, of a solve that did not break down, that are
numbers and do not contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from bounds.errors import InvalidInputError
from bounds.solution.status import Status

#: "unsat": proved, no input of the set has an unsafe output. "sat": one was found and replayed.
Verdict = Literal["unsat", "sat", "unknown"]


def proved(lower: Sequence[float], disjuncts: Sequence[Sequence[int]]) -> bool:
    """Whether no output is unsafe: in every disjunct, a row is positive.

    lower: trusted lower bounds of the rows. disjuncts: the rows of each.
    """
    return all(any(lower[row] > 0 for row in disjunct) for disjunct in disjuncts)


class Bounds(Protocol):
    """What of a `Solution` counts."""

    @property
    def lower(self) -> Tensor: ...
    @property
    def upper(self) -> Tensor: ...
    @property
    def status(self) -> Tensor: ...
    @property
    def method(self) -> str: ...
    @property
    def sound(self) -> bool: ...
    @property
    def partial(self) -> bool: ...


def trusted(solution: Bounds) -> Tensor:
    """Lower bounds of the rows that may prove something, (batch, rows); −inf for the others.

    A row is not trusted where the arithmetic broke down, where a bound is NaN or infinite, where no
    feasible point was found, or where the one found contradicts the bound: the l, u of the
    relaxation may then exclude all of its inputs, and would prove anything.

    Raises InvalidInputError for bounds that hold up to rounding only, or for a part of the inputs.
    """
    if solution.partial:
        raise InvalidInputError(
            f"the bounds of this {solution.method!r} solution hold on one side of its splits, and "
            "prove nothing for the other: solve the relaxation that is not split."
        )
    if not solution.sound:
        raise InvalidInputError(
            f"the bounds of this {solution.method!r} solution hold up to rounding only and prove "
            "nothing: solve with sound=True."
        )
    lower, upper = solution.lower.detach(), solution.upper.detach()
    numbers = torch.isfinite(lower) & torch.isfinite(upper)
    ended_well = solution.status != int(Status.NUMERICAL_ERROR)
    return torch.where(numbers & (lower <= upper) & ended_well, lower, -torch.inf)
