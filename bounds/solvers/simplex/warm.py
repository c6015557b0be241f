"""The LPs of one input in HiGHS, which goes on from one to the next or begins where it is told.

Written by vertex weights (`bounds.solvers.interior_point.simplices`), with t the weight of (l, 0),
t' that of (u, u), and what is left of 1 on (0, 0),

    ẑ = l t + u t',  z = u t',    l t + u t' = A b + L u t' + e,    0 ≤ t + t' ≤ 1,

all variables and sums lie between 0 and 1. So from any basis, for any objective, whatever has the
wrong reduced cost goes to its other end, and the dual simplex method starts at once: several times
faster than with ẑ and z for variables, and than the primal one. A split is one variable fewer:

| neuron | vertices left | variable at 0 |
|---|---|---|
| active, ẑ ≥ 0 | (0, 0), (u, u) | t |
| dead, ẑ ≤ 0 | (l, 0), (0, 0) | t' |

Whatever HiGHS says, what counts of it is the multipliers ν of the definitions and the point, for
others to evaluate. A new objective or a new split goes on from the last basis, unless the run is
told another vertex to begin at.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import highspy
import numpy as np

from bounds.highs import QuietHighs
from bounds.solvers.interior_point.triangle_lp import TriangleLP

OPTIONS: dict[str, Any] = {
    "solver": "simplex",
    # A basis of the model before presolve is what the next LP goes on from.
    "presolve": "off",
    # The least that HiGHS allows: what it drops from the rows is not part of the LP.
    "small_matrix_value": 1e-12,
}


_STATUS = np.array(
    [getattr(highspy.HighsBasisStatus, name) for name in ("kLower", "kUpper", "kBasic")]
)


class Side(Enum):
    """What a split leaves of a neuron: where ẑ ≥ 0, where ẑ ≤ 0, or all of its triangle."""

    ACTIVE = "active"
    DEAD = "dead"
    BOTH = "both"


class Ending(Enum):
    """What HiGHS says of a run; no more than a hint where to go on.

    ABOVE: no optimum below the bound that was asked for. UNKNOWN: none of the others.
    """

    OPTIMAL = highspy.HighsModelStatus.kOptimal
    INFEASIBLE = highspy.HighsModelStatus.kInfeasible
    ABOVE = highspy.HighsModelStatus.kObjectiveBound
    ITERATION_LIMIT = highspy.HighsModelStatus.kIterationLimit
    TIME_LIMIT = highspy.HighsModelStatus.kTimeLimit
    UNKNOWN = highspy.HighsModelStatus.kUnknown


@dataclass(frozen=True, eq=False)
class Vertex:
    """Where a run has ended.

    nu: (n,), the multipliers of the definitions of ẑ. weights: λ, of the rows whose largest was
    minimised, (rows,): not negative, with a sum of 1. ray: (n,), where HiGHS has found that no
    point is feasible: d(ν + s · ray) grows with s beyond all bounds. b: (d,) and z: (n,), the
    point. objective: there. pivots: of this run.
    """

    ending: Ending
    nu: np.ndarray
    weights: np.ndarray
    ray: np.ndarray | None
    b: np.ndarray
    z: np.ndarray
    objective: float
    pivots: int


class WarmLP:
    """HiGHS with the rows of one input. image: which of the `lp`'s.

    >>> import torch, bounds
    >>> from bounds.solvers.interior_point.condense import condense
    >>> network = bounds.from_torch(torch.nn.ReLU(), (2,), dtype=torch.float64)
    >>> box = bounds.Box(-torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 2).double())
    >>> rows = bounds.Specification(torch.tensor([[1.0, -1.0]], dtype=torch.float64))
    >>> warm = WarmLP(condense(bounds.relax(network, box, rows)))
    >>> warm.minimise(np.zeros(2), np.array([1.0, -1.0]))
    >>> round(warm.run().objective, 9)
    -1.0
    >>> warm.split(1, Side.DEAD)
    >>> round(warm.run().objective, 9)
    0.0
    """

    def __init__(self, lp: TriangleLP, image: int = 0) -> None:
        AL, e, lower, upper = (
            tensor[image].cpu().numpy() for tensor in (lp.AL, lp.e, lp.lower, lp.upper)
        )
        n, d = len(e), lp.c_b.shape[2]
        self.d, self.n, self.upper = d, n, upper
        # Of each row first what it reads, z in the columns of t', and then its own t and t'.
        rows, reads = np.nonzero(AL)
        at, own = np.arange(len(rows)) + 2 * rows, np.arange(n)
        ends = np.cumsum(np.bincount(rows, minlength=n) + 2)
        index = np.empty(len(rows) + 2 * n, np.int32)
        values = np.empty(len(index))
        index[at], values[at] = reads + n * (reads >= d), -AL[rows, reads]
        values[at] *= np.concatenate([np.ones(d), upper])[reads]
        index[ends - 2], values[ends - 2] = d + own, lower
        index[ends - 1], values[ends - 1] = d + n + own, upper
        # HiGHS' tolerances are absolute: every row has a largest entry of 1, and so have the costs.
        begins = np.concatenate([[0], ends[:-1]])
        size = np.maximum.reduceat(np.abs(values), begins) if n else np.zeros(0)
        self._row_size = np.where(size > 0, size, 1.0)
        self._cost_size = 1.0
        values /= np.repeat(self._row_size, ends - begins)
        sums = d + own[:, None] + np.array([0, n])
        zeros, fixed = np.zeros(d + 2 * n), e / self._row_size
        self._columns = np.arange(d + 2 * n, dtype=np.int32)
        self._rows = 0
        self._highs = QuietHighs()
        for name, value in OPTIONS.items():
            self._highs.setOptionValue(name, value)
        # As arrays, which it copies faster than what a HighsLp holds.
        self._highs.passModel(
            len(zeros), 2 * n, len(values) + 2 * n, int(highspy.MatrixFormat.kRowwise),
            int(highspy.ObjSense.kMinimize), 0.0, zeros, zeros, zeros + 1,
            np.concatenate([fixed, np.zeros(n)]), np.concatenate([fixed, np.ones(n)]),
            np.concatenate([begins, len(values) + 2 * np.arange(n + 1)]).astype(np.int32),
            np.concatenate([index, sums.ravel()]).astype(np.int32),
            np.concatenate([values, np.ones(2 * n)]),
            zeros.astype(np.int32),
        )  # fmt: skip

    def minimise(self, c_b: np.ndarray, c_z: np.ndarray) -> None:
        """Replace the objective by ⟨c_b, b⟩ + ⟨c_z, z⟩."""
        costs = np.concatenate([c_b, np.zeros(self.n), c_z * self.upper])
        self._cost_size = float(np.abs(costs).max(initial=0.0)) or 1.0
        self._highs.changeColsCost(len(costs), self._columns, costs / self._cost_size)

    def minimise_largest(self, c_b: np.ndarray, c_z: np.ndarray, c_0: np.ndarray) -> None:
        """Replace the objective by the largest of several rows ⟨c_b, b⟩ + ⟨c_z, z⟩ + c_0, for c_b
        (rows, d), c_z (rows, n) and c_0 (rows,); once for each object.

        It is a variable that no row exceeds, and λ are the multipliers of that.
        """
        costs = np.hstack([c_b, np.zeros_like(c_z), c_z * self.upper])
        self._cost_size = float(np.abs(costs).max(initial=0.0)) or 1.0
        self._rows = len(c_0)
        self._highs.addCol(1.0, -np.inf, np.inf, 0, np.zeros(0, np.int32), np.zeros(0))
        largest = len(self._columns)
        for row, offset in zip(costs / self._cost_size, c_0 / self._cost_size, strict=True):
            (reads,) = np.nonzero(row)
            index, values = np.append(reads, largest), np.append(-row[reads], 1.0)
            self._highs.addRow(offset, np.inf, len(index), index.astype(np.int32), values)

    def split(self, neuron: int, side: Side) -> None:
        """Leave one side of a neuron, or give both back."""
        at = self.d + neuron
        self._highs.changeColBounds(at, 0.0, float(side is not Side.ACTIVE))
        self._highs.changeColBounds(at + self.n, 0.0, float(side is not Side.DEAD))

    def begin_at(self, kind: np.ndarray, on_far: np.ndarray) -> None:
        """Let the next run begin at the vertex of one tie a neuron (n,), as `first_ties` has them.
        on_far: (d,), whether each input lies at 1 there."""
        basis = highspy.HighsBasis()
        basis.valid = True
        ties = np.concatenate([2 * (kind != 0), 2 * (kind != 1)])
        basis.col_status = _STATUS[np.concatenate([on_far, ties])].tolist()
        # Where t and t' are both in the basis, their sum is at 1.
        basis.row_status = _STATUS[np.concatenate([0 * kind, 2 - (kind == 2)])].tolist()
        self._highs.setBasis(basis)

    def forget(self) -> None:
        """Let the next run begin from nothing rather than at the last basis."""
        self._highs.clearSolver()

    def run(
        self,
        *,
        tolerance: float = 1e-7,
        pivots: int | None = None,
        seconds: float | None = None,
        bound: float = np.inf,
    ) -> Vertex:
        """Go on to the optimum from where the last run has ended.

        tolerance: of HiGHS, on rows, bounds and reduced costs. pivots, seconds: at most so many.
        bound: stop once the objective is known to be no smaller.
        """
        highs = self._highs
        limit = highspy.kHighsIInf if pivots is None else min(pivots, highspy.kHighsIInf)
        # HiGHS counts the time of all runs.
        until = np.inf if seconds is None else highs.getRunTime() + seconds
        for name, value in {
            "primal_feasibility_tolerance": tolerance,
            "dual_feasibility_tolerance": tolerance,
            "simplex_iteration_limit": limit,
            "time_limit": until,
            "objective_bound": bound / self._cost_size,
        }.items():
            highs.setOptionValue(name, value)
        highs.run()
        status, solution, info = highs.getModelStatus(), highs.getSolution(), highs.getInfo()
        ending = next((each for each in Ending if each.value == status), Ending.UNKNOWN)
        columns, rows = len(self._columns), 2 * self.n
        point = _numbers(solution.col_value, columns + (self._rows > 0))[:columns].clip(0.0, 1.0)
        z = self.upper * point[self.d + self.n :]
        duals = _numbers(solution.row_dual, rows + self._rows)
        return Vertex(
            ending,
            self._multipliers(duals) * self._cost_size,
            _weights(duals[rows:]),
            self._ray() if ending is Ending.INFEASIBLE else None,
            point[: self.d],
            z,
            float(info.objective_function_value) * self._cost_size,
            max(0, int(info.simplex_iteration_count)),
        )

    def _multipliers(self, of_rows: np.ndarray) -> np.ndarray:
        """Those of the definitions as they were before their rows had a size of 1."""
        return of_rows[: self.n] / self._row_size

    def _ray(self) -> np.ndarray | None:
        highs: Any = self._highs
        _, found, values = highs.getDualRay()
        return self._multipliers(np.array(values)) if found else None


def _weights(duals: np.ndarray) -> np.ndarray:
    """λ as they should be; of a single row, 1."""
    if not len(duals):
        return np.ones(1)
    weights = duals.clip(min=0.0)
    return weights / weights.sum() if weights.sum() > 0 else np.full(len(duals), 1 / len(duals))


def _numbers(values: list[float], size: int) -> np.ndarray:
    """So many numbers: NaN where HiGHS has failed, and has none."""
    return np.array(values) if len(values) == size else np.full(size, np.nan)
