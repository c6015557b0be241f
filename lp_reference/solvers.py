"""The solvers that cvxpy can call here, each with tight tolerances."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import cvxpy as cp

from bounds import InvalidInputError
from bounds.arguments import shown

#: Arguments of `cvxpy.Problem.solve`. HiGHS drops coefficients below small_matrix_value, 1e-9 by
#: default; 1e-10 (tolerances) and 1e-12 are the smallest numbers that it accepts.
TIGHT: dict[str, dict[str, Any]] = {
    "HIGHS": {
        "primal_feasibility_tolerance": 1e-10,
        "dual_feasibility_tolerance": 1e-10,
        "small_matrix_value": 1e-12,
    },
    "CLARABEL": {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10},
    "GUROBI": {"FeasibilityTol": 1e-9, "OptimalityTol": 1e-9},
    "SCIPY": {
        "scipy_options": {
            "primal_feasibility_tolerance": 1e-10,
            "dual_feasibility_tolerance": 1e-10,
        }
    },
    "SCS": {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 100_000},
    "OSQP": {"eps_abs": 1e-9, "eps_rel": 1e-9},
}
#: Added for one more run each where the runs before end inaccurate or in an error: CLARABEL stalls
#: on some programs, by steps that go too near to the boundary.
CAREFUL: dict[str, tuple[dict[str, Any], ...]] = {
    "CLARABEL": tuple(
        {
            "max_step_fraction": fraction,
            "tol_gap_abs": 1e-9,
            "tol_gap_rel": 1e-9,
            "tol_feas": 1e-9,
        }
        for fraction in (0.8, 0.5)
    ),
}
#: Added for integer programs, which only HiGHS is asked to solve: no gap is accepted.
INTEGER = {"mip_rel_gap": 0.0, "mip_abs_gap": 0.0, "mip_feasibility_tolerance": 1e-9}
#: The solvers that take an ℓ2 ball: a second-order cone.
CONE = ("CLARABEL", "GUROBI", "SCS")
#: What each solver calls its limit on seconds.
TIME_LIMIT = {
    "HIGHS": "time_limit",
    "CLARABEL": "time_limit",
    "GUROBI": "TimeLimit",
    "SCS": "time_limit_secs",
    "OSQP": "time_limit",
}


def require_solver(solver: str, *, cone: bool, timed: bool) -> None:
    """Refuse a solver that is not installed or takes no cones where there are any, and a time limit
    for one whose option is not known."""
    installed = cp.installed_solvers()
    if not isinstance(solver, str) or solver not in installed:
        raise InvalidInputError(
            f"lp_reference.solve(solver={shown(solver)}): cvxpy has no solver of that name "
            f"installed, expected one of {', '.join(map(repr, sorted(installed)))}."
        )
    if cone and solver not in CONE:
        raise InvalidInputError(
            f"lp_reference.solve(solver={solver!r}) got ℓ2 balls, which that solver does not take: "
            f"leave it out or use one of {', '.join(map(repr, CONE))}."
        )
    if timed and solver not in TIME_LIMIT:
        raise InvalidInputError(
            f"lp_reference.solve(solver={solver!r}, time_limit=...): the time limit of that solver "
            f"is not known, leave it out or use one of {', '.join(map(repr, sorted(TIME_LIMIT)))}."
        )


def options(solver: str, seconds: float) -> dict[str, Any]:
    """The tight options of `solver`, with a time limit where `seconds` is finite."""
    limit = {} if seconds == float("inf") else {TIME_LIMIT[solver]: seconds}
    # A copy, because cvxpy writes into scipy_options.
    return deepcopy(TIGHT.get(solver, {})) | limit
