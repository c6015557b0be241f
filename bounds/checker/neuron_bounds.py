"""The bounds l ≤ ẑ ≤ u of every ReLU, proved from the input set on.

ReLU by ReLU: given that the bounds below hold, interval arithmetic encloses the next ẑ; where that
does not give what the file claims, a backward pass from the neuron does, with the multipliers of
the rule that the file names, or the claim is rejected. All holds for the relaxation too, whose
points are more than the network's.
"""

from __future__ import annotations

import numpy as np

from bounds.checker.arithmetic import Array, balls, larger, proved_above, proved_below
from bounds.checker.dual import Rule, row_minimum, slope_rule
from bounds.checker.evidence import Evidence, Rejected
from bounds.checker.graph import Graph, Layer


def prove_bounds(graph: Graph, evidence: Evidence, slope: str | None) -> None:
    """Raise Rejected unless every l and u of the evidence follows; slope: None for intervals."""
    points, relus = evidence.input_set, evidence.relus
    rule = None if slope is None else slope_rule(graph.arithmetic, slope, relus)

    def relu(k: int, box: Array) -> Array:
        """box: (2, numbers), the ends of an interval around every ẑ; returns that of z."""
        neurons, (lower, upper) = relus[k], box
        lower = _lower_ends(graph, evidence, k, 1.0, neurons.lower, lower, rule)
        _require(graph, k, "lower", neurons.lower, lower)
        upper = -_lower_ends(graph, evidence, k, -1.0, -neurons.upper, -upper, rule)
        _require(graph, k, "upper", neurons.upper, upper)
        ends = balls().numbers(np.stack((neurons.lower, neurons.upper)))
        return larger(ends, balls().zeros())

    graph.forward(balls().numbers(np.stack((points.lower, points.upper))), interval, relu)


def interval(layer: Layer, box: Array) -> Array:
    """W m + b ∓ |W| r, for a box around m with half-widths r; (2, numbers) both."""
    lower, upper = box
    middle = layer.matrix.forward(((lower + upper) / 2)[None])[0] + layer.bias
    radius = layer.absolute.forward(((upper - lower) / 2)[None])[0]
    return np.stack((middle - radius, middle + radius))


def _lower_ends(
    graph: Graph,
    evidence: Evidence,
    k: int,
    sign: float,
    claimed: np.ndarray,
    proved: Array,
    rule: Rule | None,
) -> Array:
    """What is proved of the lower ends of sign · ẑ: by a backward pass where intervals, which have
    proved some already, fall short of the claim."""
    short = np.flatnonzero(~np.asarray(proved >= claimed, dtype=bool))
    if rule is None:
        return proved
    proved = proved.copy()
    start = graph.nodes[graph.relus[k]].parents[0]
    for first in range(0, len(short), graph.rows_at_once):
        part = short[first : first + graph.rows_at_once]
        rows = np.zeros((len(part), len(claimed)))
        rows[np.arange(len(part)), part] = sign
        found = row_minimum(
            graph, evidence.input_set, evidence.relus, start, balls().numbers(rows), rule
        )
        proved[part] = larger(proved[part], found)
    return proved


def _require(graph: Graph, k: int, end: str, claimed: np.ndarray, proved: Array) -> None:
    follows = proved >= claimed if end == "lower" else proved <= claimed
    failed = np.flatnonzero(~np.asarray(follows, dtype=bool))
    if len(failed) > 0:
        neuron = int(failed[0])
        known = (proved_below if end == "lower" else proved_above)(proved[neuron])
        others = f" (and {len(failed) - 1} more of this ReLU)" if len(failed) > 1 else ""
        raise Rejected(
            f"the {end} bound of neuron {neuron} of ReLU {k} "
            f"({graph.nodes[graph.relus[k]].name!r}) is claimed as {float(claimed[neuron])!r}, and "
            f"{known!r} is proved{others}"
        )
