"""Linear programs in rational numbers: no rounding anywhere, so the optimum is the optimum.

    minimise ⟨c, v⟩  subject to  A v ≥ b,  v of any sign.

A basis is a set of rows, as many as there are variables and independent; its vertex is the v where
they hold with equality, A_B v = b_B, and its multipliers are the y with A_Bᵀ y = c. Where A v ≥ b
and y ≥ 0, the vertex is an optimum, as every v with A v ≥ b has ⟨c, v⟩ = ⟨y, A_B v⟩ ≥ ⟨y, b_B⟩.

The simplex method walks from basis to basis. With Bland's rule (1977), which of all rows that would
do takes the first, it comes to none twice, and so to an end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from bounds.checker.arithmetic import Array, midpoints, rationals
from bounds.highs import QuietHighs


class Infeasible(Exception):
    """No v satisfies the rows."""


@dataclass(frozen=True)
class Rows:
    """A v ≥ b: A of shape (rows, variables), b of (rows,), rational numbers."""

    A: Array
    b: Array


def optimum(rows: Rows, c: Array, basis: list[int]) -> tuple[Any, Array]:
    """The least ⟨c, v⟩ and a v that has it, for rows that bound it; basis: to start from.

    Raises:
        Infeasible: there is no such v.
    """
    # The costs that make the basis optimal lead to a vertex that satisfies all rows, and from there
    # on the true ones to the optimum.
    multipliers = _multipliers(rows, c, basis)
    costs = np.where(multipliers > 0, multipliers, 0 * multipliers) @ rows.A[basis]
    basis = _dual_simplex(rows, costs, basis)
    basis = _primal_simplex(rows, c, basis)
    v, y = _vertex(rows, basis), _multipliers(rows, c, basis)
    value = c @ v
    proved = (
        (rows.A @ v >= rows.b).all()
        and (y >= 0).all()
        and (y @ rows.A[basis] == c).all()
        and y @ rows.b[basis] == value
    )
    if not proved:
        raise AssertionError("the simplex method ended at a basis that is not optimal")
    return value, v


def likely_basis(rows: Rows, c: Array) -> list[int] | None:
    """The basis at which HiGHS ends in floating point; None where it finds none."""
    A, b = midpoints(rows.A), midpoints(rows.b)
    count, variables = A.shape
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = variables, count
    program.col_cost_ = midpoints(c)
    program.col_lower_ = np.full(variables, -highspy.kHighsInf)
    program.col_upper_ = np.full(variables, highspy.kHighsInf)
    program.row_lower_, program.row_upper_ = b, np.full(count, highspy.kHighsInf)
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    nonzero = A != 0
    program.a_matrix_.start_ = np.concatenate(([0], np.cumsum(nonzero.sum(1))))
    program.a_matrix_.index_ = np.nonzero(nonzero)[1]
    program.a_matrix_.value_ = A[nonzero]
    highs = QuietHighs()
    for option, value in (("presolve", "off"), ("solver", "simplex")):
        highs.setOptionValue(option, value)
    highs.passModel(program)
    highs.run()
    status = highs.getBasis().row_status
    basis = [row for row, at in enumerate(status) if at != highspy.HighsBasisStatus.kBasic]
    if len(basis) != variables or _matrix(rows.A[basis]).rank() != variables:
        return None
    return basis


def _primal_simplex(rows: Rows, c: Array, basis: list[int]) -> list[int]:
    """From a basis whose vertex satisfies all rows to one that has y ≥ 0 too."""
    while True:
        y = _multipliers(rows, c, basis)
        falling = [row for row, multiplier in zip(basis, y, strict=True) if multiplier < 0]
        if not falling:
            return basis
        leaving = min(falling)
        # Along w the row that leaves becomes slack, and the others of the basis stay as they are.
        unit = 0 * y
        unit[basis.index(leaving)] += 1
        w = _solve(_matrix(rows.A[basis]), unit)
        v = _vertex(rows, basis)
        slack, speed = rows.A @ v - rows.b, rows.A @ w
        entering = min(
            (row for row in range(len(speed)) if speed[row] < 0 and row not in basis),
            key=lambda row: (slack[row] / -speed[row], row),
        )
        basis = [entering if row == leaving else row for row in basis]


def _dual_simplex(rows: Rows, c: Array, basis: list[int]) -> list[int]:
    """From a basis with y ≥ 0 to one whose vertex satisfies all rows too."""
    while True:
        violated = np.flatnonzero(rows.A @ _vertex(rows, basis) < rows.b)
        if len(violated) == 0:
            return basis
        entering = int(violated[0])
        y = _multipliers(rows, c, basis)
        share = _multipliers(rows, rows.A[entering], basis)
        falling = [at for at in range(len(basis)) if share[at] > 0]
        if not falling:  # the row is at most a sum of rows times numbers ≤ 0
            raise Infeasible
        leaving = min(falling, key=lambda at: (y[at] / share[at], basis[at]))
        basis = [entering if at == leaving else row for at, row in enumerate(basis)]


def _vertex(rows: Rows, basis: list[int]) -> Array:
    return _solve(_matrix(rows.A[basis]), rows.b[basis])


def _multipliers(rows: Rows, c: Array, basis: list[int]) -> Array:
    return _solve(_matrix(rows.A[basis].T), c)


def _matrix(array: Array) -> Any:
    return rationals().matrix(*array.shape, array.ravel().tolist())


def _solve(matrix: Any, right: Array) -> Array:
    solution = matrix.solve(rationals().matrix(len(right), 1, right.tolist()))
    return np.array(solution.entries(), dtype=object)
