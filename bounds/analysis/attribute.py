"""`bounds.attribute`: what makes a row's bound loose, step by step and neuron by neuron.

The fixed slope's bound ≤ the LP optimum with the same l and u ≤ that with LP-optimal l and u
(LP-ALL) ≤ the true minimum: what lies between is lost by the slope, by l and u, and by the
triangles. The last is shared out among the neurons by an identity. Of multipliers ν that attain the
LP-ALL optimum, with the coefficient ĉ that arrives at each z and c at the inputs
(`bounds.dual.dual`), and for every x of the set X, at which ẑ are the pre-activations of the
network itself,

    net row(x) − d(ν) = [⟨c, x⟩ − min over X of ⟨c, ·⟩]
                        + Σ_i [ĉ_i max(ẑ_i, 0) − ν_i ẑ_i − min over its triangle of ĉ_i z − ν_i ẑ],

where no bracket is negative: each is what the LP gains by a choice that the network does not have.
They are taken at the best point that is known, so that they add up to all that the triangles may
have lost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.analysis.attribution import Attribution
from bounds.arguments import require_flag, require_time_limit, require_type, require_whole
from bounds.certification.minimum import minimum
from bounds.deadline import Deadline
from bounds.dual.dual import backward_pass
from bounds.intermediate.relax import matching_set, relax
from bounds.interrupt import interruptible
from bounds.network.graph import Network
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.specification import Specification
from bounds.sets.ball import Ball
from bounds.sets.box import Box
from bounds.solution.solution import Solution
from bounds.solution.verdict import trusted
from bounds.solvers.solve import solve

#: The relative gap at which an LP counts as solved.
SOLVED = 1e-6


@torch.inference_mode(False)
@torch.no_grad()
def attribute(
    network: Network,
    ball: Ball | Box,
    rows: Specification,
    *,
    time_limit: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Attribution:
    """How much of a row's looseness is the slope's, that of l and u, and the triangles', and which
    neurons cost most.

    Args:
        network, ball, rows: as for `bounds.relax`.
        time_limit: seconds for all rows, one after another, default none. LPs and searches cut
            short leave intervals.
        seed: of the attack.
        progress: whether bars on standard error show how far each step is.

    Returns:
        An `Attribution`, in float64.

    Raises:
        Interrupted: a KeyboardInterrupt, with what was known when Ctrl-C came.
        InvalidInputError: what `relax` and `minimum` refuse.

    >>> import torch, bounds
    >>> net = bounds.from_torch(torch.nn.ReLU(), (1,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.zeros(1, 1, dtype=torch.float64), radius=1.0)
    >>> row = bounds.Specification(torch.tensor([[1.0]], dtype=torch.float64))
    >>> found = bounds.attribute(net, ball, row)
    >>> [round(float(lost), 6) for lost in (*found.slope, *found.intermediate, *found.relaxation)]
    [0.5, 0.5, 0.0, 0.0, 0.0, 0.0]
    """
    call = "attribute"
    require_type(call, network, Network, "read the model with bounds.from_torch(model, shape)")
    require_flag(call, "progress", progress)
    time_limit = require_time_limit(call, time_limit)
    matching_set(call, network, ball)
    require_type(call, rows, Specification, "make one with bounds.margins(label, classes)")
    seed = require_whole(call, "seed", seed, least=0, most=2**63 - 1)
    with interruptible(call) as kept:
        deadline = Deadline(time_limit)
        kept.partial = _attribution(network.detach(), ball, rows, deadline, seed, progress)
        return kept.partial


def _attribution(
    network: Network,
    ball: Ball | Box,
    rows: Specification,
    deadline: Deadline,
    seed: int,
    progress: bool,
) -> Attribution:
    first = relax(network, ball, rows, progress=progress).double()
    fixed = trusted(solve(first, method="fixed_slope"))
    same = solve(first, method="exact", time_limit=deadline.limit, progress=progress)
    limit = deadline.limit
    last = relax(network, ball, rows, intermediate="lp", time_limit=limit, progress=progress)
    last = last.double()
    best = solve(last, method="exact", time_limit=deadline.limit, progress=progress)
    limit = deadline.limit
    true = minimum(network, ball, rows, time_limit=limit, seed=seed, progress=progress)
    lp = torch.maximum(trusted(same), fixed)
    lp_all = torch.maximum(trusted(best), lp)
    least, most = torch.maximum(true.lower.to(lp), lp_all), true.upper.to(lp)
    all_most = torch.minimum(best.upper, most)
    costs, at_input = _costs(last, best, true.x.to(lp))
    whole = torch.tensor([not last.timed_out and not sum(last.unsolved)], device=lp.device)
    solved = (same.relative_gap <= SOLVED) & (best.relative_gap <= SOLVED) & whole
    return Attribution(
        fixed,
        (lp, torch.minimum(same.upper, all_most)),
        (lp_all, all_most),
        (least, most),
        true.x.to(lp),
        tuple(layer.name for layer in last.layers),
        costs,
        at_input,
        solved,
        true.closed,
    )


def _costs(
    relaxation: Relaxation, solution: Solution, x: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    """What each neuron, (batch, rows, *shape), and the inputs, (batch, rows), cost at points x
    (batch, rows, *input_shape)."""
    network, multipliers = relaxation.network, solution.certificate.multipliers
    point = backward_pass(
        network,
        relaxation.relu_bounds,
        len(network.nodes) - 1,
        relaxation.C,
        lambda position, *_: multipliers[position],
    )
    pre: list[Tensor] = []

    def relu(_: int, flat: Tensor) -> Tensor:
        pre.append(flat.unflatten(0, x.shape[:2]))
        return flat.clamp(min=0)

    network.evaluate(x.flatten(0, 1), relu)
    costs = []
    for position, neurons in enumerate(relaxation.relu_bounds):
        cost = torch.zeros_like(pre[position])
        if position in point.multipliers:
            nu, arriving = point.multipliers[position], point.arriving[position]
            there = arriving * pre[position].clamp(min=0) - nu * pre[position]
            lost = there - neurons.minimum(nu, arriving)
            cost = torch.where(neurons.unstable.unsqueeze(1), lost.clamp(min=0), 0.0)
        costs.append(cost)
    inner = (point.at_input * x).flatten(2).sum(2)
    return tuple(costs), (inner - relaxation.input_set.minimum(point.at_input)).clamp(min=0)
