"""Bounds that hold over the reals, from evidence that was found in whatever arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.certificate import Certificate
from bounds.memory import parts_that_fit, pass_numbers
from bounds.relaxation import Relaxation
from bounds.rounding import down_to
from bounds.solution import Solution, Status, merge


@torch.no_grad()
def soundly(solution: Solution, relaxation: Relaxation, max_memory: int | None = None) -> Solution:
    """The solution whose bounds are those that its certificate proves, rounded outward.

    They are evaluated in float64, whatever the relaxation is in. Nothing else that the solver said
    of them counts.
    """
    double = relaxation.double()
    evidence = solution.certificate.convert(Tensor.double)
    parts = []
    for images, rows in parts_that_fit(double.C, pass_numbers(double.network), max_memory):

        def part_of(tensor: Tensor, images: Tensor = images, rows: Tensor = rows) -> Tensor:
            return tensor[images][:, rows]

        part, certificate = double.take(images, rows), evidence.convert(part_of)
        lower, point = certificate.lower(part), certificate.point(part)
        dtype = solution.lower.dtype
        status = part_of(solution.status)
        status = torch.where(torch.isfinite(lower), status, int(Status.NUMERICAL_ERROR))
        bounds = Solution(
            down_to(lower, dtype),
            -down_to(-point.value, dtype),
            status,
            part_of(solution.iterations),
            Certificate(certificate.multipliers, point.x, point.z),
            solution.method,
            sound=True,
        )
        parts.append(((images, rows), bounds))
    return merge(parts)
