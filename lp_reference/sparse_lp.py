"""The LPs of one input, as sparse rows over the value of every neuron: nothing is eliminated.

    minimise    C v[output] + d                     one objective a row of the specification
    subject to  equality v = equality_rhs           affine operations, sums, stable ReLUs
                inequality v <= inequality_rhs      the three faces of each unstable ReLU
                lower <= v[input] <= upper          the box; every other variable is free
                ‖v[input] − centre‖ <= radius       the ball, where the input set has one: in the
                                                    ℓ2 norm this is a cone program

Every row and every variable has a name that says which neuron it is about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from bounds import InvalidInputError
from lp_reference.ball import NormBall

FACES = ("z >= 0 of", "z >= ẑ of", "upper face of")


@dataclass(frozen=True, eq=False)
class Triangles:
    """The U unstable neurons of all ReLUs, in order; every field has shape (U,).

    post and pre: the numbers of the variables z and ẑ. lower < 0 < upper: the bounds of ẑ.
    """

    post: np.ndarray
    pre: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True, eq=False)
class SparseLP:
    """The LPs of one input, in float64: n variables, one objective a row of the specification.

    nodes: a name for each node of the network. starts: (nodes + 1,), the first variable of each
        node, then n; the input's variables come first, the output's last.
    equality: (E, n), equality_rhs: (E,). Row i defines variable `defined[i]` from earlier ones,
        in the way that `definitions[i]` says.
    inequality: (3 U, n), inequality_rhs: (3 U,). First −z <= 0 for each of the U unstable neurons
        in the order of `triangles`, then every ẑ − z <= 0, then every z − s ẑ <= −s l, where
        s = u / (u − l).
    lower, upper: (inputs,), the box. ball: None where the input set is a box.
    C: (rows, outputs), d: (rows,).
    scale: (n,), for each variable a power of two near the largest magnitude in its node. Solvers
        get v / scale, so that their absolute tolerances mean the same in every layer; as a power
        of two it changes no digit of a coefficient.
    """

    nodes: tuple[str, ...]
    starts: np.ndarray
    equality: sp.csr_array
    equality_rhs: np.ndarray
    defined: np.ndarray
    definitions: tuple[str, ...]
    inequality: sp.csr_array
    inequality_rhs: np.ndarray
    triangles: Triangles
    lower: np.ndarray
    upper: np.ndarray
    ball: NormBall | None
    C: np.ndarray
    d: np.ndarray
    scale: np.ndarray

    @property
    def size(self) -> int:
        """n, the number of variables."""
        return int(self.starts[-1])

    def objective(self, row: int) -> np.ndarray:
        """The coefficient of every variable in objective `row`, without d; shape (n,)."""
        coefficients = np.zeros(self.size)
        coefficients[self.starts[-2] :] = self.C[row]
        return coefficients

    def objective_scale(self, row: int) -> float:
        """A power of two near the largest term of objective `row`."""
        return float(power_of_two(np.abs(self.objective(row) * self.scale).max()))

    @property
    def row_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """The scale of the variable that each equality and inequality row is about."""
        return self.scale[self.defined], np.tile(self.scale[self.triangles.post], len(FACES))

    def variable_name(self, variable: int) -> str:
        """Such as "relu 'c1' neuron 17", neurons counted in the node's flattened sample."""
        require_index("SparseLP.variable_name", variable, self.size)
        node = int(np.searchsorted(self.starts, variable, side="right")) - 1
        return f"{self.nodes[node]} neuron {variable - self.starts[node]}"

    def row_name(self, row: int) -> str:
        """Such as "upper face of relu 'c1' neuron 17"; first all equality rows are numbered."""
        equalities, inequalities = len(self.equality_rhs), len(self.inequality_rhs)
        require_index("SparseLP.row_name", row, equalities + inequalities)
        if row < equalities:
            return f"{self.definitions[row]} {self.variable_name(self.defined[row])}"
        face, neuron = divmod(row - equalities, len(self.triangles.post))
        return f"{FACES[face]} {self.variable_name(self.triangles.post[neuron])}"


def power_of_two(magnitude: np.ndarray) -> np.ndarray:
    """The power of two nearest to each magnitude, and 1 for 0."""
    exponent = np.log2(np.where(magnitude > 0, magnitude, 1.0))
    return np.exp2(np.clip(np.round(exponent), -256, 256))  # the reciprocal must not overflow


def require_index(call: str, index: int, size: int) -> None:
    if not 0 <= index < size:
        raise InvalidInputError(f"{call} got {index}, expected an integer from 0 to {size - 1}.")
