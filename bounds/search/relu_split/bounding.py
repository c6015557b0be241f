"""The LP of a node: where it ends, what its multipliers prove, and by which of the node's phases.

All nodes of a search share the condensed LP of the root, and HiGHS goes on from the last node's
vertex. Whatever HiGHS says, a node is bounded by the dual function at the multipliers it leaves,

    d(λ, ν) = λ · c_0 + e · ν + Σ_j min(0, c_j) + Σ_i min over the vertices that are left of
              (−ν_i l_i, 0, (ĉ_i − ν_i) u_i),    (c, ĉ) = λᵀ [c_b | c_z] + νᵀ [A | L],

where λ weighs the rows of the disjunct, as all of them are at most 0 wherever it is met.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bounds.solvers.interior_point.condense import CondensedLP
from bounds.solvers.simplex.warm import Ending, Side, Vertex, WarmLP

#: A literal: unstable neuron i of the condensed LP, and 1 where ẑ ≥ 0, −1 where ẑ ≤ 0.
Phases = Mapping[int, int]

#: By how much of a row's scale d has to be above 0 for a node to be closed: what is left of it must
#: survive rounding, in other arithmetic than this.
ABOVE = 1e-6
#: Pivots of one run after which HiGHS counts as stuck, in rows and columns of the LP; then it
#: begins again from nothing, once.
STUCK = 2
#: How far along a ray that proves that a node has no point, in doublings.
DOUBLINGS = 60


@dataclass(frozen=True, eq=False)
class Evidence:
    """Multipliers and what they prove: λ (rows,), ν (n,), and d at them, with these vertices.

    costs: of the vertices (l, 0) and (u, u) of each neuron, (2, n).
    """

    weights: np.ndarray
    nu: np.ndarray
    value: float
    costs: np.ndarray


@dataclass(frozen=True, eq=False)
class NodeBound:
    """evidence: None where HiGHS has failed. vertex: where it has ended."""

    evidence: Evidence | None
    vertex: Vertex


def needed(evidence: Evidence, phases: Phases, margin: float) -> dict[int, int]:
    """Which of the phases d cannot do without: the others' vertices may come back, and d is above
    the margin all the same."""
    if not phases:
        return {}
    neurons, sides = np.array(list(phases.items())).T
    at_lower, at_upper = evidence.costs[:, neurons].clip(max=0.0)
    lost = np.where(sides > 0, at_upper, at_lower) - np.minimum(at_lower, at_upper)
    order = lost.argsort(kind="stable")
    left = evidence.value - margin - lost[order].cumsum()
    kept = np.sort(order[np.count_nonzero(left > 0) :])
    return dict(zip(neurons[kept].tolist(), sides[kept].tolist(), strict=True))


class NodeLP:
    """One disjunct of one input. lp: condensed, of which all rows belong to the disjunct."""

    def __init__(self, lp: CondensedLP) -> None:
        self.AL, self.e, self.lower, self.upper = (
            tensor[0].cpu().numpy() for tensor in (lp.AL, lp.e, lp.lower, lp.upper)
        )
        self.c_b, self.c_z, self.c_0 = (t[0].cpu().numpy() for t in (lp.c_b, lp.c_z, lp.c_0))
        self.n, self.d, self.layers = len(self.e), self.c_b.shape[1], lp.layers
        self._costs = np.hstack([self.c_b, self.c_z])
        self._scale = lp.scale[0].cpu().numpy()
        self._warm = WarmLP(lp)
        if len(self.c_0) == 1:
            self._warm.minimise(self.c_b[0], self.c_z[0])
        else:
            self._warm.minimise_largest(self.c_b, self.c_z, self.c_0)
        self._phases: dict[int, int] = {}
        # A budget's row is no neuron of the network, and idle ones are none at all.
        self.splittable = np.concatenate(
            [np.zeros(lp.layers[0], dtype=bool), *(real[0].cpu().numpy() for _, real in lp.chosen)]
        )

    @property
    def margin(self) -> float:
        """What d has to exceed for a node to be closed."""
        return ABOVE * float(self._scale.max())

    def begin_anew(self) -> None:
        """Forget the vertex that the next run would go on from."""
        self._warm.forget()

    def bound(
        self, phases: Phases, *, seconds: float | None, pivots: int | None = None
    ) -> NodeBound:
        """Go on to the optimum of the node with these phases, or until it is known to be closed."""
        self._move(phases)
        # A single row's objective lacks its constant.
        offset = float(self.c_0[0]) if len(self.c_0) == 1 else 0.0
        enough = 2 * self.margin - offset
        most = STUCK * (self.d + 4 * self.n) if pivots is None else pivots
        vertex = self._warm.run(seconds=seconds, pivots=most, bound=enough)
        if pivots is None and vertex.ending in (Ending.UNKNOWN, Ending.ITERATION_LIMIT):
            self._warm.forget()
            vertex = self._warm.run(seconds=seconds, pivots=most, bound=enough)
        if not (np.isfinite(vertex.nu).all() and np.isfinite(vertex.weights).all()):
            return NodeBound(None, vertex)
        evidence = self.evaluate(vertex.weights, vertex.nu, phases)
        if vertex.ray is not None and np.isfinite(vertex.ray).all():
            evidence = self._along(vertex.ray, evidence, phases)
        return NodeBound(evidence, vertex)

    def evaluate(self, weights: np.ndarray, nu: np.ndarray, phases: Phases) -> Evidence:
        price = weights @ self._costs + nu @ self.AL
        costs = np.stack([-nu * self.lower, (price[self.d :] - nu) * self.upper])
        left = costs.copy()
        for neuron, side in phases.items():
            left[0 if side > 0 else 1, neuron] = 0.0
        value = (
            weights @ self.c_0
            + self.e @ nu
            + price[: self.d].clip(max=0.0).sum()
            + left.min(0).clip(max=0.0).sum()
        )
        return Evidence(weights, nu, float(value), costs)

    def pre_activations(self, vertex: Vertex) -> np.ndarray:
        """ẑ at the point where a run has ended."""
        found: np.ndarray = self.e + self.AL @ np.concatenate([vertex.b, vertex.z])
        return found

    def values(self, b: np.ndarray) -> np.ndarray:
        """The rows at the network's own point at b, up to rounding; (rows,)."""
        pre, z = self.e + self.AL[:, : self.d] @ b, np.zeros(self.n)
        for start, end in pairwise((0, *self.layers)):
            pre[start:end] += self.AL[start:end, self.d : self.d + start] @ z[:start]
            z[start:end] = pre[start:end].clip(min=0.0)
        values: np.ndarray = self.c_b @ b + self.c_z @ z + self.c_0
        return values

    def _move(self, phases: Phases) -> None:
        for neuron in self._phases.keys() - phases.keys():
            self._warm.split(neuron, Side.BOTH)
        for neuron, side in phases.items():
            if self._phases.get(neuron) != side:
                self._warm.split(neuron, Side.ACTIVE if side > 0 else Side.DEAD)
        self._phases = dict(phases)

    def _along(self, ray: np.ndarray, start: Evidence, phases: Phases) -> Evidence:
        """The first of some steps along the ray that closes the node; else the best."""
        size = np.abs(start.nu).max(initial=0.0) or 1.0
        step, best = size / (np.abs(ray).max(initial=0.0) or 1.0) * 2.0**-10, start
        for _ in range(DOUBLINGS):
            if best.value > self.margin:
                break
            found = self.evaluate(start.weights, start.nu + step * ray, phases)
            if found.value > best.value:
                best = found
            step *= 2
        return best
