"""The LPs of one input as one cvxpy problem, whose objective is a parameter."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp

from lp_reference.quiet import quiet_highs
from lp_reference.residuals import KKTPoint, Residuals, dual_value, primal_value, residuals
from lp_reference.solvers import CAREFUL, options
from lp_reference.sparse_lp import SparseLP, power_of_two


@dataclass(frozen=True, eq=False)
class Outcome:
    """The end of one solve. Unless `status` is "optimal" the numbers are NaN and the rest is None.

    x: (inputs,), the minimiser in the box. point and residuals: None for an integer program.
    """

    status: str
    value: float = float("nan")
    dual_value: float = float("nan")
    x: np.ndarray | None = None
    point: KKTPoint | None = None
    residuals: Residuals | None = None


class Program:
    """Parsed by cvxpy once, then solved for one row of the specification after the other.

    cvxpy's variables are v / scale, each row is divided by its own scale and the objective by
    another, all powers of two: without this HiGHS fails, and CLARABEL calls the LP unbounded, on
    networks whose layers multiply magnitudes by a thousand.
    """

    def __init__(self, lp: SparseLP) -> None:
        self.lp = lp
        free = np.full(lp.size - len(lp.lower), np.inf)
        lower, upper = np.concatenate([lp.lower, -free]), np.concatenate([lp.upper, free])
        self.variables = cp.Variable(lp.size, bounds=[lower / lp.scale, upper / lp.scale])
        self.costs = cp.Parameter(lp.size)
        equality_scale, inequality_scale = lp.row_scale
        columns = sp.diags_array(lp.scale)
        self.equality = (
            sp.diags_array(1 / equality_scale) @ lp.equality @ columns @ self.variables
            == lp.equality_rhs / equality_scale
        )
        self.inequality = (
            sp.diags_array(1 / inequality_scale) @ lp.inequality @ columns @ self.variables
            <= lp.inequality_rhs / inequality_scale
        )
        objective = cp.Minimize(self.costs @ self.variables)
        self.problem = cp.Problem(objective, self.constraints())

    def constraints(self) -> list[cp.Constraint]:
        """All rows but the box."""
        return [self.equality, self.inequality, *self._ball()]

    def _ball(self) -> list[cp.Constraint]:
        """The ball's row in units of its radius; none for a point, which the box holds as it is."""
        ball = self.lp.ball
        if ball is None or ball.radius == 0:
            return []
        unit = power_of_two(np.array([ball.radius]))
        inputs = len(self.lp.lower)
        away = cp.multiply(self.lp.scale[:inputs] / unit, self.variables[:inputs])
        return [cp.norm(away - ball.centre / unit, ball.order) <= ball.radius / float(unit[0])]

    def minimise(self, row: int, *, solver: str, seconds: float) -> Outcome:
        """Solve for objective `row` in that many seconds at most."""
        status = self.attempt(row, solver, seconds, {})
        return self.outcome(row) if status == cp.OPTIMAL else Outcome(status)

    def attempt(self, row: int, solver: str, seconds: float, settings: dict[str, Any]) -> str:
        """The status of the last run: a careful one follows while there is time for it and the
        solver fails."""
        deadline = time.monotonic() + seconds
        status = self.run(row, solver, options(solver, seconds) | settings)
        for careful in CAREFUL.get(solver, ()):
            left = deadline - time.monotonic()
            if status not in (cp.OPTIMAL_INACCURATE, cp.SOLVER_ERROR) or left <= 0:
                break
            status = self.run(row, solver, options(solver, left) | settings | careful)
        return status

    def run(self, row: int, solver: str, settings: dict[str, Any]) -> str:
        """cvxpy's status, which is "solver_error" also where cvxpy raises instead."""
        lp = self.lp
        self.costs.value = lp.objective(row) * lp.scale / lp.objective_scale(row)
        with warnings.catch_warnings(), quiet_highs():
            # The status says so already.
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            try:
                # A warm start would make the result depend on the rows before.
                self.problem.solve(solver=solver, warm_start=False, **settings)
            except cp.error.SolverError:
                return cp.SOLVER_ERROR
            except ValueError as error:  # a status that cvxpy does not know, as HiGHS's kUnknown
                if "invalid solution" not in str(error):
                    raise
                return cp.SOLVER_ERROR
        return str(self.problem.status)

    def outcome(self, row: int) -> Outcome:
        """The solution that the last run left, in the units of the LP."""
        lp = self.lp
        equality_scale, inequality_scale = lp.row_scale
        point = KKTPoint(
            self.variables.value * lp.scale,
            self._multipliers(self.equality, row) / equality_scale,
            self._multipliers(self.inequality, row) / inequality_scale,
        )
        return Outcome(
            cp.OPTIMAL,
            primal_value(lp, row, point.primal),
            dual_value(lp, row, point),
            point.primal[: len(lp.lower)],
            point,
            residuals(lp, row, point),
        )

    def _multipliers(self, rows: cp.Constraint, row: int) -> np.ndarray:
        """λ and μ of the rows as the solver sees them; a solver without duals gives NaN."""
        value = rows.dual_value
        scale = self.lp.objective_scale(row)
        return np.full(rows.size, np.nan) if value is None else np.ravel(value) * scale
