"""The upper side: the value of a row at one point of the relaxation is no less than its optimum."""

from __future__ import annotations

import numpy as np

from bounds.checker.arithmetic import Array, balls, larger, smaller
from bounds.checker.evidence import Evidence
from bounds.checker.graph import Graph, plain


def row_values(graph: Graph, evidence: Evidence, *, trusted: bool) -> tuple[Array, np.ndarray]:
    """⟨C, output⟩ of each row at its point, and whether that is a point of the relaxation.

    The point is x, pushed through the network, with the z of each unstable neuron clamped into its
    triangle: max(0, ẑ) ≤ z ≤ u (ẑ − l) / (u − l), which leaves room for z wherever l ≤ ẑ ≤ u. That
    is proved where l and u are; trusted ones may cut the point off, and sides that are kept may,
    too. Whether x lies in the input set is not looked at here.

    Returns:
        Two arrays of shape (rows,): numbers, and truth values.
    """
    feasible = np.ones(len(evidence.x), dtype=bool)

    def relu(k: int, pre: Array) -> Array:
        nonlocal feasible
        neurons = evidence.relus[k].kept
        here = np.flatnonzero(neurons.unstable)
        lower, upper = balls().numbers(neurons.lower[here]), balls().numbers(neurons.upper[here])
        unstable = pre[:, here]
        above, below = np.asarray(unstable >= lower, bool), np.asarray(unstable <= upper, bool)
        side = neurons.sides[here]
        feasible &= ((above | (side <= 0)) & (below | (side >= 0))).all(1)
        if trusted:
            feasible &= (above & below).all(1)
        face = (unstable - lower) * (upper / (upper - lower))
        suggested = balls().numbers(evidence.z[k][:, here])
        z = np.where(neurons.active, pre, balls().zeros())
        z[:, here] = larger(smaller(suggested, face), larger(unstable, balls().zeros()))
        return z

    output = graph.forward(balls().numbers(evidence.x), plain, relu)
    return (output * balls().numbers(evidence.C)).sum(1), feasible
