"""How far a claimed primal and dual pair is from satisfying the optimality conditions of an LP.

Nothing here trusts a solver: the pair may come from anywhere. With the Lagrangian

    C v + d + λᵀ (equality v − equality_rhs) + μᵀ (inequality v − inequality_rhs),   μ >= 0,

the input contributes the minimum of (reduced cost) · v over its set and all other variables must
have reduced cost 0, where the reduced costs are C + equalityᵀ λ + inequalityᵀ μ.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from bounds import InvalidInputError
from lp_reference.sparse_lp import SparseLP


@dataclass(frozen=True, eq=False)
class KKTPoint:
    """primal: v, (n,). equality: λ, (E,). inequality: μ, (3 U,), at least 0 when it is right."""

    primal: np.ndarray
    equality: np.ndarray
    inequality: np.ndarray


@dataclass(frozen=True)
class Violations:
    """The largest violation of each condition, 0 where it holds; every field but `gap` is >= 0.

    equality, inequality, box, ball: of the primal rows. sign: of μ >= 0. stationarity: the largest
    reduced cost of a variable that is no input. complementarity: the largest product of a
    multiplier and the slack of its row or of its side of the box; where the input has a ball, also
    (reduced cost) · v less its minimum over the set, in place of the sides of the box. gap: the
    primal objective less the dual one.
    """

    equality: float
    inequality: float
    box: float
    ball: float
    sign: float
    stationarity: float
    complementarity: float
    gap: float

    @property
    def worst(self) -> float:
        """The largest of all in magnitude; NaN if any is."""
        return float(np.abs(astuple(self)).max())


@dataclass(frozen=True)
class Residuals:
    """absolute: in the units of the LP. relative: in units of its `scale` and `objective_scale`."""

    absolute: Violations
    relative: Violations


def primal_value(lp: SparseLP, row: int, primal: np.ndarray) -> float:
    """C v + d at any point, feasible or not."""
    return float(lp.objective(row) @ primal + lp.d[row])


def dual_value(lp: SparseLP, row: int, point: KKTPoint) -> float:
    """The dual objective, negative μ counted as 0.

    It is a lower bound of the LP only as far as `stationarity` is 0.
    """
    mu = np.maximum(point.inequality, 0)
    reduced = _reduced_costs(lp, row, point)[: len(lp.lower)]
    constant = lp.d[row] - point.equality @ lp.equality_rhs - mu @ lp.inequality_rhs
    return float(constant) + _input_minimum(lp, reduced)


def residuals(lp: SparseLP, row: int, point: KKTPoint) -> Residuals:
    """The violations of the optimality conditions of objective `row` at `point`.

    Raises:
        InvalidInputError: arrays of the wrong length.
    """
    for name, array, length in (
        ("primal", point.primal, lp.size),
        ("equality", point.equality, len(lp.equality_rhs)),
        ("inequality", point.inequality, len(lp.inequality_rhs)),
    ):
        if array.shape != (length,):
            raise InvalidInputError(
                f"residuals got KKTPoint({name}) of shape {array.shape}, expected ({length},): "
                "use the point of the same input of the same relaxation."
            )
    inputs = len(lp.lower)
    x, mu = point.primal[:inputs], np.maximum(point.inequality, 0)
    reduced = _reduced_costs(lp, row, point)
    slack = lp.inequality_rhs - lp.inequality @ point.primal
    at_input = reduced[:inputs]
    if lp.ball is None:
        at_lower, at_upper = np.maximum(at_input, 0), np.maximum(-at_input, 0)
        products = [mu * slack, at_lower * (x - lp.lower), at_upper * (lp.upper - x)]
    else:
        products = [mu * slack, np.array([at_input @ x - _input_minimum(lp, at_input)])]
    gap = primal_value(lp, row, point.primal) - dual_value(lp, row, point)

    def violations(relative: bool) -> Violations:
        variables = lp.scale if relative else np.ones(lp.size)
        equality, inequality = lp.row_scale if relative else (1.0, 1.0)
        objective = lp.objective_scale(row) if relative else 1.0
        outside = np.maximum(np.maximum(lp.lower - x, x - lp.upper), 0)
        beyond = 0.0 if lp.ball is None else max(lp.ball.excess(x), 0.0)
        return Violations(
            equality=_largest((lp.equality @ point.primal - lp.equality_rhs) / equality),
            inequality=_largest(np.maximum(-slack, 0) / inequality),
            box=_largest(outside / variables[:inputs]),
            ball=_largest(beyond / variables[:inputs]),
            sign=_largest(np.maximum(-point.inequality, 0) * inequality / objective),
            stationarity=_largest(reduced[inputs:] * variables[inputs:] / objective),
            complementarity=_largest(np.concatenate(products) / objective),
            gap=gap / objective,
        )

    return Residuals(violations(relative=False), violations(relative=True))


def _reduced_costs(lp: SparseLP, row: int, point: KKTPoint) -> np.ndarray:
    mu = np.maximum(point.inequality, 0)
    return lp.objective(row) + lp.equality.T @ point.equality + lp.inequality.T @ mu


def _input_minimum(lp: SparseLP, costs: np.ndarray) -> float:
    if lp.ball is not None:
        return lp.ball.minimum(costs, lp.lower, lp.upper)
    return float(np.minimum(costs * lp.lower, costs * lp.upper).sum())


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))
