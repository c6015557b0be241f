"""HiGHS and Gurobi without a modelling layer: the strongest way that a user could call them.

Each solver loads the rows of one input once; its objectives are then solved one after the other by
swapping the cost vector, from the basis of the one before ("warm") or from nothing ("cold").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
import scipy.sparse as sp

from bounds.solvers.interior_point.condense import CondensedLP
from lp_reference import SparseLP


@dataclass(frozen=True, eq=False)
class Program:
    """min costs[j] · v + constants[j], row_lower ≤ matrix v ≤ row_upper, lower ≤ v ≤ upper."""

    matrix: sp.csr_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    costs: np.ndarray
    constants: np.ndarray


def uncondensed(lp: SparseLP) -> Program:
    """Every neuron a variable, as the network states it, scaled as the referee scales it."""
    rows = np.concatenate(lp.row_scale)
    free = np.full(lp.size - len(lp.lower), np.inf)
    below = np.full(len(lp.inequality_rhs), -np.inf)
    matrix = sp.vstack([lp.equality, lp.inequality])
    return Program(
        sp.csr_array(sp.diags_array(1 / rows) @ matrix @ sp.diags_array(lp.scale)),
        np.concatenate([lp.equality_rhs, below]) / rows,
        np.concatenate([lp.equality_rhs, lp.inequality_rhs]) / rows,
        np.concatenate([lp.lower, -free]) / lp.scale,
        np.concatenate([lp.upper, free]) / lp.scale,
        np.stack([lp.objective(row) * lp.scale for row in range(len(lp.C))]),
        lp.d,
    )


def condensed(lp: CondensedLP) -> Program:
    """The unstable neurons alone: variables b, ẑ, z of one input, as our own solver has them."""
    A, L, e, lower, upper = (
        tensor[0].cpu().numpy() for tensor in (lp.A, lp.L, lp.e, lp.lower, lp.upper)
    )
    n, d = A.shape
    slope, one = upper / (upper - lower), np.eye(n)
    matrix = np.block([[-A, one, -L], [0 * A, -one, one], [0 * A, -np.diag(slope), one]])
    infinite = np.full(n, np.inf)
    costs = (lp.c_b[0], lp.c_z[0].new_zeros(lp.c_z.shape[1:]), lp.c_z[0])
    return Program(
        sp.csr_array(matrix),
        np.concatenate([e, np.zeros(n), -infinite]),
        np.concatenate([e, infinite, -slope * lower]),
        np.concatenate([np.zeros(d), -infinite, np.zeros(n)]),
        np.concatenate([np.ones(d), infinite, infinite]),
        np.concatenate([cost.cpu().numpy() for cost in costs], axis=1),
        lp.c_0[0].cpu().numpy(),
    )


class Highs:
    """HiGHS by "simplex", or by "ipm" with crossover, which is its default."""

    def __init__(self, program: Program, *, algorithm: str, warm: bool) -> None:
        self.program, self.warm = program, warm
        model = highspy.HighsLp()
        model.num_row_, model.num_col_ = program.matrix.shape
        model.col_cost_ = np.zeros(model.num_col_)
        model.col_lower_, model.col_upper_ = program.lower, program.upper
        model.row_lower_, model.row_upper_ = program.row_lower, program.row_upper
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = program.matrix.indptr
        model.a_matrix_.index_ = program.matrix.indices
        model.a_matrix_.value_ = program.matrix.data
        self.columns = np.arange(model.num_col_, dtype=np.int32)
        self.highs = highspy.Highs()
        for name, value in {
            "output_flag": False,
            "solver": algorithm,
            "primal_feasibility_tolerance": 1e-9,
            "dual_feasibility_tolerance": 1e-9,
        }.items():
            self.highs.setOptionValue(name, value)
        self.highs.passModel(model)

    def minimise(self, row: int) -> float:
        """The optimum of one objective; NaN unless HiGHS calls it optimal."""
        if not self.warm:
            self.highs.clearSolver()
        self.highs.changeColsCost(len(self.columns), self.columns, self.program.costs[row])
        self.highs.run()
        if self.highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return float("nan")
        return self.highs.getInfo().objective_function_value + self.program.constants[row]


class Gurobi:
    """Gurobi, warm-started, as far as the size limit of its free licence goes."""

    def __init__(self, program: Program) -> None:
        import gurobipy

        self.program, self.optimal = program, gurobipy.GRB.OPTIMAL
        environment = gurobipy.Env(
            params={"OutputFlag": 0, "FeasibilityTol": 1e-9, "OptimalityTol": 1e-9}
        )
        self.model: Any = gurobipy.Model(env=environment)
        self.variables = self.model.addMVar(len(program.lower), lb=program.lower, ub=program.upper)
        equal = program.row_lower == program.row_upper
        above, below = (np.isfinite(b) & ~equal for b in (program.row_lower, program.row_upper))
        v, matrix = self.variables, program.matrix
        self.model.addConstr(matrix[equal] @ v == program.row_lower[equal])
        self.model.addConstr(matrix[above] @ v >= program.row_lower[above])
        self.model.addConstr(matrix[below] @ v <= program.row_upper[below])

    def minimise(self, row: int) -> float:
        """The optimum of one objective; NaN unless Gurobi calls it optimal."""
        self.model.setObjective(self.program.costs[row] @ self.variables)
        self.model.optimize()
        if self.model.Status != self.optimal:
            return float("nan")
        return float(self.model.ObjVal) + float(self.program.constants[row])


#: The ways to call them, by name.
DIRECT: dict[str, Callable[[Program], Highs | Gurobi]] = {
    "HiGHS simplex, warm": lambda p: Highs(p, algorithm="simplex", warm=True),
    "HiGHS simplex, cold": lambda p: Highs(p, algorithm="simplex", warm=False),
    "HiGHS ipm + crossover": lambda p: Highs(p, algorithm="ipm", warm=False),
    "Gurobi, warm": Gurobi,
}
