"""`bounds.output_bounds`: what a network's outputs, or rows of them, lie between on a set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from bounds.arguments import require_flag, require_option, require_time_limit, require_type
from bounds.deadline import Deadline
from bounds.intermediate.intermediate import Intermediate
from bounds.intermediate.relax import matching_set, relax
from bounds.interrupt import interruptible
from bounds.network.graph import Network
from bounds.relaxation.specification import Specification
from bounds.sets.ball import Ball
from bounds.sets.box import Box
from bounds.solution.verdict import trusted
from bounds.solvers.solve import Method, solve

#: The relative gap at which an LP counts as solved.
SOLVED = 1e-6


@dataclass(frozen=True, eq=False)
class OutputBounds:
    """lower ≤ rows of the network ≤ upper on each input's set, over the reals; each (batch, rows).

    solved: whether both are the optima of their LPs, up to a relative gap of 1e-6.

    >>> number = torch.zeros(1, 1)
    >>> OutputBounds(number, number + 1, number == 0).width.tolist()
    [[1.0]]
    """

    lower: Tensor
    upper: Tensor
    solved: Tensor

    @property
    def width(self) -> Tensor:
        return self.upper - self.lower


@torch.inference_mode(False)
@torch.no_grad()
def output_bounds(
    network: Network,
    ball: Ball | Box,
    rows: Specification | None = None,
    *,
    intermediate: Intermediate = "backward",
    method: Method = "exact",
    time_limit: float | None = None,
    progress: bool = False,
) -> OutputBounds:
    """Sound lower and upper bounds of every output, or of every row, by any method of `solve`.

    Args:
        network, ball, intermediate: as for `bounds.relax`.
        rows: of which bounds are wanted; by default each output, flattened.
        method: as for `bounds.solve`: "exact" for the LP optima of both ends.
        time_limit: seconds, default none. What is found by then holds.
        progress: whether bars on standard error show how far each step is.

    Returns:
        An `OutputBounds`; infinite where nothing was proved.

    Raises:
        Interrupted: a KeyboardInterrupt, with what was known when Ctrl-C came.
        InvalidInputError: what `relax` and `solve` refuse.

    >>> import torch, bounds
    >>> net = bounds.from_torch(torch.nn.ReLU(), (1,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.zeros(1, 1, dtype=torch.float64), radius=1.0)
    >>> found = bounds.output_bounds(net, ball)
    >>> found.upper.round(decimals=6).tolist()
    [[1.0]]
    """
    call = "output_bounds"
    require_type(call, network, Network, "read the model with bounds.from_torch(model, shape)")
    require_option(call, "method", method, get_args(Method))
    require_flag(call, "progress", progress)
    time_limit = require_time_limit(call, time_limit)
    matching_set(call, network, ball)
    if rows is None:
        outputs = torch.Size(network.output_shape).numel()
        rows = Specification(torch.eye(outputs, dtype=torch.float64))
    require_type(call, rows, Specification, "make one with bounds.Specification(C, d)")
    with interruptible(call) as kept:
        deadline = Deadline(time_limit)
        relaxation = relax(
            network,
            ball,
            rows,
            intermediate=intermediate,
            slope="adaptive",
            time_limit=deadline.limit,
            progress=progress,
        )
        both = replace(
            relaxation,
            C=torch.cat((relaxation.C, -relaxation.C), 1),
            d=torch.cat((relaxation.d, -relaxation.d), 1),
        )
        one_pass = method in ("fixed_slope", "adaptive_slope")  # which takes no limit
        limit = None if one_pass else deadline.limit
        solution = solve(both, method=method, time_limit=limit, progress=progress)
        lower, opposite = trusted(solution).chunk(2, 1)
        ends = solution.relative_gap <= SOLVED
        solved = ends[:, : lower.shape[1]] & ends[:, lower.shape[1] :]
        kept.partial = OutputBounds(lower, -opposite, solved)
        return kept.partial
