"""The LP optimum by dual simplex methods: many small LPs at once, and larger ones by HiGHS, input
by input, each row from the vertex that its own coefficients suggest.

Both propose, and what they propose is evaluated like the multipliers and points of all methods: the
gap says whether an LP is solved, never a status. What stays open of small LPs is left to HiGHS,
which solves LPs whose gap stays open again from nothing and to finer tolerances; and what is open
then is left to the interior point.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.relaxation.relaxation import Relaxation
from bounds.solution.solution import Solution
from bounds.solution.status import Status
from bounds.solvers.cost import together
from bounds.solvers.goal import Goal
from bounds.solvers.interior_point.batches import places
from bounds.solvers.interior_point.evaluation import cheapest, on_condensed, record
from bounds.solvers.interior_point.interior_point import as_rows
from bounds.solvers.interior_point.simplices import Simplices
from bounds.solvers.interior_point.triangle_lp import TriangleLP
from bounds.solvers.progress import Progress
from bounds.solvers.simplex.edges import Edges
from bounds.solvers.simplex.vertices import first_ties, on_far
from bounds.solvers.simplex.warm import WarmLP

#: HiGHS' tolerances: its default first, as at finer ones it may end without any answer; and then
#: what our own gaps ask for.
TOLERANCES = (1e-7, 1e-10)
#: Pivots of one run after which HiGHS counts as stuck: many for each row and column.
STUCK = 20
#: How many pivots more than it has neurons a small LP may take: ten times as many as it needs, so
#: that one that goes in circles does not keep the others waiting.
FEW = 30
#: Newton steps on what HiGHS leaves open.
NEWTON_STEPS = 100
#: By how much of a row's scale an optimum has to be above 0 for the run to stop there, where the
#: sign is all that is asked: enough for the sign to be proved by the multipliers.
ABOVE = 1e-6


def simplex(
    relaxation: Relaxation,
    *,
    goal: Goal,
    iteration_limit: int,
    deadline: Deadline,
    max_memory: int | None,
) -> Solution:
    """Solve every LP of the relaxation in float64; see `bounds.solve` for the options."""
    closer = goal.times(1 / 2)

    def work(part: Relaxation, lp: TriangleLP, nu: Tensor) -> Progress:
        simplices, none = Simplices(lp), (torch.zeros_like(lp.c_b), torch.zeros_like(lp.c_z))
        everything = Progress(**Progress.beginning(*none, nu, lp.scale))
        costs = simplices.costs(nu)
        record(
            everything, simplices, costs, nu, *cheapest(simplices, costs), 0, goal=closer,
            patience=math.inf,
        )  # fmt: skip
        told = everything.tell(deadline, 0)
        n, numbers = lp.e.shape[1], int(lp.AL.count_nonzero()) / len(lp.e)
        if n and together(n, lp.c_b.shape[2], numbers):
            _by_edges(simplices, everything, closer, iteration_limit, deadline)
            everything.tell(deadline, told)
        for tolerance in TOLERANCES:
            if bool(everything.running.any()):
                _sweep(lp, simplices, everything, tolerance, closer, iteration_limit, deadline)
        if bool(everything.running.any()):
            _by_interior_point(lp, everything, places(part, nu.shape[2]), closer, deadline)
        return everything

    return on_condensed(
        relaxation, work, method="simplex", goal=goal, deadline=deadline, max_memory=max_memory
    )


def _by_edges(
    simplices: Simplices,
    everything: Progress,
    goal: Goal,
    iteration_limit: int,
    deadline: Deadline,
) -> None:
    """All LPs whose gap is open, together."""
    lp, n = simplices.lp, simplices.n
    enough = torch.full_like(lp.c_0, math.inf)
    if goal.sign_only:
        enough = ABOVE * lp.scale - lp.c_0
    limit = min(iteration_limit, n + FEW)
    nu, b, z, pivots = Edges(simplices).ascend(everything.running, enough, limit, deadline)
    kept = everything.best_nu, everything.best_x, everything.best_z
    nu, b, z = (
        torch.where(torch.isfinite(found).all(2, keepdim=True), found, before)
        for found, before in zip((nu, b, z), kept, strict=True)
    )
    costs = simplices.costs(nu)
    record(everything, simplices, costs, nu, b, z, pivots, goal=goal, patience=math.inf)
    _end_used_up(everything, iteration_limit)


def _end_used_up(everything: Progress, iteration_limit: int) -> None:
    used_up = everything.running & (everything.iterations >= iteration_limit)
    everything.status = torch.where(used_up, int(Status.ITERATION_LIMIT), everything.status)
    everything.running = everything.running & ~used_up


def _sweep(
    lp: TriangleLP,
    simplices: Simplices,
    everything: Progress,
    tolerance: float,
    goal: Goal,
    iteration_limit: int,
    deadline: Deadline,
) -> None:
    """Run HiGHS on every LP whose gap is open: at its default tolerance from the vertex that each
    row's own coefficients suggest, and from nothing at others."""
    again = tolerance != TOLERANCES[0]
    n, d = lp.e.shape[1], lp.c_b.shape[2]
    c_b, c_z, c_0, scale = (tensor.cpu().numpy() for tensor in (lp.c_b, lp.c_z, lp.c_0, lp.scale))
    nu, b, z = everything.best_nu.clone(), everything.best_x.clone(), everything.best_z.clone()
    pivots = everything.iterations.clone()
    first_nu, kind = first_ties(simplices)
    begin = kind.cpu().numpy(), on_far(simplices, first_nu).cpu().numpy()
    warm, loaded = None, -1
    for image, row in everything.running.nonzero().tolist():
        if deadline.passed:
            break
        if warm is None or loaded != image:
            warm, loaded = WarmLP(lp, image), image
        warm.minimise(c_b[image, row], c_z[image, row])
        if again:
            warm.forget()
        else:
            warm.begin_at(*(each[image, row] for each in begin))
        above = goal.sign_only and not again
        vertex = warm.run(
            tolerance=tolerance,
            pivots=min(iteration_limit - int(pivots[image, row]), STUCK * (d + 4 * n)),
            seconds=deadline.left,
            bound=ABOVE * scale[image, row] - c_0[image, row] if above else math.inf,
        )
        pivots[image, row] += vertex.pivots
        if not again:
            deadline.tell(1)
        for found, kept in ((vertex.nu, nu), (vertex.b, b), (vertex.z, z)):
            if np.isfinite(found).all():
                kept[image, row] = torch.from_numpy(found).to(kept)
    costs = simplices.costs(nu)
    record(everything, simplices, costs, nu, b, z, pivots, goal=goal, patience=math.inf)
    _end_used_up(everything, iteration_limit)
    if deadline.passed:
        everything.end(Status.TIME_LIMIT)


def _by_interior_point(
    lp: TriangleLP, everything: Progress, at_once: int, goal: Goal, deadline: Deadline
) -> None:
    """The LPs whose gap is open, from the best multipliers on."""
    kept = everything.running_places() or (everything.images, everything.rows)
    left, until = everything.take(*kept), Deadline(deadline.left)  # which tells of nothing again
    ended = as_rows(lp.take(*kept), left.best_nu, at_once, goal, NEWTON_STEPS, until)
    left.record(
        left.iterations + ended.iterations,
        ended.lower,
        ended.best_nu,
        ended.upper,
        ended.best_x,
        ended.best_z,
        ended.magnitude,
        goal=goal,
        patience=math.inf,
    )
    left.status = torch.where(left.running, ended.status, left.status)
    left.put_back(everything)
