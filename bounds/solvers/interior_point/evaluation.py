"""What the methods on the condensed LP share: their batches, where they begin, the bounds there of
multipliers and points, and those of what was found on the network itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import fixed
from bounds.dual.primal import push_forward
from bounds.relaxation.relaxation import Relaxation
from bounds.solution.solution import Solution, merge
from bounds.solvers.cost import require_matrices
from bounds.solvers.goal import Goal
from bounds.solvers.interior_point.batches import alike
from bounds.solvers.interior_point.condense import CondensedLP, condense
from bounds.solvers.interior_point.simplices import Simplices
from bounds.solvers.progress import Progress, certified, late


def on_condensed(
    relaxation: Relaxation,
    work: Callable[[Relaxation, CondensedLP, Tensor], Progress],
    *,
    method: str,
    goal: Goal,
    deadline: Deadline,
    max_memory: int | None,
) -> Solution:
    """What `work` makes of the LPs of one batch of inputs after another, condensed, in float64, and
    from the multipliers of the fixed slope on."""
    relaxation = relaxation.double()
    require_matrices(method, relaxation, max_memory)
    rows = torch.arange(relaxation.C.shape[1], device=relaxation.C.device)
    parts = []
    with torch.no_grad():
        for images in alike(relaxation):
            whole = len(images) == len(relaxation.input_set)
            part = relaxation if whole else relaxation.take(images, rows)
            lp = condense(part, max_memory=max_memory, deadline=deadline)
            if lp is None:
                deadline.tell(part.d.numel())
                solution = late(part, goal=goal, method=method)
            else:
                ended = work(part, lp, fixed_multipliers(part, lp))
                solution = on_network(part, lp, ended, goal=goal, method=method)
            parts.append((None if whole else (images, rows), solution))
    return merge(parts)


def fixed_multipliers(part: Relaxation, lp: CondensedLP) -> Tensor:
    """The ν to start from, (B, S, n): those of the fixed slope."""
    last = len(part.network.nodes) - 1
    start = backward_pass(part.network, part.relu_bounds, last, part.C, fixed)
    return lp.gather([start.multipliers[k] for k in range(len(part.relu_bounds))])


def cheapest(simplices: Simplices, costs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The b and z that the costs suggest: each at the end that its cost pulls it to."""
    x = (costs[0] < 0) * simplices.height
    return x[..., : simplices.d], x[..., simplices.d :]


def record(
    at_work: Progress,
    simplices: Simplices,
    costs: tuple[Tensor, Tensor],
    nu: Tensor,
    b: Tensor,
    post: Tensor,
    iteration: Tensor | int,
    *,
    goal: Goal,
    patience: float,
) -> None:
    """The bounds at ν, whose vertex costs these are, and at b with z near what `post` suggests."""
    lower, magnitude = simplices.dual_value(costs, nu)
    b = simplices.lp.within_budget(b)
    z, upper = simplices.push_forward(b, post)
    at_work.record(
        iteration, lower, nu, upper, b, z, magnitude, goal=goal, patience=patience
    )  # fmt: skip


def on_network(
    part: Relaxation, lp: CondensedLP, ended: Progress, *, goal: Goal, method: str
) -> Solution:
    """The bounds that count: those of the whole network, not of the condensed LP."""
    suggested = lp.scatter(part, ended.best_z)
    point = push_forward(part, lp.point(part, ended.best_x), lambda k, low, high: suggested[k])
    return certified(
        part,
        lp.scatter(part, ended.best_nu),
        point,
        ended.status,
        ended.iterations,
        magnitude=ended.magnitude,
        goal=goal,
        method=method,
    )
