"""HiGHS and Gurobi without a modelling layer: the strongest way that a user could call them.

Each solver gets the sparse LP of one input once; its rows are solved by swapping the cost vector,
either from the basis of the row before ("warm") or from nothing ("cold").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import highspy
import numpy as np
import scipy.sparse as sp

from lp_reference import SparseLP


class DirectSolver(Protocol):
    """One loaded LP."""

    def minimise(self, row: int) -> float:
        """The optimum of one row of the specification; NaN unless the solver calls it optimal."""


@dataclass(frozen=True, eq=False)
class _Scaled:
    """The LP in units that suit solvers: variables v / scale, rows divided by their own scale."""

    matrix: sp.csr_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def _scaled(lp: SparseLP) -> _Scaled:
    rows = np.concatenate(lp.row_scale)
    matrix = sp.vstack([lp.equality, lp.inequality])
    free = np.full(lp.size - len(lp.lower), np.inf)
    below = np.full(len(lp.inequality_rhs), -np.inf)
    return _Scaled(
        sp.csr_array(sp.diags_array(1 / rows) @ matrix @ sp.diags_array(lp.scale)),
        np.concatenate([lp.equality_rhs, below]) / rows,
        np.concatenate([lp.equality_rhs, lp.inequality_rhs]) / rows,
        np.concatenate([lp.lower, -free]) / lp.scale,
        np.concatenate([lp.upper, free]) / lp.scale,
    )


class Highs:
    """HiGHS by "simplex" or "ipm" (with crossover, its default)."""

    def __init__(self, lp: SparseLP, *, algorithm: str, warm: bool) -> None:
        self.lp, self.warm = lp, warm
        scaled = _scaled(lp)
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = lp.size, len(scaled.row_lower)
        model.col_cost_ = np.zeros(lp.size)
        model.col_lower_, model.col_upper_ = scaled.lower, scaled.upper
        model.row_lower_, model.row_upper_ = scaled.row_lower, scaled.row_upper
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = scaled.matrix.indptr
        model.a_matrix_.index_ = scaled.matrix.indices
        model.a_matrix_.value_ = scaled.matrix.data
        self.highs = highspy.Highs()
        self.highs.setOptionValue("output_flag", False)
        self.highs.setOptionValue("solver", algorithm)
        self.highs.setOptionValue("primal_feasibility_tolerance", 1e-9)
        self.highs.setOptionValue("dual_feasibility_tolerance", 1e-9)
        self.highs.passModel(model)

    def minimise(self, row: int) -> float:
        unit = self.lp.objective_scale(row)
        cost = self.lp.objective(row) * self.lp.scale / unit
        self.highs.changeColsCost(len(cost), np.arange(len(cost), dtype=np.int32), cost)
        if not self.warm:
            self.highs.clearSolver()
        self.highs.run()
        if self.highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return float("nan")
        return self.highs.getInfo().objective_function_value * unit + self.lp.d[row]


class Gurobi:
    """Gurobi, warm-started, as far as the size limit of its free licence goes."""

    def __init__(self, lp: SparseLP) -> None:
        import gurobipy

        self.lp, self.optimal = lp, gurobipy.GRB.OPTIMAL
        scaled = _scaled(lp)
        environment = gurobipy.Env(params={"OutputFlag": 0, "FeasibilityTol": 1e-9})
        self.model: Any = gurobipy.Model(env=environment)
        self.variables = self.model.addMVar(lp.size, lb=scaled.lower, ub=scaled.upper)
        equalities = len(lp.equality_rhs)
        self.model.addConstr(
            scaled.matrix[:equalities] @ self.variables == scaled.row_upper[:equalities]
        )
        if len(lp.inequality_rhs):
            self.model.addConstr(
                scaled.matrix[equalities:] @ self.variables <= scaled.row_upper[equalities:]
            )
        self.model.setParam("OptimalityTol", 1e-9)

    def minimise(self, row: int) -> float:
        unit = self.lp.objective_scale(row)
        self.model.setObjective((self.lp.objective(row) * self.lp.scale / unit) @ self.variables)
        self.model.optimize()
        if self.model.Status != self.optimal:
            return float("nan")
        return float(self.model.ObjVal) * unit + float(self.lp.d[row])


def rows(solver: DirectSolver, count: int) -> Iterator[float]:
    """The optima of all rows, one after the other."""
    for row in range(count):
        yield solver.minimise(row)
