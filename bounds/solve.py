"""`bounds.solve`: one entry for every method."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from bounds.certificate import Certificate
from bounds.dual import backward_pass
from bounds.errors import InvalidInputError
from bounds.fixed_slope import RULES
from bounds.interior_point import interior_point
from bounds.primal import push_forward
from bounds.relaxation import Relaxation
from bounds.solution import Solution, Status

Method = Literal["fixed_slope", "adaptive_slope", "interior_point", "exact"]


def solve(
    relaxation: Relaxation,
    *,
    method: Method = "exact",
    tolerance: float | None = None,
    iteration_limit: int | None = None,
    time_limit: float | None = None,
) -> Solution:
    """Bound the optimum of every LP of `relaxation` from both sides.

    Args:
        method: "fixed_slope" (Wong & Kolter 2018) and "adaptive_slope" (CROWN) take one backward
            pass, in the dtype of the relaxation and differentiable; "interior_point" solves the LPs
            in float64; "exact" picks the method that reaches the optimum, which is the interior
            point.
        tolerance: of the exact methods, the gap relative to the larger of |lower| and |upper|;
            default 1e-9.
        iteration_limit: of the exact methods, per LP; default 100.
        time_limit: of the exact methods, in seconds; default none. LPs cut short still carry valid
            bounds.

    Returns:
        A `Solution` whose tensors have shape (batch, rows).

    Raises:
        InvalidInputError: an unknown method, an option that the method does not have, or one out of
            range.
    """
    if not isinstance(relaxation, Relaxation):
        raise InvalidInputError(
            f"solve got a {type(relaxation).__name__}, expected a Relaxation: make one with "
            "bounds.relax(net, ball, spec)."
        )
    if method not in get_args(Method):
        raise InvalidInputError(
            f"solve(method={method!r}): expected one of {', '.join(map(repr, get_args(Method)))}."
        )
    if method in ("fixed_slope", "adaptive_slope"):
        options = {
            "tolerance": tolerance,
            "iteration_limit": iteration_limit,
            "time_limit": time_limit,
        }
        for name, value in options.items():
            if value is not None:
                raise InvalidInputError(
                    f"solve(method={method!r}, {name}={value!r}): a one-pass method has no {name}; "
                    "leave it out."
                )
        return _one_pass(relaxation, method)
    if tolerance is not None and not 0 < tolerance < 1:
        raise InvalidInputError(f"solve(tolerance={tolerance!r}): expected a number in (0, 1).")
    if iteration_limit is not None and iteration_limit < 1:
        raise InvalidInputError(f"solve(iteration_limit={iteration_limit!r}): expected at least 1.")
    if time_limit is not None and not time_limit > 0:
        raise InvalidInputError(
            f"solve(time_limit={time_limit!r}): expected a positive time in seconds."
        )
    return interior_point(
        relaxation,
        tolerance=1e-9 if tolerance is None else tolerance,
        iteration_limit=100 if iteration_limit is None else iteration_limit,
        time_limit=float("inf") if time_limit is None else time_limit,
    )


def _one_pass(relaxation: Relaxation, method: str) -> Solution:
    network = relaxation.network
    dual_point = backward_pass(
        network,
        relaxation.relu_bounds,
        len(network.nodes) - 1,
        relaxation.C,
        RULES[method.removesuffix("_slope")],
    )
    lower = dual_point.value(relaxation.input_set, relaxation.relu_bounds) + relaxation.d
    with torch.no_grad():
        # The point that the bound itself suggests: each variable at the end its coefficient pulls
        # it to.
        primal_point = push_forward(
            relaxation,
            relaxation.input_set.argmin(dual_point.at_input),
            lambda position, low, high: torch.where(dual_point.arriving[position] < 0, high, low),
        )
    upper = primal_point.value
    status = torch.where(torch.isfinite(lower), int(Status.BOUND), int(Status.NUMERICAL_ERROR))
    multipliers = tuple(dual_point.multipliers[k].detach() for k in range(len(network.relus)))
    certificate = Certificate(multipliers, primal_point.x, primal_point.z)
    return Solution(lower, upper, status, torch.ones_like(status), certificate, method)
