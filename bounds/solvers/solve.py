"""`bounds.solve`: one entry for every method."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from bounds.arguments import (
    real,
    require_flag,
    require_option,
    require_time_limit,
    require_type,
    require_whole,
    shown,
)
from bounds.deadline import Deadline
from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import RULES
from bounds.dual.primal import suggested
from bounds.errors import InvalidInputError
from bounds.network.memory import numbers_at_once, pass_numbers, require_bytes
from bounds.progress import at_work
from bounds.relaxation.relaxation import Relaxation
from bounds.rounding import plain_arithmetic
from bounds.solution.certificate import Certificate, Claim
from bounds.solution.solution import Solution, merge
from bounds.solution.soundness import soundly
from bounds.solution.status import Status
from bounds.solvers.cost import cheapest_exact_method
from bounds.solvers.goal import Goal
from bounds.solvers.interior_point.interior_point import interior_point
from bounds.solvers.pdhg.pdhg import pdhg
from bounds.solvers.simplex.simplex import simplex
from bounds.solvers.slopes.optimised_slope import optimised_slope

Method = Literal[
    "fixed_slope",
    "adaptive_slope",
    "optimised_slope",
    "interior_point",
    "simplex",
    "pdhg",
    "exact",
]

#: The iterative methods, with the tolerance and the iteration limit of each unless it is told.
ITERATIVE: dict[str, tuple[Callable[..., Solution], float, int]] = {
    "optimised_slope": (optimised_slope, 1e-3, 500),
    "interior_point": (interior_point, 1e-9, 100),
    "simplex": (simplex, 1e-9, 100_000),
    "pdhg": (pdhg, 1e-6, 100_000),
}


def solve(
    relaxation: Relaxation,
    *,
    method: Method = "exact",
    tolerance: float | None = None,
    iteration_limit: int | None = None,
    time_limit: float | None = None,
    max_memory: int | None = None,
    sign_only: bool = False,
    sound: bool = True,
    progress: bool = False,
) -> Solution:
    """Bound the optimum of every LP of `relaxation` from both sides.

    Args:
        method: "fixed_slope" (Wong & Kolter 2018) and "adaptive_slope" (CROWN) take one backward
            pass, in the dtype of the relaxation and differentiable; "optimised_slope" (α-CROWN)
            ascends from the better of the two, in that dtype, and evaluates what it found in
            float64; "interior_point", "simplex" and "pdhg" solve the LPs in float64, by Newton
            steps on matrices, from vertex to vertex (small LPs together, larger ones one by one by
            HiGHS), and matrix-free; "exact" takes the one of these that `bounds.solvers.cost`
            expects to be cheapest, and the solution's `method` says which.
        tolerance: of the iterative methods, the gap relative to the larger of |lower| and |upper|;
            default 1e-3 for optimised slopes, 1e-9 for the interior point and the simplex method,
            and 1e-6 for pdhg.
        iteration_limit: of the iterative methods, per LP; default 500 for optimised slopes, 100 for
            the interior point, and 100,000 for the others. Of the simplex method, pivots.
        time_limit: of the iterative methods, in seconds; default none. LPs cut short still carry
            valid bounds.
        max_memory: bytes that the work may take, besides the relaxation and the solution; LPs are
            solved in parts that fit. Default: a quarter of the device's free memory.
        sign_only: of the iterative methods: leave an LP as soon as lower > 0 or upper < 0, with the
            status SIGN. A verdict needs no more.
        sound: whether the bounds are to hold over the reals: what rounding may have done to the
            passes that they rest on is bounded and taken off them. If not, they hold up to
            rounding, cost a little less, and are never `verified`.
        progress: whether a bar on standard error shows how many rows are done.

    Returns:
        A `Solution` whose tensors have shape (batch, rows).

    Raises:
        Interrupted: a KeyboardInterrupt, with the solution as Ctrl-C left it: rows that were not
            finished have the status TIME_LIMIT and bounds that are valid, infinite where there
            are none.
        InvalidInputError: no Relaxation, an unknown method, an option that the method does not
            have, one out of range or of another type, or a method that cannot solve these LPs: the
            interior point or the simplex method on ℓ2 balls, or where one LP's matrices exceed
            `max_memory`.

    >>> import torch, bounds
    >>> net = bounds.from_torch(torch.nn.Sequential(torch.nn.ReLU()), (2,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.tensor([[2.0, 0.0]], dtype=torch.float64), radius=0.5)
    >>> solve(bounds.relax(net, ball, bounds.margins(0, classes=2))).verified.tolist()
    [True]
    """
    remedy = "make one with bounds.relax(net, ball, spec)"
    require_type("solve", relaxation, Relaxation, remedy)
    require_option("solve", "method", method, get_args(Method))
    require_flag("solve", "sign_only", sign_only)
    require_flag("solve", "sound", sound)
    require_bytes("solve", max_memory)
    if method in ("fixed_slope", "adaptive_slope"):
        options = {
            "tolerance": tolerance,
            "iteration_limit": iteration_limit,
            "time_limit": time_limit,
            "sign_only": sign_only or None,
        }
        for name, value in options.items():
            if value is not None:
                raise InvalidInputError(
                    f"solve(method={method!r}, {name}={shown(value)}): a one-pass method has no "
                    f"{name}; leave it out."
                )
        with at_work("solve", progress=progress, total=relaxation.d.numel(), unit="rows") as work:
            solution = _in_parts(relaxation, method, max_memory, sound, work.deadline)
            solution = _claiming(solution, relaxation) if sound else solution
            return work.done(replace(solution, partial=relaxation.is_split))
    if tolerance is not None and not 0 < real(tolerance) < 1:
        raise InvalidInputError(
            f"solve(tolerance={shown(tolerance)}): expected a number in (0, 1)."
        )
    if iteration_limit is not None:
        iteration_limit = require_whole("solve", "iteration_limit", iteration_limit)
    time_limit = require_time_limit("solve", time_limit)
    chosen = cheapest_exact_method(relaxation, max_memory) if method == "exact" else method
    iterative, usual_tolerance, usual_limit = ITERATIVE[chosen]
    rows = relaxation.d.numel()
    with at_work(
        "solve", progress=progress, total=rows, unit="rows", time_limit=time_limit
    ) as work:
        solution = iterative(
            relaxation,
            goal=Goal(usual_tolerance if tolerance is None else float(tolerance), sign_only),
            iteration_limit=usual_limit if iteration_limit is None else iteration_limit,
            deadline=work.deadline,
            max_memory=max_memory,
        )
        if sound:
            solution = _claiming(soundly(solution, relaxation, max_memory), relaxation)
        return work.done(replace(solution, partial=relaxation.is_split))


def _claiming(solution: Solution, relaxation: Relaxation) -> Solution:
    """The solution whose certificate says what it proves."""
    claim = Claim(relaxation, solution.lower.detach(), solution.upper.detach(), solution.method)
    return replace(solution, certificate=replace(solution.certificate, claim=claim))


def _in_parts(
    relaxation: Relaxation, method: str, max_memory: int | None, sound: bool, deadline: Deadline
) -> Solution:
    places = numbers_at_once(relaxation.C, max_memory) // pass_numbers(relaxation.network)
    found = []
    with plain_arithmetic() if sound else nullcontext():
        for at, part in relaxation.parts(places):
            late = deadline.passed
            found.append((at, (_not_reached if late else _one_pass)(part, method, sound)))
            deadline.tell(part.d.numel())
    return merge(found)


def _not_reached(relaxation: Relaxation, method: str, sound: bool) -> Solution:
    """Of rows that nothing is known of: some point of the set, and no bound."""
    rows, shape = relaxation.d.detach(), relaxation.network.input_shape
    x = relaxation.input_set.convert(Tensor.detach).project(rows.new_zeros(*rows.shape, *shape))
    multipliers, z = (
        tuple(
            rows.new_zeros(*rows.shape, *neurons.lower.shape[1:])
            for neurons in relaxation.relu_bounds
        )
        for _ in range(2)
    )
    nothing, count = torch.full_like(rows, torch.inf), torch.zeros_like(rows, dtype=torch.long)
    status, certificate = count + int(Status.TIME_LIMIT), Certificate(multipliers, x, z)
    return Solution(-nothing, nothing, status, count, certificate, method, sound)


def _one_pass(relaxation: Relaxation, method: str, sound: bool) -> Solution:
    network, relu_bounds = relaxation.network, relaxation.relu_bounds
    ranges = relaxation.ranges() if sound else None
    dual_point = backward_pass(
        network,
        relu_bounds,
        len(network.nodes) - 1,
        relaxation.C,
        RULES[method.removesuffix("_slope")],
        ranges,
    )
    if sound:
        lower = dual_point.value_below(relaxation.input_set, relu_bounds, relaxation.d)
    else:
        lower = dual_point.value(relaxation.input_set, relu_bounds) + relaxation.d
    with torch.no_grad():
        primal_point = suggested(relaxation, dual_point, ranges)
    upper = primal_point.value
    status = torch.where(lower.abs() < torch.inf, int(Status.BOUND), int(Status.NUMERICAL_ERROR))
    multipliers = tuple(dual_point.multipliers[k].detach() for k in range(len(network.relus)))
    certificate = Certificate(multipliers, primal_point.x, primal_point.z)
    return Solution(lower, upper, status, torch.ones_like(status), certificate, method, sound)
