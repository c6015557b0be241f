"""What counts as a proof: the one place where a bound becomes a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from bounds.relaxation import Relaxation
from bounds.solution import Solution, Status

#: "unsat": proved, no input of the set has an unsafe output. "sat": one was found and replayed.
Verdict = Literal["unsat", "sat", "unknown"]


def trusted(solution: Solution, relaxation: Relaxation) -> Tensor:
    """The lower bounds that may prove something, in float64; −inf for the others.

    A bound is not trusted where the arithmetic broke down, where it is NaN, where no feasible point
    was found or the one found contradicts it: the l, u of the relaxation may then exclude all of
    its inputs, and prove anything. What was computed in another dtype than float64 is computed
    again in float64, from its certificate.
    """
    lower = solution.lower
    if lower.dtype != torch.float64:
        lower = solution.certificate.lower(relaxation.double())
    feasible = torch.isfinite(solution.upper) & ((lower <= 0) | (solution.upper > 0))
    sound = torch.isfinite(lower) & feasible & (solution.status != int(Status.NUMERICAL_ERROR))
    return torch.where(sound, lower, -torch.inf).detach()


def proved(lower: Sequence[float], disjuncts: Sequence[Sequence[int]]) -> bool:
    """Whether no output is unsafe, which is in a disjunct where none of its rows is positive.

    lower: of each row. disjuncts: the rows of each.
    """
    return all(any(lower[row] > 0 for row in disjunct) for disjunct in disjuncts)
