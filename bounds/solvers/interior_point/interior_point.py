"""The LP optimum by a Mehrotra predictor–corrector on a product of simplices.

Written by vertex weights (`bounds.solvers.interior_point.simplices`), all inequalities of the
condensed LP become "weights ≥ 0 and sum to 1", and the n definitions ẑ = A b + L z + e are all that
links the variables. The Newton system then reduces to one n × n positive definite matrix an LP
(`bounds.solvers.interior_point.newton`), built from (co)variances of the vertices under the weights
D = t / y: sums of positive terms, in which nothing cancels as the iterates approach a vertex. The
textbook form, with slacks such as z − ẑ, breaks down there.

Notation: t the vertex weights, y their dual slacks, ν the multipliers of the definitions, μ the
mean of t ∘ y. The dual equations hold at every iterate, so each ν gives a valid bound. Mehrotra
1992, doi 10.1137/0802028.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import fixed
from bounds.dual.primal import push_forward
from bounds.errors import InvalidInputError
from bounds.network.memory import numbers_that_fit
from bounds.relaxation.relaxation import Relaxation
from bounds.solution.solution import Solution, merge
from bounds.solution.status import Status
from bounds.solvers.cost import matrix_numbers
from bounds.solvers.goal import Goal
from bounds.solvers.interior_point.condense import condense
from bounds.solvers.interior_point.newton import Direction, NewtonSystem
from bounds.solvers.interior_point.presolve import Presolved
from bounds.solvers.interior_point.simplices import Simplices
from bounds.solvers.interior_point.sparsity import Panels, panels_of
from bounds.solvers.interior_point.triangle_lp import TriangleLP
from bounds.solvers.progress import Progress, certified, late

#: The fraction of the way to the boundary that a step goes.
STEP = 0.995
#: Iterations without a smaller gap after which an LP counts as broken down.
PATIENCE = 10
#: Numbers in all the matrices T of the LPs that are solved together: what stays in a processor's
#: cache, or what fills a GPU.
BATCH = {"cpu": 2**22, "cuda": 2**27}
#: LPs of up to so many neurons are assembled in one batch, larger ones panel by panel.
SMALL = 128


@dataclass(eq=False, kw_only=True)
class _Iterates(Progress):
    """t, y: (B, S, 2 d + 3 n). nu: (B, S, n). best_x stands for b."""

    t: Tensor
    y: Tensor
    nu: Tensor


def solve_condensed(
    lp: TriangleLP,
    panels: list[Panels] | None,
    nu: Tensor,
    *,
    goal: Goal,
    iteration_limit: int,
    deadline: Deadline,
) -> _Iterates:
    """The best multipliers and feasible points of every LP, from multipliers ν (B, S, n) on."""
    everything, left, simplices = _start(lp, nu), lp, Simplices(lp)
    at_work = everything
    # The point that the first ν suggests: each variable at the end that its cost pulls it to.
    costs = _costs(simplices, nu)
    _, cost_b, *_, cost_face = simplices.blocks(costs)
    greedy_b, greedy_z = (cost_b < 0).to(nu), torch.where(cost_face < 0, simplices.upper, 0.0)
    _record(at_work, simplices, costs, greedy_b, greedy_z, 0, goal)
    for iteration in range(iteration_limit + 1):
        # Bounds at this iterate: every ν is dual feasible, every b can be pushed forward.
        costs = _costs(simplices, at_work.nu)
        b, pre, post = simplices.point(at_work.t)
        _record(at_work, simplices, costs, b, post, iteration, goal)
        if iteration == iteration_limit:
            at_work.end(Status.ITERATION_LIMIT)
        elif deadline.passed:
            at_work.end(Status.TIME_LIMIT)
        at_work.put_back(everything)
        if not bool(at_work.running.any()):
            break
        kept = at_work.running_places()
        if kept is not None:
            at_work, left = at_work.take(*kept), left.take(*kept)
            if panels is not None:
                panels = [panels[image] for image in kept[0].tolist()]
            simplices = Simplices(left)
            b, pre, post = simplices.point(at_work.t)

        t, y = at_work.t, at_work.y
        mu = (t * y).mean(-1, keepdim=True)
        metric = simplices.metric(t / y)
        system = NewtonSystem(left, panels, metric, at_work.running)
        direction = Direction(simplices, metric, system, simplices.residual(b, pre, post), t, y)

        # Predictor: towards μ = 0.
        _, dt, dy = direction.towards(torch.zeros_like(t), refine=False)
        predicted = ((t + _length(t, dt) * dt) * (y + _length(y, dy) * dy)).mean(-1, keepdim=True)
        sigma = (predicted / mu) ** 3

        # Corrector: towards σμ, with the predictor's second-order term.
        dnu, dt, dy = direction.towards(sigma * mu - dt * dy, refine=True)
        running = at_work.running.unsqueeze(-1)
        primal = torch.where(running, STEP * _length(t, dt, STEP), 0.0)
        dual = torch.where(running, STEP * _length(y, dy, STEP), 0.0)
        at_work.t = t + primal * dt
        at_work.y = y + dual * dy
        at_work.nu = at_work.nu + dual * dnu
    return everything


def _start(lp: TriangleLP, nu: Tensor) -> _Iterates:
    """Equal weights on the vertices; each simplex's slacks lifted until they are positive.

    A budget allows for less of b: for two thirds of it, as the equal weights of its row say.
    """
    simplices = Simplices(lp)
    b = lp.within_budget(torch.full_like(lp.c_b, 3 / 4)) * 2 / 3
    z = torch.full_like(lp.c_z, 1 / 3)
    costs = _costs(simplices, nu)
    slack = costs - simplices.repeat(*simplices.minima(costs))
    lift = slack.mean(-1, keepdim=True)
    return _Iterates(
        **Progress.beginning(torch.zeros_like(lp.c_b), torch.zeros_like(lp.c_z), nu, lp.scale),
        t=torch.cat((1 - b, b, z, z, z), -1),
        y=slack + torch.where(lift > 0, lift, 1.0),
        nu=nu,
    )


def _costs(simplices: Simplices, nu: Tensor) -> Tensor:
    """The vertex costs at ν, objective included."""
    on_b, on_z = simplices.price(nu)
    return simplices.costs(simplices.lp.c_b + on_b, simplices.lp.c_z + on_z, nu)


def _record(
    at_work: _Iterates,
    simplices: Simplices,
    costs: Tensor,
    b: Tensor,
    post: Tensor,
    iteration: int,
    goal: Goal,
) -> None:
    """The bounds at ν, whose vertex costs these are, and at b with z near what `post` suggests."""
    lower, magnitude = simplices.dual_value(costs, at_work.nu)
    b = simplices.lp.within_budget(b)
    z, upper = simplices.push_forward(b, post)
    at_work.record(
        iteration,
        lower,
        at_work.nu,
        upper,
        b,
        z,
        magnitude,
        goal=goal,
        patience=PATIENCE,
    )


def _length(v: Tensor, dv: Tensor, shortened: float = 1.0) -> Tensor:
    """The largest step of at most 1 / shortened for which v + step · dv ≥ 0, a number a row."""
    return 1 / (-dv / v).amax(-1, keepdim=True).clamp(min=shortened)


def interior_point(
    relaxation: Relaxation,
    *,
    goal: Goal,
    iteration_limit: int,
    deadline: Deadline,
    max_memory: int | None,
) -> Solution:
    """Solve every LP of the relaxation in float64; see `bounds.solve` for the options."""
    limits = goal, iteration_limit, deadline, max_memory
    relaxation = relaxation.double()
    needed, given = matrix_numbers(relaxation), numbers_that_fit(relaxation.C, max_memory)
    if needed > given:
        raise InvalidInputError(
            f"solve(method='interior_point') needs {8 * needed} bytes for the matrices of one LP "
            f"with {max(relaxation.unstable)} unstable neurons but has {8 * given}: give more with "
            "max_memory=..., or use method='pdhg'."
        )
    rows = torch.arange(relaxation.C.shape[1], device=relaxation.C.device)
    with torch.no_grad():
        parts = [
            ((images, rows), _solve_together(relaxation.take(images, rows), *limits))
            for images in _alike(relaxation)
        ]
    return merge(parts)


def _alike(relaxation: Relaxation) -> Iterator[Tensor]:
    """The inputs to solve together: of alike numbers of unstable neurons, to pad little."""
    sizes = torch.tensor(relaxation.unstable)
    order = torch.argsort(sizes)
    first = 0
    while first < len(order):
        alike = int((sizes[order] <= 1.25 * int(sizes[order[first]]) + 32).sum()) - first
        widest = int(sizes[order[first + alike - 1]])
        count = min(alike, _places(relaxation, widest) // relaxation.C.shape[1])
        images = order[first : first + max(1, count)]
        yield images.sort().values.to(relaxation.C.device)
        first += len(images)


def _places(relaxation: Relaxation, n: int) -> int:
    """How many LPs of n unstable neurons to solve at a time."""
    return max(1, BATCH[relaxation.C.device.type] // max(1, n) ** 2)


def _solve_together(
    part: Relaxation,
    goal: Goal,
    iteration_limit: int,
    deadline: Deadline,
    max_memory: int | None,
) -> Solution:
    lp = condense(part, max_memory=max_memory, deadline=deadline)
    if lp is None:
        return late(part, goal=goal, method="interior_point")
    last = len(part.network.nodes) - 1
    start = backward_pass(part.network, part.relu_bounds, last, part.C, fixed)
    nu = lp.gather([start.multipliers[k] for k in range(len(part.relu_bounds))])
    limits = goal.times(1 / 2), iteration_limit, deadline
    presolved = Presolved.of(lp) if part.implied else None
    if presolved is not None and presolved.pays:
        ended = _alone(presolved, nu, *limits)
    else:
        ended = _as_rows(lp, nu, _places(part, nu.shape[2]), *limits)
    # The bounds that count are those of the whole network, not of the condensed LP.
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
        method="interior_point",
    )


def _as_rows(
    lp: TriangleLP, nu: Tensor, places: int, goal: Goal, iteration_limit: int, deadline: Deadline
) -> Progress:
    """All LPs with the matrices of their inputs, from ν on, so many at a time."""
    every_panel = panels_of(lp)
    images, rows = (torch.arange(size, device=nu.device) for size in nu.shape[:2])
    everything = Progress(**Progress.beginning(lp.c_b, lp.c_z, nu, lp.scale))
    for some in rows.split(max(1, places // len(nu))):
        chosen = lp.take(images, some.expand(len(nu), -1))
        ended = solve_condensed(
            chosen, every_panel, nu[:, some], goal=goal, iteration_limit=iteration_limit,
            deadline=deadline,
        )  # fmt: skip
        for name in Progress.RESULTS:
            getattr(everything, name)[:, some] = getattr(ended, name)
    return everything


def _alone(
    presolved: Presolved, nu: Tensor, goal: Goal, iteration_limit: int, deadline: Deadline
) -> Progress:
    """Each LP with what presolving leaves of it, from ν on."""
    lp = presolved.lp
    # Where nothing else is known: b at the end that its cost pulls it to, z on the upper face.
    b, z = (lp.c_b < 0).to(nu), lp.upper.unsqueeze(1).expand_as(nu)
    everything = Progress(**Progress.beginning(b, z, presolved.nu, lp.scale))
    for group in presolved.alone(BATCH[nu.device.type]):
        own = panels_of(group.lp) if group.lp.e.shape[1] > SMALL else None
        ended = solve_condensed(
            group.lp, own, group.gather(nu), goal=goal, iteration_limit=iteration_limit,
            deadline=deadline,
        )  # fmt: skip
        group.put_neurons(ended.best_nu, everything.best_nu)
        group.put_neurons(ended.best_z, everything.best_z)
        group.put_inputs(ended.best_x, everything.best_x)
        rows = nu.shape[1]
        for name in ("status", "iterations", "magnitude"):
            getattr(everything, name)[group.at // rows, group.at % rows] = getattr(
                ended, name
            ).squeeze(1)
    return everything
