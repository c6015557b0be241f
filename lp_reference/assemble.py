"""From a `bounds.Relaxation` to a `SparseLP`: the table of `relaxation.triangle`, and none more.

Only data is shared with `bounds`: none of its forward, adjoint or dual code is called.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import scipy.sparse as sp

from bounds import InvalidInputError, Network, Relaxation, ReluBounds, UnsupportedLayerError
from bounds.network.graph import AffineNode, InputNode, ReluNode, SumNode
from lp_reference.ball import norm_ball
from lp_reference.matrices import affine_matrix, float64
from lp_reference.sparse_lp import SparseLP, Triangles, power_of_two, require_index

#: The smallest unit of ẑ in those of the terms that it is the sum of. Where these cancel to nothing
#: but rounding, their coefficients in units of |ẑ| would be beyond every solver: 1e17.
CANCELLED = 2.0**-27


def assemble(relaxation: Relaxation, index: int = 0) -> SparseLP:
    """The LPs of input `index` of the batch.

    Raises:
        InvalidInputError: not a Relaxation, no such input, or an input set that is not known here.
        UnsupportedLayerError: an operation or a node whose rows are not known here.
    """
    if not isinstance(relaxation, Relaxation):
        raise InvalidInputError(
            f"assemble got a {type(relaxation).__name__}, expected a Relaxation: "
            "make one with bounds.relax(net, ball, spec)."
        )
    require_index("assemble(index)", index, len(relaxation.input_set))
    network = relaxation.network
    starts = np.cumsum([0, *(math.prod(node.shape) for node in network.nodes)])
    lower, upper = (
        float64(b[index]).ravel() for b in (relaxation.input_set.lower, relaxation.input_set.upper)
    )
    rows = _Rows(int(starts[-1]))
    relu_bounds = iter(relaxation.relu_bounds)
    for number, node in enumerate(network.nodes):
        own = np.arange(starts[number], starts[number + 1])
        match node:
            case InputNode():
                rows.magnitude[own] = np.maximum(np.abs(lower), np.abs(upper))
            case AffineNode(parents=(parent,), operation=operation):
                rows.affine(own, starts[parent], *affine_matrix(operation))
            case SumNode(parents=parents):
                rows.sum(own, [starts[parent] for parent in parents])
            case ReluNode(parents=(parent,)):
                rows.relu(own, starts[parent], next(relu_bounds), index)
            case _:
                raise UnsupportedLayerError(
                    f"assemble got a {type(node).__name__} in {node.name!r}, expected an input, "
                    "affine, sum or ReLU node: add its rows to lp_reference/assemble.py."
                )
    triangles = rows.triangles()
    inequality, inequality_rhs = _faces(triangles, rows.size)
    C = float64(relaxation.C[index])
    return SparseLP(
        nodes=_node_names(network),
        starts=starts,
        equality=rows.matrix(),
        equality_rhs=np.concatenate([np.zeros(0), *rows.rhs]),
        defined=np.concatenate([np.zeros(0, dtype=int), *rows.defined]),
        definitions=tuple(rows.definitions),
        inequality=inequality,
        inequality_rhs=inequality_rhs,
        triangles=triangles,
        lower=lower,
        upper=upper,
        ball=norm_ball(relaxation.input_set, index),
        C=C.reshape(len(C), starts[-1] - starts[-2]),
        d=float64(relaxation.d[index]),
        scale=np.repeat(
            power_of_two(np.maximum.reduceat(rows.magnitude, starts[:-1])), np.diff(starts)
        ),
    )


class _Rows:
    """Collects the equality rows v[variables] − source v = rhs and the unstable neurons.

    magnitude: (n,), a guess of how large each variable can become; only scaling depends on it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.defined: list[np.ndarray] = []
        self.definitions: list[str] = []
        self.sources: list[sp.coo_array] = []
        self.rhs: list[np.ndarray] = []
        self.unstable: list[Triangles] = []
        self.magnitude = np.zeros(size)

    def affine(self, own: np.ndarray, start: int, matrix: sp.csr_array, bias: np.ndarray) -> None:
        entries = matrix.tocoo()
        self._define("value of", own, entries.row, start + entries.col, entries.data, bias)

    def sum(self, own: np.ndarray, starts: list[int]) -> None:
        rows = np.tile(np.arange(len(own)), len(starts))
        columns = np.concatenate([start + np.arange(len(own)) for start in starts])
        self._define("value of", own, rows, columns, np.ones(len(rows)), np.zeros(len(own)))

    def relu(self, own: np.ndarray, start: int, neurons: ReluBounds, index: int) -> None:
        """Stable neurons become rows, unstable ones wait for their faces."""
        active = neurons.active[index].cpu().numpy().ravel()
        unstable = neurons.unstable[index].cpu().numpy().ravel()
        lower, upper = (float64(bound[index]).ravel() for bound in (neurons.lower, neurons.upper))
        pre = start + np.arange(len(own))
        largest = np.maximum(np.abs(lower), np.abs(upper))
        self.magnitude[pre] = np.maximum(largest, CANCELLED * self.magnitude[pre])
        for kind, chosen, slope in (
            ("z = ẑ of", active, 1.0),
            ("z = 0 of", ~active & ~unstable, 0.0),
        ):
            rows = np.arange(chosen.sum())
            self._define(
                kind, own[chosen], rows, pre[chosen], np.full(len(rows), slope), np.zeros(len(rows))
            )
        # That of ẑ, not u: where u is tiny, z in its units would have coefficients of 1 / u.
        self.magnitude[own[unstable]] = self.magnitude[pre[unstable]]
        self.unstable.append(
            Triangles(own[unstable], pre[unstable], lower[unstable], upper[unstable])
        )

    def _define(
        self,
        kind: str,
        variables: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        values: np.ndarray,
        rhs: np.ndarray,
    ) -> None:
        source = sp.coo_array((values, (rows, columns)), shape=(len(variables), self.size))
        self.defined.append(variables)
        self.definitions.extend([kind] * len(variables))
        self.sources.append(source)
        self.rhs.append(rhs)
        self.magnitude[variables] = abs(source) @ self.magnitude + np.abs(rhs)

    def matrix(self) -> sp.csr_array:
        if not self.sources:
            return sp.csr_array((0, self.size))
        return _select(np.concatenate(self.defined), self.size) - sp.vstack(self.sources, "csr")

    def triangles(self) -> Triangles:
        none = np.zeros(0)
        parts = [Triangles(none.astype(int), none.astype(int), none, none), *self.unstable]
        return Triangles(
            np.concatenate([part.post for part in parts]),
            np.concatenate([part.pre for part in parts]),
            np.concatenate([part.lower for part in parts]),
            np.concatenate([part.upper for part in parts]),
        )


def _faces(triangles: Triangles, size: int) -> tuple[sp.csr_array, np.ndarray]:
    """z >= 0, z >= ẑ and (u − l) z <= u (ẑ − l), the last divided by u − l."""
    post, pre = _select(triangles.post, size), _select(triangles.pre, size)
    slope = triangles.upper / (triangles.upper - triangles.lower)
    matrix = sp.vstack([-post, pre - post, post - sp.diags_array(slope) @ pre], "csr")
    return matrix, np.concatenate([np.zeros(2 * len(slope)), -slope * triangles.lower])


def _select(variables: np.ndarray, size: int) -> sp.csr_array:
    """The matrix that picks these variables out of all, of shape (len(variables), size)."""
    ones, rows = np.ones(len(variables)), np.arange(len(variables))
    return sp.csr_array((ones, (rows, variables)), shape=(len(variables), size))


def _node_names(network: Network) -> tuple[str, ...]:
    """Kind and name of each node; its position too where the model uses a name twice."""
    names = [
        f"{type(node).__name__.removesuffix('Node').lower()} {node.name!r}"
        for node in network.nodes
    ]
    count = Counter(names)
    return tuple(
        f"{name} (node {number})" if count[name] > 1 else name for number, name in enumerate(names)
    )
