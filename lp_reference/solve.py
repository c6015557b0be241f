"""`lp_reference.solve`: the LPs of a `bounds.Relaxation` by an outside solver, through cvxpy."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from bounds import InvalidInputError, Relaxation
from bounds.arguments import require_flag, require_positive, require_type
from bounds.sets.norm_balls import L2Ball
from lp_reference.assemble import assemble
from lp_reference.milp import IntegerProgram
from lp_reference.program import Outcome, Program
from lp_reference.solvers import require_solver


@dataclass(frozen=True, eq=False)
class ReferenceSolution:
    """One entry for each input and row, in numpy arrays of shape (batch, rows).

    value: the objective at the solver's point, which the solver calls optimal; NaN where `status`
        is anything but "optimal", "optimal_inaccurate" included.
    dual_value: the dual objective, computed here from the solver's multipliers; of an integer
        program the bound that its search proved. NaN as `value`. It is a bound only up to
        `residuals`, and value − dual_value shows how exact both are.
    status: cvxpy's word, after further runs with more careful options where the solver failed.
        "solver_error" is also a solver that raised, "user_limit" an LP that ran out of time or was
        not reached in time.
    x: (batch, rows, *input_shape), the minimiser's input; NaN as `value`.
    residuals: `Residuals`; None as `value`, and for integer programs.
    points: `KKTPoint`, the solver's primal and dual pair; None as `residuals`.
    """

    value: np.ndarray
    dual_value: np.ndarray
    status: np.ndarray
    x: np.ndarray
    residuals: np.ndarray
    points: np.ndarray


def solve(
    relaxation: Relaxation,
    *,
    solver: str | None = None,
    milp: bool = False,
    time_limit: float | None = None,
) -> ReferenceSolution:
    """Solve every LP of `relaxation`, or with `milp` find the minimum of the network itself.

    Args:
        solver: "HIGHS", "CLARABEL" or another that `cvxpy.installed_solvers()` lists, run with
            tight tolerances. It sees the LP uncondensed, in float64, scaled by powers of two. On
            ℓ2 balls, which make the LP a second-order cone program, one that takes cones. Default:
            "HIGHS", on ℓ2 balls "CLARABEL".
        milp: each ReLU exactly, by a binary variable; only for "HIGHS", small networks and sets
            other than ℓ2 balls.
        time_limit: seconds for all LPs together, without cvxpy's own time; default none.

    Raises:
        InvalidInputError: not a Relaxation, a solver that is not installed or not able, a limit
            that is not positive, `milp` with an ℓ2 ball or too many unstable neurons.
        UnsupportedLayerError: an operation or a node whose rows are not known here.

    >>> import torch, bounds
    >>> network = bounds.from_torch(torch.nn.ReLU(), (2,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.tensor([[2.0, 0.0]], dtype=torch.float64), radius=0.5)
    >>> lp = solve(bounds.relax(network, ball, bounds.margins(0, classes=2)))
    >>> lp.value.round(6).tolist(), lp.status.tolist()
    ([[1.0]], [['optimal']])
    """
    call = "lp_reference.solve"
    require_type(call, relaxation, Relaxation, "make one with bounds.relax(net, ball, spec)")
    require_flag(call, "milp", milp)
    if time_limit is not None:
        time_limit = require_positive(call, "time_limit", time_limit, "a positive time in seconds")
    cone = isinstance(relaxation.input_set, L2Ball)
    if milp and cone:
        raise InvalidInputError(
            "lp_reference.solve(milp=True) got ℓ2 balls, with which HiGHS has no integer programs: "
            "use a ball of norm 1 or float('inf'), or the relaxation with milp=False."
        )
    if solver is None:
        solver = "CLARABEL" if cone else "HIGHS"
    require_solver(solver, cone=cone, timed=time_limit is not None)
    if milp and solver != "HIGHS":
        raise InvalidInputError(
            f"lp_reference.solve(milp=True, solver={solver!r}): integer programs are solved by "
            "'HIGHS' only, leave solver out."
        )
    deadline = time.monotonic() + (float("inf") if time_limit is None else time_limit)
    batch, rows = relaxation.C.shape[:2]
    solution = ReferenceSolution(
        value=np.full((batch, rows), np.nan),
        dual_value=np.full((batch, rows), np.nan),
        status=np.full((batch, rows), "user_limit", dtype=object),
        x=np.full((batch, rows, *relaxation.network.input_shape), np.nan),
        residuals=np.full((batch, rows), None, dtype=object),
        points=np.full((batch, rows), None, dtype=object),
    )
    for index in range(batch):
        lp = assemble(relaxation, index)
        program = IntegerProgram(lp) if milp else Program(lp)
        for row in range(rows):
            seconds = deadline - time.monotonic()
            if seconds > 0:
                outcome = program.minimise(row, solver=solver, seconds=seconds)
                _store(solution, (index, row), outcome)
    return solution


def _store(solution: ReferenceSolution, entry: tuple[int, int], outcome: Outcome) -> None:
    solution.status[entry] = outcome.status
    solution.value[entry] = outcome.value
    solution.dual_value[entry] = outcome.dual_value
    solution.residuals[entry] = outcome.residuals
    solution.points[entry] = outcome.point
    if outcome.x is not None:
        solution.x[entry] = outcome.x.reshape(solution.x.shape[2:])
