"""Small LPs as a whole in rational numbers: their optima, without any rounding or tolerance."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from bounds.checker.arithmetic import Array, rationals
from bounds.checker.evidence import Evidence, InputSet
from bounds.checker.graph import Graph, Layer
from bounds.checker.simplex import Infeasible, Rows, likely_basis, optimum
from bounds.errors import InvalidInputError

#: Of one LP. Rational numbers grow with every layer, and the work with the cube of the variables.
VARIABLES = 300


def require_small(graph: Graph, evidence: list[Evidence]) -> None:
    """Refuse what has no linear program, or too large a one, before any work is done."""
    for index, each in enumerate(evidence):
        if each.input_set.kind == "l2":
            raise InvalidInputError(
                "--exact got ℓ2 balls, whose optima are not rational: leave it out."
            )
        variables = _variables(graph, each)
        if variables > VARIABLES:
            raise InvalidInputError(
                f"--exact got LPs of {variables} variables for input {index}, expected at most "
                f"{VARIABLES}: leave it out."
            )


def optima(graph: Graph, evidence: Evidence) -> list[Fraction | None]:
    """The optimum of each row's LP; None where l and u leave the LP without a point.

    graph: of rational numbers. The LP has a variable for each coordinate of x, for each unstable z,
    and for ℓ1 balls for each |x − x₀|; all else is a linear form in these.
    """
    program = _Program(graph, evidence)
    found: list[Fraction | None] = []
    for form in program.objectives:
        c = form[1:]
        basis = likely_basis(program.rows, c) or program.first_basis
        try:
            value, _ = optimum(program.rows, c, basis)
        except Infeasible:
            found.append(None)
        else:
            value = value + form[0]
            found.append(Fraction(int(value.p), int(value.q)))
    return found


def _variables(graph: Graph, evidence: Evidence) -> int:
    unstable = sum(int(neurons.unstable.sum()) for neurons in evidence.kept)
    return unstable + graph.sizes[0] * (2 if evidence.input_set.kind == "l1" else 1)


class _Program:
    """The rows of the LP, which are the table in `relaxation/triangle.py` and the input set, and
    nothing else; and the objective of each row of the specification.

    first_basis: of all rows, one for each variable that bounds it in terms of earlier ones.
    """

    def __init__(self, graph: Graph, evidence: Evidence) -> None:
        self._forms: list[Array] = []
        self.first_basis: list[int] = []
        self._used = inputs = graph.sizes[0]
        units = rationals().numbers(np.eye(1 + _variables(graph, evidence)))
        x, kept = units[:, 1 : inputs + 1], evidence.kept
        self._input_set(evidence.input_set, x, units)

        def affine(layer: Layer, forms: Array) -> Array:
            value = layer.matrix.forward(forms).copy()
            value[0] = value[0] + layer.bias
            return value

        def relu(k: int, pre: Array) -> Array:
            neurons = kept[k]
            z = np.where(neurons.active, pre, rationals().zeros())
            for i in np.flatnonzero(neurons.unstable):
                lower, upper = rationals().numbers(np.array([neurons.lower[i], neurons.upper[i]]))
                own = z[:, i] = self._next_variable(units)
                self._require(own, first=True)
                self._require(own - pre[:, i])
                self._require(upper * (pre[:, i] - lower * units[0]) - (upper - lower) * own)
            return z

        output = graph.forward(x, affine, relu)
        self.objectives = rationals().numbers(evidence.C) @ output.T
        self.objectives[:, 0] += rationals().numbers(evidence.d)
        forms = np.stack(self._forms)
        self.rows = Rows(forms[:, 1:], -forms[:, 0])

    def _input_set(self, points: InputSet, x: Array, units: Array) -> None:
        lower, upper, centre = (
            rationals().numbers(ends) for ends in (points.lower, points.upper, points.centre)
        )
        left = rationals().numbers(np.array(points.radius)) * units[0]
        for j in range(len(lower)):
            self._require(x[:, j] - lower[j] * units[0], first=True)
            self._require(upper[j] * units[0] - x[:, j])
            if points.kind == "l1":
                away = x[:, j] - centre[j] * units[0]
                distance = self._next_variable(units)
                self._require(distance - away, first=True)
                self._require(distance + away)
                left = left - distance
        if points.kind == "l1":
            self._require(left)

    def _next_variable(self, units: Array) -> Array:
        self._used += 1
        return units[self._used]

    def _require(self, form: Array, *, first: bool = False) -> None:
        """A row form ≥ 0."""
        if first:
            self.first_basis.append(len(self._forms))
        self._forms.append(form)
