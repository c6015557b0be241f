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

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.relaxation.relaxation import Relaxation
from bounds.solution.solution import Solution
from bounds.solution.status import Status
from bounds.solvers.goal import Goal
from bounds.solvers.interior_point.batches import BATCH, places
from bounds.solvers.interior_point.evaluation import cheapest, on_condensed, record, vertex_costs
from bounds.solvers.interior_point.newton import Direction, NewtonSystem
from bounds.solvers.interior_point.presolve import Presolved
from bounds.solvers.interior_point.simplices import Simplices
from bounds.solvers.interior_point.sparsity import Panels, panels_of
from bounds.solvers.interior_point.triangle_lp import TriangleLP
from bounds.solvers.progress import Progress

#: The fraction of the way to the boundary that a step goes.
STEP = 0.995
#: Iterations without a smaller gap after which an LP counts as broken down.
PATIENCE = 10
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
    at_work, told = everything, 0

    def take_in(costs: Tensor, nu: Tensor, b: Tensor, post: Tensor, iteration: int) -> None:
        record(
            at_work, simplices, costs, nu, b, post, iteration, goal=goal, patience=PATIENCE
        )  # fmt: skip

    costs = vertex_costs(simplices, nu)
    take_in(costs, nu, *cheapest(simplices, costs), 0)
    for iteration in range(iteration_limit + 1):
        # Bounds at this iterate: every ν is dual feasible, every b can be pushed forward.
        costs = vertex_costs(simplices, at_work.nu)
        b, pre, post = simplices.point(at_work.t)
        take_in(costs, at_work.nu, b, post, iteration)
        if iteration == iteration_limit:
            at_work.end(Status.ITERATION_LIMIT)
        elif deadline.passed:
            at_work.end(Status.TIME_LIMIT)
        at_work.put_back(everything)
        told = everything.tell(deadline, told)
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
    costs = vertex_costs(simplices, nu)
    slack = costs - simplices.repeat(*simplices.minima(costs))
    lift = slack.mean(-1, keepdim=True)
    return _Iterates(
        **Progress.beginning(torch.zeros_like(lp.c_b), torch.zeros_like(lp.c_z), nu, lp.scale),
        t=torch.cat((1 - b, b, z, z, z), -1),
        y=slack + torch.where(lift > 0, lift, 1.0),
        nu=nu,
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
    limits = goal.times(1 / 2), iteration_limit, deadline

    def work(part: Relaxation, lp: TriangleLP, nu: Tensor) -> Progress:
        presolved = Presolved.of(lp) if part.implied else None
        if presolved is not None and presolved.pays:
            return _alone(presolved, nu, *limits)
        return as_rows(lp, nu, places(part, nu.shape[2]), *limits)

    return on_condensed(
        relaxation, work, method="interior_point", goal=goal, deadline=deadline,
        max_memory=max_memory,
    )  # fmt: skip


def as_rows(
    lp: TriangleLP, nu: Tensor, at_once: int, goal: Goal, iteration_limit: int, deadline: Deadline
) -> Progress:
    """All LPs with the matrices of their inputs, from ν on, so many at a time."""
    every_panel = panels_of(lp)
    images, rows = (torch.arange(size, device=nu.device) for size in nu.shape[:2])
    everything = Progress(**Progress.beginning(lp.c_b, lp.c_z, nu, lp.scale))
    for some in rows.split(max(1, at_once // len(nu))):
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
    for group in presolved.alone(BATCH.on(nu)):
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
