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
from typing import Self

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.network.memory import on_cpu
from bounds.relaxation.relaxation import Relaxation
from bounds.solution.solution import Solution
from bounds.solution.status import Status
from bounds.solvers.goal import Goal
from bounds.solvers.interior_point.batches import BATCH, places
from bounds.solvers.interior_point.evaluation import cheapest, on_condensed, record
from bounds.solvers.interior_point.newton import LEAST, MORE, Direction, NewtonSystem
from bounds.solvers.interior_point.presolve import Presolved
from bounds.solvers.interior_point.simplices import Simplices
from bounds.solvers.interior_point.sparsity import Panels, panels_of
from bounds.solvers.interior_point.triangle_lp import TriangleLP
from bounds.solvers.progress import Progress

#: The fraction of the way to the boundary that a step goes.
STEP = 0.995
#: Iterations without a smaller gap after which an LP counts as broken down.
PATIENCE = 10
#: LPs of up to so many neurons are assembled in one batch on a CPU, larger ones panel by panel.
SMALL = 128


@dataclass(eq=False, kw_only=True)
class _Iterates(Progress):
    """t, y: (2, B, S, 2 d + 3 n) in one. nu: (B, S, n). best_x stands for b.

    jitter: (B, S, 1), as of `NewtonSystem`.
    """

    ty: Tensor
    nu: Tensor
    jitter: Tensor

    def take(self, images: Tensor, rows: Tensor) -> Self:
        ty = self.ty
        self.ty = ty.movedim(0, 2)  # as every other field: inputs, and rows
        taken = super().take(images, rows)
        self.ty, taken.ty = ty, taken.ty.movedim(2, 0).contiguous()
        return taken


class _AtWork:
    """The LPs that still iterate, and what of their steps the host need not know."""

    def __init__(self, lp: TriangleLP, panels: list[Panels] | None, nu: Tensor, goal: Goal) -> None:
        self.lp, self.panels, self.goal = lp, panels, goal
        #: Whether the host may look at numbers without waiting long for them.
        self.near = on_cpu(nu)
        self.simplices = Simplices(lp)
        self.state = self.everything = _start(self.simplices, nu)
        self.iteration = nu.new_zeros((), dtype=torch.long)
        costs = self.simplices.costs(nu)
        self._take_in(costs, nu, *cheapest(self.simplices, costs))
        self.look()

    def look(self) -> None:
        """Bounds at this iterate: every ν is dual feasible, every b can be pushed forward."""
        nu = self.state.nu
        self._take_in(self.simplices.costs(nu), nu, *self.simplices.point(self.state.ty[0]))

    def _take_in(self, costs: tuple[Tensor, Tensor], nu: Tensor, b: Tensor, post: Tensor) -> None:
        record(
            self.state, self.simplices, costs, nu, b, post, self.iteration, goal=self.goal,
            patience=PATIENCE,
        )  # fmt: skip

    def step(self) -> None:
        """One step of each LP, and the bounds where it leads. On another device than the CPU no
        number of it is known to the host: such a step can be recorded once and repeated."""
        state, simplices = self.state, self.simplices
        t, y = state.ty.unbind()
        metric = simplices.metric(t / y)
        which = {"live": state.running} if self.near else {"jitter": state.jitter}
        system = NewtonSystem(self.lp, self.panels, metric, **which)
        direction = Direction(simplices, metric, system, simplices.residual(t))

        # Predictor: towards μ = 0.
        back, mean = -y, 1 / t.shape[-1]
        _, change = direction.towards(back, refine=False)
        ahead = torch.addcdiv(state.ty, change, _shortest(state.ty, change), value=-1)
        mu = _dot(t, y, mean)
        sigma = (_dot(ahead[0], ahead[1], mean) / mu) ** 3

        # Corrector: towards σμ, with the predictor's second-order term.
        target = torch.addcmul(sigma * mu, change[0], change[1], value=-1)
        dnu, change = direction.towards(torch.addcdiv(back, target, t), refine=True)
        shortest = _shortest(state.ty, change, STEP)
        state.ty = torch.addcdiv(state.ty, change, shortest, value=-STEP)
        state.nu = torch.addcdiv(state.nu, dnu, shortest[1], value=-STEP)
        if system.broken is not None:
            state.jitter = torch.where(system.broken, MORE * state.jitter, state.jitter)
        self.iteration += 1
        self.look()

    def left(self) -> int:
        """How many LPs still run. Those that have ended are left behind, where that is worth their
        copies. The only numbers that the host waits for."""
        counts = [sum(rows) for rows in self.state.running.tolist()]
        images, places = [i for i, count in enumerate(counts) if count], max(counts)
        places_now = self.state.running.numel()
        if images and len(images) * places <= (places_now - 1 if self.near else places_now // 2):
            kept = self.state.places(images, places)
            self.state.put_back(self.everything)
            self.state, self.lp = self.state.take(*kept), self.lp.take(*kept)
            if self.panels is not None:
                self.panels = [self.panels[image] for image in images]
            self.simplices = Simplices(self.lp, kept=self.simplices.kept is not None)
        return sum(counts)


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
    work, left = _AtWork(lp, panels, nu, goal), nu.shape[0] * nu.shape[1]
    for _ in range(iteration_limit):
        if deadline.passed:
            work.state.end(Status.TIME_LIMIT)
        before, left = left, work.left()
        deadline.tell(before - left)
        if not left:
            break
        work.step()
    else:
        work.state.end(Status.ITERATION_LIMIT)
    work.state.put_back(work.everything)
    return work.everything


def _start(simplices: Simplices, nu: Tensor) -> _Iterates:
    """Equal weights on the vertices; each simplex's slacks lifted until they are positive.

    A budget allows for less of b: for two thirds of it, as the equal weights of its row say.
    """
    lp, d = simplices.lp, simplices.d
    b = lp.within_budget(torch.full_like(lp.c_b, 3 / 4)) * 2 / 3
    third = torch.full_like(lp.c_z, 1 / 3)
    weights = torch.cat((1 - b, third, b, third, third), -1)
    costs = far, low = simplices.costs(nu)
    least = simplices.minima(costs)
    slack = torch.cat((-least, far - least, low - least[..., d:]), -1)
    lift = slack.mean(-1, keepdim=True)
    return _Iterates(
        **Progress.beginning(torch.zeros_like(lp.c_b), torch.zeros_like(lp.c_z), nu, lp.scale),
        ty=torch.stack((weights, slack + lift.masked_fill(lift <= 0, 1.0))),
        nu=nu,
        jitter=torch.full_like(lp.c_0, LEAST).unsqueeze(-1),
    )


def _shortest(v: Tensor, dv: Tensor, shortened: float = 1.0) -> Tensor:
    """−1 / the largest step, of at most 1 / shortened, for which v + step · dv ≥ 0; of each row."""
    return (dv / v).amin(-1, keepdim=True).clamp(max=-shortened)


def _dot(a: Tensor, b: Tensor, factor: float) -> Tensor:
    """factor · ⟨a, b⟩ of each row, (B, S, 1)."""
    rows, columns = a.reshape(-1, 1, a.shape[-1]), b.reshape(-1, b.shape[-1], 1)
    nothing = a.new_empty(1, 1, 1)
    return torch.baddbmm(nothing, rows, columns, beta=0, alpha=factor).view(*a.shape[:2], 1)


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
    every_panel = panels_of(lp) if on_cpu(nu) else None
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
        large = group.lp.e.shape[1] > SMALL
        own = panels_of(group.lp) if large and on_cpu(nu) else None
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
