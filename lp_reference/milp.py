"""The exact minimum of the network itself, by one binary a for each unstable neuron:

    z >= 0,   z >= ẑ,   z <= u a,   z <= ẑ − l (1 − a),   a in {0, 1}

(Tjeng, Xiao & Tedrake 2019). Without "a in {0, 1}" the last two leave just the triangle, whose
upper face is −l times the one plus u times the other. The minimum is the network's where l and u
are valid bounds of ẑ.
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp

from bounds import InvalidInputError
from lp_reference.program import Outcome, Program
from lp_reference.residuals import primal_value
from lp_reference.solvers import INTEGER
from lp_reference.sparse_lp import SparseLP

#: The most unstable neurons of an input: the search tree doubles with each of them.
LIMIT = 200


class IntegerProgram(Program):
    """The LP's rows and the binaries; `dual_value` is the bound that the solver's search proved.

    Raises:
        InvalidInputError: more than `LIMIT` unstable neurons.
    """

    def __init__(self, lp: SparseLP) -> None:
        unstable = len(lp.triangles.post)
        if unstable > LIMIT:
            raise InvalidInputError(
                f"lp_reference.solve(milp=True) got an input with {unstable} unstable neurons, "
                f"expected at most {LIMIT}: take a smaller radius, tighter intermediate bounds, a "
                "smaller network, or the LP with milp=False."
            )
        super().__init__(lp)

    def constraints(self) -> list[cp.Constraint]:
        neurons, scale = self.lp.triangles, self.lp.scale
        rows = super().constraints()
        if not len(neurons.post):
            return rows
        binary = cp.Variable(len(neurons.post), boolean=True)
        z = self.variables[neurons.post]
        pre = cp.multiply(scale[neurons.pre] / scale[neurons.post], self.variables[neurons.pre])
        lower, upper = neurons.lower / scale[neurons.post], neurons.upper / scale[neurons.post]
        on = z <= cp.multiply(upper, binary)
        off = z <= pre - cp.multiply(lower, 1 - binary)
        return [*rows, on, off]

    def minimise(self, row: int, *, solver: str, seconds: float) -> Outcome:
        status = self.attempt(row, solver, seconds, INTEGER)
        if status != cp.OPTIMAL:
            return Outcome(status)
        primal = self.variables.value * self.lp.scale
        value = primal_value(self.lp, row, primal)
        bound = value
        if len(self.lp.triangles.post):
            info: Any = self.problem.solver_stats.extra_stats
            bound = info.mip_dual_bound * self.lp.objective_scale(row) + self.lp.d[row]
        return Outcome(status, value, float(bound), primal[: len(self.lp.lower)])
