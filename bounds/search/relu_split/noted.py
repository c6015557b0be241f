"""What closes nodes, as columns of a journal, and the other way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bounds.search.journal import Columns
from bounds.search.relu_split.bounding import Evidence
from bounds.search.relu_split.tree import Closed, Leaf, Subtree, resolved

#: The phases that each needs, and its multipliers.
Refutations = Sequence[tuple[Mapping[int, int], Evidence]]
#: Refuses refutations of which one does not hold.
Proved = Callable[[Refutations], None]


def require(holds: bool, what: str) -> None:
    """Raises ValueError where what a journal says cannot be so."""
    if not holds:
        raise ValueError(what)


def counts_of(columns: Columns) -> list[int]:
    """What a search has counted, and where the tree that closes it is."""
    counts = columns["counts"]
    require(counts.dtype == np.int64 and counts.ndim == 1, "counts")
    return [int(count) for count in counts]


class Subtrees:
    """Of closed nodes: each once, after those that it consists of."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._rows: list[tuple[int, int, int]] = []
        self._kept: list[Subtree] = []

    def place_of(self, closed: Closed | None) -> int:
        """Of what closes a node, among the rows; −1 where nothing does."""
        return -1 if closed is None else self.place(closed[0])

    def place(self, whole: Subtree) -> int:
        stack = [whole]
        while stack:
            one = stack[-1]
            if id(one) in self._places:
                stack.pop()
                continue
            parts = () if isinstance(one, Leaf) else (one.active, one.dead)
            missing = [part for part in parts if id(part) not in self._places]
            if missing:
                stack += missing
                continue
            self._places[id(one)] = len(self._rows)
            # What is forgotten may have its id taken by another.
            self._kept.append(one)
            row = (
                (-1, one.refutation, -1)
                if isinstance(one, Leaf)
                else (one.neuron, self._places[id(one.active)], self._places[id(one.dead)])
            )
            self._rows.append(row)
        return self._places[id(whole)]

    @property
    def columns(self) -> Columns:
        return {"subtrees": np.array(self._rows, dtype=np.int64).reshape(-1, 3)}


def subtrees_of(columns: Columns, refutations: Refutations) -> list[Closed]:
    """With the phases that each needs, as they follow from the refutations."""
    found: list[Closed] = []
    require(columns["subtrees"].dtype == np.int64, "subtrees")
    for neuron, one, two in columns["subtrees"].tolist():
        require(one >= 0 and (neuron < 0 or max(one, two) < len(found)), "the order of subtrees")
        if neuron < 0:
            found.append((Leaf(one), frozenset(refutations[one][0].items())))
        else:
            found.append(resolved((neuron, 1), found[one], found[two]))
    return found


def refutation_columns(refutations: Refutations, n: int, rows: int) -> Columns:
    """n: how many neurons can be split. rows: of the disjunct."""
    literals = [literal for phases, _ in refutations for literal in phases.items()]
    return {
        "phases": np.array([len(phases) for phases, _ in refutations], dtype=np.int64),
        "literals": np.array(literals, dtype=np.int64).reshape(-1, 2),
        "nu": np.array([one.nu for _, one in refutations]).reshape(-1, n),
        "weights": np.array([one.weights for _, one in refutations]).reshape(-1, rows),
    }


def refutations_of(columns: Columns, n: int, rows: int) -> list[tuple[dict[int, int], Evidence]]:
    """Of evidence, only what proves something."""
    ends = np.cumsum(columns["phases"])
    literals = columns["literals"]
    nu, weights = columns["nu"], columns["weights"]
    require(int(columns["phases"].min(initial=1)) >= 0, "numbers of phases")
    require(nu.shape == (len(ends), n) and weights.shape == (len(ends), rows), "multipliers")
    require(len(literals) == (ends[-1] if len(ends) else 0), "literals")
    require(bool(((literals[:, 0] >= 0) & (literals[:, 0] < n)).all()), "a neuron")
    require(bool((abs(literals[:, 1]) == 1).all()), "a side")
    require(bool((weights >= 0).all() and (weights.max(1) > 0).all()), "weights")
    phases = [dict(part.tolist()) for part in np.split(literals, ends[:-1])] if len(ends) else []
    nothing = np.zeros((2, 0))
    return [
        (held, Evidence(w, v, math.nan, nothing))
        for held, w, v in zip(phases, weights, nu, strict=True)
    ]
