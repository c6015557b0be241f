"""What counts as a proof: the one place where a bound becomes a verdict.

Nothing that a solver says is taken for granted: the multipliers of its certificate are evaluated
again, in float64 whatever it computed in, and what rounding may have added is subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from bounds.dual import backward_pass
from bounds.intermediate import MARGIN, rounding
from bounds.memory import parts_that_fit, pass_numbers
from bounds.network import AffineNode, InputNode, ReluNode, SumNode
from bounds.relaxation import Relaxation
from bounds.solution import Solution, Status

#: "unsat": proved, no input of the set has an unsafe output. "sat": one was found and replayed.
Verdict = Literal["unsat", "sat", "unknown"]


def proved(lower: Sequence[float], disjuncts: Sequence[Sequence[int]]) -> bool:
    """Whether no output is unsafe: in every disjunct, a row is positive.

    lower: trusted lower bounds of the rows. disjuncts: the rows of each.
    """
    return all(any(lower[row] > 0 for row in disjunct) for disjunct in disjuncts)


def trusted(solution: Solution, relaxation: Relaxation) -> Tensor:
    """Lower bounds of the rows that may prove something, in float64; −inf for the others.

    A row is not trusted where the arithmetic broke down, where a bound is NaN, where no feasible
    point was found, or where the one found contradicts the bound: the l, u of the relaxation may
    then exclude all of its inputs, and prove anything.
    """
    exact = relaxation.double()
    lower = torch.empty_like(exact.d)
    for images, rows in parts_that_fit(exact.C, pass_numbers(exact.network), None):
        multipliers = [nu[images][:, rows] for nu in solution.certificate.multipliers]
        lower[images.unsqueeze(1), rows] = _rounded_down(exact.take(images, rows), multipliers)
    feasible = torch.isfinite(solution.upper) & ((lower <= 0) | (solution.upper > 0))
    ended_well = torch.isfinite(solution.lower) & (solution.status != int(Status.NUMERICAL_ERROR))
    return torch.where(torch.isfinite(lower) & feasible & ended_well, lower, -torch.inf).detach()


def _rounded_down(relaxation: Relaxation, multipliers: Sequence[Tensor]) -> Tensor:
    """The dual function, less a margin for the rounding of its evaluation; (batch, rows)."""
    network = relaxation.network
    point = backward_pass(
        network,
        relaxation.relu_bounds,
        len(network.nodes) - 1,
        relaxation.C,
        lambda position, arriving, neurons: multipliers[position],
    )
    at_relus, at_output = _magnitudes(relaxation)
    own = (relaxation.C.abs() * at_output.unsqueeze(1)).flatten(2).sum(2) + relaxation.d.abs()
    margin = MARGIN * torch.finfo(own.dtype).eps * own
    margin = margin + rounding(point, relaxation.relu_bounds, at_relus)
    return point.value(relaxation.input_set, relaxation.relu_bounds) + relaxation.d - margin


def _magnitudes(relaxation: Relaxation) -> tuple[list[Tensor], Tensor]:
    """Bounds on the terms that each ReLU's input is a sum of, and those of the outputs."""
    values: list[Tensor] = []
    at_relus: list[Tensor] = []
    for node in relaxation.network.nodes:
        match node:
            case InputNode():
                ends = relaxation.input_set.lower, relaxation.input_set.upper
                values.append(torch.maximum(ends[0].abs(), ends[1].abs()))
            case AffineNode(parents=(parent,), operation=operation):
                value = operation.absolute().linear(values[parent])
                offset = operation.offset
                values.append(value if offset is None else value + offset.abs())
            case SumNode(parents=parents):
                values.append(torch.stack([values[parent] for parent in parents]).sum(0))
            case ReluNode(parents=(parent,)):
                # What leaves a ReLU is no larger than its upper bound.
                upper = relaxation.relu_bounds[len(at_relus)].upper.clamp(min=0)
                at_relus.append(values[parent])
                values.append(upper)
            case _:
                raise TypeError(f"_magnitudes does not know {type(node).__name__}.")
    return at_relus, values[-1]
