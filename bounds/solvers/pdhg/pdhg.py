"""The LP optimum, or a stated gap to it, by a restarted primal–dual method without any matrix.

The saddle point of the Lagrangian,

    min over x in X and (ẑ, z) in the triangles, max over ν, of
    c_x · x + c_z · z + c_0 + ν · (A x + L z + e − ẑ),

is approached by the primal–dual hybrid gradient (Chambolle & Pock 2011, doi
10.1007/s10851-010-0251-1): a projected step down in (x, ẑ, z), a step up in ν at the extrapolated
point. An iteration is one pass through the network and one through its transpose
(`bounds.solvers.pdhg.matrix_free`). What makes it fast:

- a step size for each variable from the absolute row and column sums of [A L −I] (Pock & Chambolle
  2011, doi 10.1109/ICCV.2011.6126441), which two passes with |W| bound from above: the steps are
  safe, and need no estimate of a norm;
- reflected Halpern iterations with restarts (Lu & Yang 2024, arXiv 2407.16144): the next point lies
  between the anchor and the reflected step; the anchor moves up when the step has shrunk enough;
- a primal weight ω for each LP, which divides the primal steps and multiplies the dual ones.

It begins where slope ascent (`bounds.solvers.slopes.optimised_slope`) comes to a standstill, at its
multipliers and the average of the points where its bounds are attained: most LPs are within 1e-3 of
their optimum by then, after a tenth of the passes, and few are within 1e-6.

Every ν gives a valid lower bound and every x, pushed forward, an upper one; both are recorded every
few iterations, and an LP that has reached its gap leaves the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.dual.primal import push_forward
from bounds.network.memory import numbers_that_fit, pass_numbers
from bounds.relaxation.relaxation import Relaxation
from bounds.solution.solution import Solution, merge
from bounds.solution.status import Status
from bounds.solvers.goal import Goal
from bounds.solvers.pdhg.matrix_free import MatrixFreeLP
from bounds.solvers.pdhg.step_sizes import StepSizes
from bounds.solvers.progress import Progress, certified, late
from bounds.solvers.slopes.optimised_slope import ascended

#: Iterations between two evaluations of the bounds.
CHECK = 20
#: A restart comes when the step has shrunk to this part of what it was at the last one, or, if it
#: begins to grow again, to the second of these parts; or when the anchor has stood still for this
#: share of all iterations.
SUFFICIENT, NECESSARY, ARTIFICIAL = 0.2, 0.8, 0.36
#: The most iterations of slope ascent: its gap shrinks as a power of their number, this method's as
#: one of a constant.
ASCENT_LIMIT = 1000
#: Points (x, ẑ, z, ν) that are in memory at a time, those of the ascent included.
ITERATES = 20
#: The relative gap that iterations in float32 aim at, and how many of them may pass without gain.
FLOAT32_GAP, FLOAT32_PATIENCE = 1e-4, 1000
#: How far, on a logarithmic scale, a restart moves ω towards the ratio of the distances travelled.
SMOOTHING = 0.1


@dataclass(eq=False, kw_only=True)
class _Iterates(Progress):
    """point: w = (x, ẑ, z, ν), (B, S, d + 3 n). anchor: where the last restart was. weight: ω.
    steps: since then. error, last_error: the length of the first step since then and of the last.
    All but the points are (B, S, 1)."""

    point: Tensor
    anchor: Tensor
    weight: Tensor
    steps: Tensor
    error: Tensor
    last_error: Tensor

    @classmethod
    def start(
        cls, point: Tensor, best: tuple[Tensor, Tensor, Tensor], scale: Tensor, weight: Tensor
    ) -> Self:
        """At this point; best: the x, z and ν to keep until better ones are found."""
        return cls(
            **Progress.beginning(*best, scale),
            point=point,
            anchor=point,
            weight=weight,
            steps=torch.zeros_like(weight),
            error=torch.full_like(weight, torch.inf),
            last_error=torch.full_like(weight, torch.inf),
        )

    def restart(self, which: Tensor, point: Tensor, sizes: StepSizes) -> None:
        """Put the anchor of these LPs at the point, and ω nearer to the ratio of the distances that
        both sides have travelled."""
        primal, dual = sizes.lengths(point - self.anchor)
        moved = which & (primal > 0) & (dual > 0)
        ratio = torch.where(moved, dual / primal, self.weight)
        self.weight = self.weight * (ratio / self.weight) ** SMOOTHING
        self.point = torch.where(which, point, self.point)
        self.anchor = torch.where(which, point, self.anchor)
        self.steps = torch.where(which, 0.0, self.steps)


def iterate(
    lp: MatrixFreeLP,
    point: Tensor,
    *,
    goal: Goal,
    iteration_limit: int,
    patience: float,
    deadline: Deadline,
) -> _Iterates:
    """The best multipliers and feasible points of every LP, from (x, ẑ, z, ν) on.

    An LP ends where its gap has not shrunk for as many iterations as `patience` says.
    """
    sizes = StepSizes.of(lp)
    x, _, z, nu = lp.parts(point)
    scale, weight = lp.relaxation.scale(), sizes.primal_weight(lp, nu)
    everything = _Iterates.start(point, (x, z, nu), scale, weight)
    at_work, limits, told = everything, (goal, patience), 0
    _record(at_work, lp, 0, *limits, greedy=True)
    for iteration in range(iteration_limit + 1):
        is_late = deadline.passed
        if iteration % CHECK == 0 or iteration == iteration_limit or is_late:
            _record(at_work, lp, iteration, *limits, greedy=False)
            if iteration == iteration_limit:
                at_work.end(Status.ITERATION_LIMIT)
            elif is_late:
                at_work.end(Status.TIME_LIMIT)
            at_work.put_back(everything)
            if point.dtype == torch.float64:  # what ends in float32 goes on in float64
                told = everything.tell(deadline, told)
            if not bool(at_work.running.any()):
                break
            kept = at_work.running_places()
            if kept is not None:
                at_work, lp, sizes = at_work.take(*kept), lp.take(*kept), sizes.take(kept[0])

        w = at_work.point
        stepped = _step(lp, sizes, w, at_work.weight)
        error = sizes.length(stepped - w, at_work.weight)
        at_work.error = torch.where(at_work.steps == 0, error, at_work.error)
        restart = (at_work.steps > 0) & (
            (error <= SUFFICIENT * at_work.error)
            | ((error <= NECESSARY * at_work.error) & (error > at_work.last_error))
            | (at_work.steps >= ARTIFICIAL * iteration)
        )
        # Halpern: ever closer to the reflected step, ever farther from the anchor.
        share = (at_work.steps + 1) / (at_work.steps + 2)
        at_work.point = share * (2 * stepped - w) + (1 - share) * at_work.anchor
        at_work.steps, at_work.last_error = at_work.steps + 1, error
        if bool(restart.any()):
            at_work.restart(restart, stepped, sizes)
    return everything


def _step(lp: MatrixFreeLP, sizes: StepSizes, w: Tensor, weight: Tensor) -> Tensor:
    """One step of the primal–dual hybrid gradient from w."""
    x, pre, z, nu = lp.parts(w)
    _, on_x, on_z = lp.backward(lp.relaxation.C, nu)
    down = lp.shaped(x - sizes.x / weight * on_x)
    new_x = lp.relaxation.input_set.project(down).flatten(2)
    metric = sizes.pre, sizes.z
    new_pre, new_z = lp.triangles.project(
        pre + sizes.pre / weight * nu, z - sizes.z / weight * on_z, metric
    )
    residual = lp.forward(2 * new_x - x, 2 * new_z - z) - (2 * new_pre - pre)
    new_nu = nu + weight * sizes.nu * residual
    return torch.cat((new_x, new_pre, new_z, new_nu), -1)


def _record(
    at_work: _Iterates,
    lp: MatrixFreeLP,
    iteration: int,
    goal: Goal,
    patience: float,
    *,
    greedy: bool,
) -> None:
    """The bounds at the current point; with `greedy` the upper one at what ν itself suggests."""
    relaxation = lp.relaxation
    x, _, z, nu = lp.parts(at_work.point)
    prices = lp.backward(relaxation.C, nu)
    lower, magnitude = lp.dual_value(prices, nu)
    if greedy:
        x = relaxation.input_set.argmin(lp.shaped(prices[1])).flatten(2)
        z = torch.where(prices[2] < 0, lp.upper, 0.0)
    suggested = lp.scatter(z)
    inside = relaxation.input_set.project(lp.shaped(x))
    point = push_forward(relaxation, inside, lambda k, low, high: suggested[k])
    at_work.record(
        iteration,
        lower,
        nu,
        point.value,
        point.x.flatten(2),
        lp.gather(point.z),
        magnitude,
        goal=goal,
        patience=patience,
    )


def pdhg(
    relaxation: Relaxation,
    *,
    goal: Goal,
    iteration_limit: int,
    deadline: Deadline,
    max_memory: int | None,
) -> Solution:
    """Approach the optimum of every LP of the relaxation; see `bounds.solve` for the options.

    A relaxation in float32 is iterated in float32 first, and finished and certified in float64.
    """
    limits = goal, iteration_limit, deadline
    double = relaxation.double()
    places = numbers_that_fit(double.C, max_memory) // _numbers(double)
    with torch.no_grad():
        parts = [
            (part, _solve_together(lps, relaxation.C.dtype, *limits))
            for part, lps in double.parts(places)
        ]
    return merge(parts)


def _numbers(relaxation: Relaxation) -> int:
    """The numbers that one LP keeps in memory: its iterates, and two passes."""
    neurons = sum(int(k.unstable.flatten(1).any(0).sum()) for k in relaxation.relu_bounds)
    iterate = math.prod(relaxation.network.input_shape) + 3 * neurons
    return ITERATES * iterate + pass_numbers(relaxation.network)


def _solve_together(
    part: Relaxation,
    dtype: torch.dtype,
    goal: Goal,
    iteration_limit: int,
    deadline: Deadline,
) -> Solution:
    if deadline.passed:
        deadline.tell(part.d.numel())
        return late(part, goal=goal, method="pdhg")
    lp = MatrixFreeLP.of(part)
    half = goal.times(1 / 2)
    first = min(ASCENT_LIMIT, iteration_limit)
    ascent, begun = ascended(part, half, first, deadline, other_follows=True)
    nu, z = (lp.gather(ascent.scatter(best)) for best in (begun.best_nu, begun.best_z))
    point = torch.cat((begun.best_x, lp.forward(begun.best_x, z), z, nu), -1)
    # Where l and u are tighter than the layers below imply, no average may have been feasible.
    feasible = torch.isfinite(begun.upper).unsqueeze(2)
    point = torch.where(feasible, point, lp.middle(nu))
    stages = [(torch.float64, half, float("inf"))]
    if dtype == torch.float32:
        coarser = replace(goal, tolerance=max(goal.tolerance / 2, FLOAT32_GAP))
        stages.insert(0, (dtype, coarser, FLOAT32_PATIENCE))
    done = begun.iterations
    for precision, wanted, patience in stages:
        ended = iterate(
            lp.to(precision),
            point.to(precision),
            goal=wanted,
            iteration_limit=max(0, iteration_limit - int(done.max())),
            patience=patience,
            deadline=deadline,
        )
        x, z, nu = (best.double() for best in (ended.best_x, ended.best_z, ended.best_nu))
        point, done = torch.cat((x, lp.forward(x, z), z, nu), -1), done + ended.iterations

    suggested = lp.scatter(z)
    return certified(
        part,
        lp.scatter(nu),
        push_forward(part, lp.shaped(x), lambda k, low, high: suggested[k]),
        ended.status,
        done,
        magnitude=ended.magnitude,
        goal=goal,
        method="pdhg",
    )
