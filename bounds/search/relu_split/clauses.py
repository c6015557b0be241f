"""What was learnt: conjunctions of phases that exclude the disjunct, wherever else they hold.

A refutation that needs few phases closes every node that has them all. Where a node has all but
one, and nothing of that neuron, the neuron's other phase follows: unit propagation (Davis, Logemann
& Loveland 1962). A node asks about its last phase only, so that all clauses with this one are
counted at once, and nothing is counted while phases come and go.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

#: Unstable neuron of the condensed LP, and 1 or −1.
Literal = tuple[int, int]


class Clauses:
    """Learnt conjunctions, and the phases that the present node has.

    At most `capacity` are watched, the newest: those of many phases rarely hold elsewhere.
    n: how many neurons there are.
    """

    def __init__(self, capacity: int, n: int) -> None:
        self._capacity, self._learnt = capacity, 0
        #: Which literals the node has, by their codes; the last one fills clauses up.
        self._has = np.zeros(2 * n + 1, dtype=bool)
        self._has[-1] = True
        #: The codes of the literals of each, at its name modulo the capacity.
        self._codes = np.empty((0, 1), dtype=np.int32)
        self._names: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))

    def learn(self, phases: Mapping[int, int]) -> int:
        """Its name: how many were learnt before."""
        name, slot = self._learnt, self._learnt % self._capacity
        self._learnt += 1
        codes = [_code(literal) for literal in phases.items()]
        rows, width = self._codes.shape
        if slot >= rows or len(codes) > width:
            room = min(self._capacity, max(2 * slot, rows, 64)), max(len(codes), width)
            grown = np.full(room, len(self._has) - 1, dtype=np.int32)
            grown[:rows, :width] = self._codes
            self._codes = grown
        self._codes[slot] = len(self._has) - 1
        self._codes[slot, : len(codes)] = codes
        for code in codes:
            self._names[code].append(name)
        return name

    def hold(self, literal: Literal) -> None:
        self._has[_code(literal)] = True

    def release(self, literal: Literal) -> None:
        self._has[_code(literal)] = False

    def look(self, literal: Literal) -> tuple[int | None, tuple[Literal, int] | None]:
        """Of the clauses with a phase that the node has, the oldest of which it has everything;
        else a phase that it cannot have besides, and by which clause."""
        every = np.frombuffer(self._names[_code(literal)], dtype=np.int64)
        names = every[np.searchsorted(every, self._learnt - self._capacity) :]
        codes = self._codes[names % self._capacity]
        has = self._has[codes]
        missing = codes.shape[1] - np.count_nonzero(has, axis=1)
        violated = missing == 0
        if violated.any():
            return int(names[violated.argmax()]), None
        [units] = (missing == 1).nonzero()
        others = codes[units, has[units].argmin(1)]
        free = ~self._has[others ^ 1]
        if not free.any():
            return None, None
        first = free.argmax()
        other = int(others[first])
        return None, ((other // 2, 1 if other % 2 else -1), int(names[units[first]]))


def _code(literal: Literal) -> int:
    return 2 * literal[0] + (literal[1] > 0)
