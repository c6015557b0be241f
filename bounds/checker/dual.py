"""The lower side: a multiplier a neuron proves a bound, whatever the multiplier is.

Where z stands for the ReLU of ẑ within its triangle, with vertices (l, 0), (0, 0) and (u, u), and
c z is what a row holds of it, then for every number ν

    c z  =  ν ẑ + (c z − ν ẑ)  ≥  ν ẑ + min(−ν l, 0, (c − ν) u),

as a linear form on a triangle is smallest at a vertex. Of an active neuron c z = c ẑ, of a dead one
c z = 0. So a row is bounded by a form in the inputs of the ReLUs, and layer by layer by one in x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bounds.checker.arithmetic import Arithmetic, Array, smaller
from bounds.checker.evidence import InputSet, Neurons
from bounds.checker.floats import TIE
from bounds.checker.graph import Graph
from bounds.checker.input_sets import minimum

#: ν of ReLU k, (rows, numbers), given the c that arrives there; ignored at stable neurons.
Rule = Callable[[int, Array], Array]


def row_minimum(
    graph: Graph,
    points: InputSet,
    relus: Sequence[Neurons],
    start: int,
    coefficients: Array,
    rule: Rule,
) -> Array:
    """A lower bound of ⟨coefficients, node `start`⟩ for every point of the relaxation; (rows,)."""
    constant, c = linear_form(graph, relus, start, coefficients, rule)
    return constant + minimum(graph.arithmetic, points, c)


def linear_form(
    graph: Graph, relus: Sequence[Neurons], start: int, coefficients: Array, rule: Rule
) -> tuple[Array, Array]:
    """The form in x that this is: its constant (rows,) and c (rows, inputs)."""
    numbers, zeros = graph.arithmetic.numbers, graph.arithmetic.zeros
    vertices = zeros(len(coefficients))

    def through(k: int, arriving: Array) -> Array:
        nonlocal vertices
        neurons = relus[k]
        here = np.flatnonzero(neurons.unstable)
        nu, c = rule(k, arriving)[:, here], arriving[:, here]
        at_lower = -nu * numbers(neurons.lower[here])
        at_upper = (c - nu) * numbers(neurons.upper[here])
        vertices = vertices + smaller(smaller(at_lower, at_upper), zeros()).sum(1)
        passed = np.where(neurons.active, arriving, zeros())
        passed[:, here] = nu
        return passed

    constant, c = graph.backward(start, coefficients, through)
    return constant + vertices, c


def slope_rule(arithmetic: Arithmetic, name: str, relus: Sequence[Neurons]) -> Rule:
    """The multipliers of "fixed" and "adaptive" slopes, as `dual/fixed_slope.py` defines them.

    Where the sign of c is not decided, either choice will do, as any ν does.
    """
    slopes = []
    for neurons in relus:
        with np.errstate(all="ignore"):
            # No slope is asked of the others, which may have no width.
            low = np.where(neurons.unstable, neurons.lower, -1.0)
            lower, upper = arithmetic.numbers(low), arithmetic.numbers(neurons.upper.clip(min=0))
        slopes.append(np.where(neurons.unstable, upper / (upper - lower), arithmetic.zeros()))

    def fixed(k: int, arriving: Array) -> Array:
        return arriving * slopes[k]

    def adaptive(k: int, arriving: Array) -> Array:
        steep = arithmetic.numbers((relus[k].upper > -TIE * relus[k].lower).astype(float))
        negative = np.asarray(arriving < 0, dtype=bool)
        return arriving * np.where(negative, slopes[k], steep)

    return {"fixed": fixed, "adaptive": adaptive}[name]
