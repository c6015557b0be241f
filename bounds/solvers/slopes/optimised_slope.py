"""The dual bound with the best slopes for each row, between the one-pass bounds and the LP optimum.

`bounds.solvers.slopes.ascent` raises the lower side from the better of the two one-pass bounds. The
upper side comes from the points where its bounds are attained: they are not feasible, but their
averages tend to solutions of the LP, as in other subgradient methods. Averages that weigh later
points more (Shamir & Zhang 2013, arXiv 1212.1824, "polynomial-decay averaging") are pushed forward
to feasible points every few iterations, which proves the gap. An LP leaves the batch when its gap
has closed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.dual.primal import push_forward
from bounds.network.memory import Numbers, numbers_that_fit, pass_numbers
from bounds.relaxation.relaxation import Relaxation
from bounds.rounding import down_to
from bounds.solution.certificate import Certificate
from bounds.solution.solution import Solution, merge
from bounds.solution.status import Status
from bounds.solvers.goal import Goal
from bounds.solvers.progress import Progress, certified
from bounds.solvers.slopes.ascent import SlopeAscent

#: Iterations between two looks at the gap.
CHECK = 10
#: The average after k iterations weighs the point of iteration j about as (j / k) ** DECAY.
DECAY = 3
#: The share of its iterations that an LP's gap may stand still before another method goes on, and
#: the least number of them.
PATIENCE, LEAST_PATIENCE = 0.5, 200
#: The share of the tolerance to go for: the rest is for the rounding of what is found.
CLOSE = 0.9
#: Copies of what changes with every iteration, (x, z) or the slopes, that an LP holds.
ITERATES = 16
#: Numbers that the LPs hold which iterate together: what stays in a processor's cache, or what
#: fills a GPU.
BATCH = Numbers(cpu=2**21, device=2**28)


@dataclass(eq=False, kw_only=True)
class _Averages(Progress):
    """mean_x (B, S, d) and mean_z (B, S, n): of the points where the bounds so far are attained."""

    mean_x: Tensor
    mean_z: Tensor

    def update(self, ascent: SlopeAscent) -> None:
        """Take in where the bounds of one more iteration are attained."""
        weight = (1 + DECAY) / (ascent.iteration + DECAY)
        self.mean_x = self.mean_x.lerp(ascent.x.flatten(2), weight)
        self.mean_z = self.mean_z.lerp(ascent.z, weight)

    def look(self, part: Relaxation, ascent: SlopeAscent, goal: Goal, patience: float) -> None:
        """Record the bounds, the upper one of the point that the averages suggest."""
        x = self.mean_x.unflatten(2, part.network.input_shape)
        suggested = ascent.scatter(self.mean_z)
        # Rounding may take an average out of the input set.
        point = push_forward(part, part.input_set.project(x), lambda k, *_: suggested[k])
        self.record(
            ascent.iteration,
            ascent.best + part.d,
            ascent.best_nu,
            point.value,
            point.x.flatten(2),
            self.mean_z,
            ascent.magnitude + part.d.abs(),
            goal=goal,
            patience=patience,
        )


def optimised_slope(
    relaxation: Relaxation,
    *,
    goal: Goal,
    iteration_limit: int,
    deadline: Deadline,
    max_memory: int | None,
) -> Solution:
    """Bound every LP of the relaxation in its dtype; see `bounds.solve` for the options.

    Not differentiable.
    """
    limits = goal, iteration_limit, deadline
    relaxation = relaxation.convert(Tensor.detach)
    C = relaxation.C
    places = min(BATCH.on(C), numbers_that_fit(C, max_memory))
    with torch.no_grad():
        parts = [
            (part, _solve_together(lps, *limits))
            for part, lps in relaxation.parts(places // _numbers(relaxation))
        ]
    return merge(parts)


def _numbers(relaxation: Relaxation) -> int:
    """The numbers that one LP holds: its slopes, their means and averages, and a pass."""
    iterate = math.prod(relaxation.network.input_shape) + max(relaxation.unstable)
    return ITERATES * iterate + pass_numbers(relaxation.network)


def _solve_together(
    part: Relaxation, goal: Goal, iteration_limit: int, deadline: Deadline
) -> Solution:
    ascent, found = ascended(part, goal.times(CLOSE), iteration_limit, deadline)
    nu, suggested = ascent.scatter(found.best_nu), ascent.scatter(found.best_z)
    return _solution(part, found, nu, suggested, goal)


def ascended(
    part: Relaxation,
    goal: Goal,
    iteration_limit: int,
    deadline: Deadline,
    *,
    other_follows: bool = False,
) -> tuple[SlopeAscent, Progress]:
    """The ascent, which knows where its numbers belong, and the best bounds of every LP.

    other_follows: whether another method goes on from there, with LPs that come to a standstill,
    and tells of those that are done.
    """
    left, whole = part, SlopeAscent(part.network, part.relu_bounds, part.input_set, part.C)
    x = part.d.new_zeros(*part.d.shape, math.prod(part.network.input_shape))
    z = torch.zeros_like(whole.best_nu)
    beginning = Progress.beginning(x, z, whole.best_nu, part.scale())
    everything = _Averages(**beginning, mean_x=x, mean_z=z)
    ascent, at_work, told = whole, everything, 0
    for iteration in range(1, iteration_limit + 1):
        ascent.advance()
        at_work.update(ascent)
        last, late = iteration == iteration_limit, deadline.passed
        if not (last or late or iteration == 1 or iteration % CHECK == 0):
            continue
        patience = max(LEAST_PATIENCE, PATIENCE * iteration) if other_follows else math.inf
        at_work.look(left, ascent, goal, patience)
        if last or late:
            at_work.end(Status.ITERATION_LIMIT if last else Status.TIME_LIMIT)
        at_work.put_back(everything)
        if not other_follows:
            told = everything.tell(deadline, told)
        if not bool(at_work.running.any()):
            break
        kept = at_work.running_places()
        if kept is not None:
            at_work, left, ascent = at_work.take(*kept), left.take(*kept), ascent.take(*kept)
    return whole, everything


def _solution(
    part: Relaxation,
    ended: Progress,
    nu: tuple[Tensor, ...],
    suggested: tuple[Tensor, ...],
    goal: Goal,
) -> Solution:
    """The bounds in float64, of what was found in whatever dtype, and then rounded outward to it.

    The largest of many values in float32 would be that of the luckiest rounding.
    """
    dtype, exact = part.d.dtype, part.double()
    x = ended.best_x.unflatten(2, part.network.input_shape).double()
    # A float32 point of a float32 ball may lie a little outside the same ball in float64.
    point = push_forward(exact, exact.input_set.project(x), lambda k, *_: suggested[k])
    coarser = torch.finfo(dtype).eps / torch.finfo(torch.float64).eps
    solution = certified(
        exact,
        tuple(each.double() for each in nu),
        point,
        ended.status,
        ended.iterations,
        magnitude=coarser * ended.magnitude,
        goal=goal,
        method="optimised_slope",
    )
    return replace(
        solution,
        lower=down_to(solution.lower, dtype),
        upper=-down_to(-solution.upper, dtype),
        certificate=Certificate(nu, point.x.to(dtype), tuple(z.to(dtype) for z in point.z)),
    )
