"""What was learnt: conjunctions of phases that exclude the disjunct, wherever else they hold.

A refutation that needs few phases closes every node that has them all. Where a node has all but
one, and nothing of that neuron, the neuron's other phase follows: unit propagation (Davis, Logemann
& Loveland 1962).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping

#: Unstable neuron of the condensed LP, and 1 or −1.
Literal = tuple[int, int]


class Clauses:
    """Learnt conjunctions, and how many phases of each the present node has.

    At most `capacity` are watched, the newest: those of many phases rarely hold elsewhere.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._watched: deque[int] = deque()
        self._literals: dict[int, frozenset[Literal]] = {}
        self._where: defaultdict[Literal, set[int]] = defaultdict(set)
        self._missing: dict[int, int] = {}
        self._held: dict[int, int] = {}

    def learn(self, name: int, phases: Mapping[int, int]) -> None:
        literals = frozenset(phases.items())
        self._watched.append(name)
        self._literals[name] = literals
        self._missing[name] = sum(self._held.get(i) != side for i, side in literals)
        for literal in literals:
            self._where[literal].add(name)
        if len(self._watched) > self._capacity:
            old = self._watched.popleft()
            for literal in self._literals.pop(old):
                self._where[literal].discard(old)
            del self._missing[old]

    def hold(self, literal: Literal) -> None:
        self._held[literal[0]] = literal[1]
        for name in self._where[literal]:
            self._missing[name] -= 1

    def release(self, literal: Literal) -> None:
        del self._held[literal[0]]
        for name in self._where[literal]:
            self._missing[name] += 1

    def violated(self, literal: Literal) -> int | None:
        """A clause with this literal of which the node has everything."""
        return min((n for n in self._where[literal] if self._missing[n] == 0), default=None)

    def unit(self, literal: Literal) -> tuple[Literal, int] | None:
        """Given a phase that the node has: one that it cannot have besides, and by which clause."""
        for name in sorted(self._where[literal]):
            if self._missing[name] == 1:
                for other in self._literals[name]:
                    if other[0] not in self._held:
                        return other, name
        return None
