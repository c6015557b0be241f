"""One leaf at a time, in balls or rationals: where float64 does not suffice, or is not wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bounds.checker.arithmetic import Arithmetic, Array, proved_above, proved_below, smaller
from bounds.checker.dual import linear_form, row_minimum, slope_rule
from bounds.checker.evidence import InputSet, Neurons
from bounds.checker.forest import Cases, Forest
from bounds.checker.graph import Graph
from bounds.checker.input_sets import minimum
from bounds.checker.neuron_bounds import interval
from bounds.checker.refutations import Refutations
from bounds.errors import InvalidInputError
from bounds.network.graph import AffineNode, Network

#: Leaves that are looked at in balls; numbers of a network, and leaves or refutations, for
#: rationals.
LEAVES, NUMBERS, SMALL = 200, 300, 2000


def require_small(network: Network, forest: Forest, refutations: int) -> None:
    """Refuse what would take ages in rationals; refutations: how many there are."""
    numbers = sum(int(np.prod(n.shape)) for n in network.nodes if not isinstance(n, AffineNode))
    for what, count, most in (
        ("input and ReLU numbers", numbers, NUMBERS),
        ("leaves", forest.leaves, SMALL),
        ("refutations", refutations, SMALL),
    ):
        if count > most:
            raise InvalidInputError(
                f"exact=True got a proof of {count} {what}, expected at most {most}: leave it out."
            )


class Closely:
    """What `bounds.checker.batch` computes, in numbers of another arithmetic. l and u are rounded
    outward to float64, so that those of rationals stay short; they have backward passes, also where
    a file says that those which are carried forward do."""

    def __init__(self, network: Network, arithmetic: Arithmetic) -> None:
        self._graph, self._numbers = Graph(network, arithmetic), arithmetic.numbers
        self._zeros = arithmetic.zeros
        self._last = len(network.nodes) - 1

    def neurons(self, points: InputSet, signs: np.ndarray) -> list[Neurons] | None:
        """l and u of every ReLU; None where one is no number."""
        found: list[Neurons] = []
        graph = self._graph
        ends = np.cumsum([0, *(graph.sizes[k] for k in graph.relus)])

        def relu(k: int, box: Array) -> Array:
            own = signs[ends[k] : ends[k + 1]]
            lower = np.array([proved_below(number) for number in box[0]])
            upper = np.array([proved_above(number) for number in box[1]])
            lower = np.where(own > 0, np.maximum(lower, 0), lower)
            upper = np.where(own < 0, np.minimum(upper, 0), upper)
            here = np.flatnonzero((lower < 0) & (upper > 0))
            if len(here):
                rows = np.zeros((2 * len(here), len(lower)))
                rows[np.arange(len(here)), here] = 1
                rows[len(here) + np.arange(len(here)), here] = -1
                rule = slope_rule(graph.arithmetic, "adaptive", found)
                start = graph.nodes[graph.relus[k]].parents[0]
                least = row_minimum(graph, points, found, start, self._numbers(rows), rule)
                below = np.array([proved_below(number) for number in least])
                lower[here] = np.maximum(lower[here], below[: len(here)])
                upper[here] = np.minimum(upper[here], -below[len(here) :])
            if not (np.isfinite(lower) & np.isfinite(upper) & (lower <= upper)).all():
                raise _NoNumbers
            found.append(Neurons(lower, upper))
            return self._numbers(np.stack((lower.clip(min=0), upper.clip(min=0))))

        try:
            graph.forward(self._numbers(np.stack((points.lower, points.upper))), interval, relu)
        except _NoNumbers:
            return None
        return found

    def excluded(
        self, points: InputSet, neurons: Sequence[Neurons], C: np.ndarray, d: np.ndarray
    ) -> bool:
        """Whether a row is positive on the box by either slope, or all together cut it to
        nothing."""
        lower, upper = self._numbers(points.lower), self._numbers(points.upper)
        ends = lower.copy(), upper.copy()
        for name in ("fixed", "adaptive"):
            rule = slope_rule(self._graph.arithmetic, name, neurons)
            constant, c = linear_form(self._graph, neurons, self._last, self._numbers(C), rule)
            least = constant + self._numbers(d) + minimum(self._graph.arithmetic, points, c)
            if any(number > 0 for number in least):
                return True
            for number, row in zip(least, c, strict=True):
                for j in range(len(row)):
                    if row[j] > 0:
                        upper[j] = smaller(upper[j], ends[0][j] - number / row[j])[()]
                    elif row[j] < 0:
                        lower[j] = -smaller(-lower[j], number / row[j] - ends[1][j])[()]
        return any(low > high for low, high in zip(lower, upper, strict=True))

    def refuted(
        self,
        points: InputSet,
        neurons: Sequence[Neurons],
        C: np.ndarray,
        d: np.ndarray,
        refutations: Refutations,
        number: int,
    ) -> bool:
        """Whether the mixture of rows is positive where the refutation is about, or nothing is
        there; what it uses may not hold."""
        sizes = np.cumsum([len(each.lower) for each in neurons])[:-1]
        nothing = np.zeros(0)
        lower = np.concatenate([nothing, *(each.lower for each in neurons)])
        upper = np.concatenate([nothing, *(each.upper for each in neurons)])
        refutations.narrow(number, lower, upper)
        if (lower > upper).any():
            return True
        nu = np.zeros(len(lower))
        listed = refutations.listed[refutations.case[number]]
        nu[listed] = refutations.multipliers[number]
        lows, highs, nus, given = (np.split(each, sizes) for each in (lower, upper, nu, listed))
        left = self._zeros()[()]

        def through(k: int, arriving: Array) -> Array:
            nonlocal left
            c, low, high = arriving[0], self._numbers(lows[k]), self._numbers(highs[k])
            zero = self._zeros()
            own = np.where(given[k], self._numbers(nus[k]), np.where(lows[k] >= 0, c, zero))
            at_low = c * np.where(lows[k] > 0, low, zero) - own * low
            at_high = c * np.where(highs[k] > 0, high, zero) - own * high
            least = smaller(at_low, at_high)
            inside = (lows[k] < 0) & (highs[k] > 0)
            least = np.where(inside, smaller(least, zero), least)
            left = left + least.sum()
            return own[None]

        weights = self._numbers(refutations.weights[number])
        row = (weights[:, None] * self._numbers(C)).sum(0)
        constant, c = self._graph.backward(self._last, row[None], through)
        value: Any = constant[0] + left + minimum(self._graph.arithmetic, points, c)[0]
        return bool(value + (weights * self._numbers(d)).sum() > 0)


class _NoNumbers(Exception):
    """An l or u is NaN, infinite, or beyond the other."""


class SecondLook:
    """Leaves of a proof, or what refutes them, in another arithmetic: as many as `limit`, and no
    more of them hold."""

    def __init__(
        self,
        network: Network,
        arithmetic: Arithmetic,
        cases: Cases,
        *,
        limit: int,
    ) -> None:
        self._closely, self._cases, self._left = Closely(network, arithmetic), cases, limit

    def box(self, disjunct: int, lower: np.ndarray, upper: np.ndarray, signs: np.ndarray) -> bool:
        """Whether a disjunct is excluded on a box."""
        if self._spent():
            return False
        points = _box(lower, upper)
        neurons = self._closely.neurons(points, signs)
        if neurons is None:
            return False
        return self._closely.excluded(points, neurons, *self._rows(disjunct))

    def refutation(
        self, refutations: Refutations, disjunct: int, number: int, neurons: Sequence[Neurons]
    ) -> bool:
        """Whether a refutation of a disjunct holds, with these l and u, which hold on its case, if
        all that it uses does."""
        if self._spent():
            return False
        case = int(refutations.case[number])
        points = _box(self._cases.lower[case], self._cases.upper[case])
        rows = self._rows(disjunct)
        return self._closely.refuted(points, neurons, *rows, refutations, number)

    def _spent(self) -> bool:
        self._left -= 1
        return self._left < 0

    def _rows(self, disjunct: int) -> tuple[np.ndarray, np.ndarray]:
        rows = slice(int(self._cases.rows[disjunct]), int(self._cases.rows[disjunct + 1]))
        return self._cases.C[rows], self._cases.d[rows]


def _box(lower: np.ndarray, upper: np.ndarray) -> InputSet:
    return InputSet("box", lower, upper, lower, 0.0)
