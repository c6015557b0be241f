"""What was learnt: conjunctions of phases that exclude the disjunct, wherever else they hold.

A refutation that needs few phases closes every node that has them all. Where a node has all but
one, and nothing of that neuron, the neuron's other phase follows: unit propagation (Davis, Logemann
& Loveland 1962). A node asks about its last phase only, so that all clauses with this one are
counted at once, and nothing is counted while phases come and go.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

#: Unstable neuron of the condensed LP, and 1 or −1.
Literal = tuple[int, int]


class Clauses:
    """Learnt conjunctions, and the phases that the present node has.

    At most `capacity` are watched. Then the longer half of these is forgotten: what needs many
    phases rarely holds elsewhere. n: how many neurons there are.
    """

    def __init__(self, capacity: int, n: int) -> None:
        self._capacity, self._watched = capacity, 0
        #: Which literals the node has, by their codes; the last one fills clauses up.
        self._has = np.zeros(2 * n + 1, dtype=bool)
        self._has[-1] = True
        #: Of those that are watched: the codes of their literals, how many these are, and names.
        self._codes = np.empty((0, 1), dtype=np.int32)
        self._sizes, self._names = (np.empty(capacity, dtype=np.int64) for _ in range(2))
        #: Of every literal, by its code, the places of clauses with it.
        self._places: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))

    def learn(self, phases: Mapping[int, int], name: int) -> None:
        """name: of the refutation that needs these; later ones have larger names."""
        if self._watched == self._capacity:
            self._forget()
        codes = [_code(literal) for literal in phases.items()]
        place, (rows, width) = self._watched, self._codes.shape
        self._watched += 1
        if place >= rows or len(codes) > width:
            room = min(self._capacity, max(2 * place, rows, 64)), max(len(codes), width)
            grown = np.full(room, len(self._has) - 1, dtype=np.int32)
            grown[:rows, :width] = self._codes
            self._codes = grown
        self._codes[place] = len(self._has) - 1
        self._codes[place, : len(codes)] = codes
        self._sizes[place], self._names[place] = len(codes), name
        self._watch(place, codes)

    def _watch(self, place: int, codes: Iterable[int]) -> None:
        for code in codes:
            self._places[code].append(place)

    def _forget(self) -> None:
        """Keep the shorter half, the newest of those that are as long as the longest of these."""
        half = self._capacity // 2
        kept = np.sort(np.lexsort((-self._names, self._sizes))[:half])
        for values in (self._codes, self._sizes, self._names):
            values[:half] = values[kept]
        self._watched = half
        self._places.clear()
        for place, size in enumerate(self._sizes[:half].tolist()):
            self._watch(place, self._codes[place, :size].tolist())

    def hold(self, literal: Literal) -> None:
        self._has[_code(literal)] = True

    def release(self, literal: Literal) -> None:
        self._has[_code(literal)] = False

    def look(self, literal: Literal) -> tuple[int | None, tuple[Literal, int] | None]:
        """Of the clauses with a phase that the node has, the oldest of which it has everything;
        else a phase that it cannot have besides, and by which clause."""
        places = np.frombuffer(self._places[_code(literal)], dtype=np.int64)
        codes = self._codes[places]
        has = self._has[codes]
        missing = codes.shape[1] - np.count_nonzero(has, axis=1)
        violated = missing == 0
        if violated.any():
            return int(self._names[places[violated.argmax()]]), None
        [units] = (missing == 1).nonzero()
        others = codes[units, has[units].argmin(1)]
        free = ~self._has[others ^ 1]
        if not free.any():
            return None, None
        first = free.argmax()
        other = int(others[first])
        name = int(self._names[places[units[first]]])
        return None, ((other // 2, 1 if other % 2 else -1), name)


def _code(literal: Literal) -> int:
    return 2 * literal[0] + (literal[1] > 0)
