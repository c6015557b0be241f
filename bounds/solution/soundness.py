"""Bounds that hold over the reals, from evidence that was found in whatever arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.dual.primal import FEASIBILITY
from bounds.network.memory import numbers_that_fit, pass_numbers
from bounds.relaxation.relaxation import Part, Relaxation
from bounds.rounding import down_to
from bounds.solution.certificate import Certificate
from bounds.solution.solution import Solution, merge
from bounds.solution.status import Status


@torch.no_grad()
def soundly(solution: Solution, relaxation: Relaxation, max_memory: int | None = None) -> Solution:
    """The solution whose bounds are those that its certificate proves, rounded outward.

    They are evaluated in float64, whatever the relaxation is in. What the solver said of them
    counts only where it speaks against them: where its own bounds are no numbers, or contradict
    them, the status is NUMERICAL_ERROR.
    """
    double = relaxation.double()
    evidence = solution.certificate.convert(Tensor.double)
    parts = []
    places = numbers_that_fit(double.C, max_memory) // pass_numbers(double.network)
    for some, part in double.parts(places):

        def part_of(tensor: Tensor, some: Part | None = some) -> Tensor:
            return tensor if some is None else tensor[some[0]][:, some[1]]

        certificate = evidence.convert(part_of)
        lower, point = certificate.both(part)
        said_lower, said_upper = part_of(solution.lower), part_of(solution.upper)
        # Evidence does not mend what broke down.
        slack = FEASIBILITY * torch.finfo(solution.lower.dtype).eps * point.magnitude
        agrees = ~(said_upper < lower - slack)
        ended_well = torch.isfinite(lower) & torch.isfinite(said_lower) & agrees
        upper = torch.where(torch.isfinite(said_upper), point.value, torch.inf)
        dtype = solution.lower.dtype
        bounds = Solution(
            down_to(lower, dtype),
            -down_to(-upper, dtype),
            torch.where(ended_well, part_of(solution.status), int(Status.NUMERICAL_ERROR)),
            part_of(solution.iterations),
            Certificate(certificate.multipliers, point.x, point.z),
            solution.method,
            sound=True,
            partial=relaxation.is_split,
        )
        parts.append((some, bounds))
    return merge(parts)
