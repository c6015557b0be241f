"""What closes nodes, as columns of a journal, and the other way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from bounds.search.journal import Columns
from bounds.search.relu_split.bounding import Evidence
from bounds.search.relu_split.region import End, Lemma, Region
from bounds.search.relu_split.tree import Closed, Leaf, Subtree, resolved

#: Refuses refutations and lemmas of which one does not hold.
Proved = Callable[[Mapping[int, Lemma]], None]


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


def subtrees_of(columns: Columns, refutations: Mapping[int, Lemma]) -> list[Closed]:
    """With the phases that each needs, as they follow from the refutations."""
    found: list[Closed] = []
    require(columns["subtrees"].dtype == np.int64, "subtrees")
    for neuron, one, two in columns["subtrees"].tolist():
        require(one >= 0 and (neuron < 0 or max(one, two) < len(found)), "the order of subtrees")
        if neuron < 0:
            require(one in refutations and refutations[one].end is None, "what closes a leaf")
            found.append((Leaf(one), frozenset(refutations[one].phases.items())))
        else:
            found.append(resolved((neuron, 1), found[one], found[two]))
    return found


def lemma_columns(refutations: Mapping[int, Lemma], n: int, rows: int) -> Columns:
    """Refutations, and lemmas. n: how many neurons can be split. rows: of the disjunct."""
    each = list(refutations.values())
    literals = [literal for one in each for literal in one.phases.items()]
    ends = [one.end or End(-1, 0, 0.0) for one in each]
    return {
        "numbers": np.array(list(refutations), dtype=np.int64),
        "phases": np.array([len(one.phases) for one in each], dtype=np.int64),
        "literals": np.array(literals, dtype=np.int64).reshape(-1, 2),
        "nu": np.array([one.evidence.nu for one in each], dtype=np.float64).reshape(len(each), n),
        "weights": np.array([one.evidence.weights for one in each]).reshape(len(each), rows),
        "ends": np.array([(end.neuron, end.side) for end in ends], dtype=np.int64).reshape(-1, 2),
        "ends.at": np.array([end.at for end in ends], dtype=np.float64),
        "uses": np.array([len(one.uses) for one in each], dtype=np.int64),
        "used": np.array([use for one in each for use in one.uses], dtype=np.int64),
    }


def lemmas_of(columns: Columns, n: int, rows: int) -> dict[int, Lemma]:
    """Of evidence, only what proves something."""
    nu, weights, numbers = columns["nu"], columns["weights"], columns["numbers"]
    literals, ends, at = columns["literals"], columns["ends"], columns["ends.at"]
    count = len(numbers)
    require(nu.shape == (count, n) and weights.shape == (count, rows), "multipliers")
    require(ends.shape == (count, 2) and at.shape == (count,), "ends")
    require(bool(np.isfinite(at).all() and (at * ends[:, 1] <= 0).all()), "an end")
    require(bool(((ends[:, 1] == 0) | (ends[:, 0] >= 0)).all()), "the neuron of an end")
    require(bool((ends[:, 0] < n).all() and (abs(ends[:, 1]) <= 1).all()), "the side of an end")
    require(bool(((literals[:, 0] >= 0) & (literals[:, 0] < n)).all()), "a neuron")
    require(bool((abs(literals[:, 1]) == 1).all()), "a side")
    require(bool((weights >= 0).all() and (weights.max(1) > 0).all()), "weights")
    require(len({*numbers.tolist()}) == count and bool((numbers >= 0).all()), "numbers")
    phases = [dict(part.tolist()) for part in _parts(literals, columns["phases"], count)]
    uses = [tuple(part.tolist()) for part in _parts(columns["used"], columns["uses"], count)]
    nothing = np.zeros((2, 0))
    found: dict[int, Lemma] = {}
    for place, number in enumerate(numbers.tolist()):
        for use in uses[place]:
            require(use in found and use < number and found[use].end is not None, "a use")
            require(found[use].phases.items() <= phases[place].items(), "phases of what is used")
        neuron, side = ends[place].tolist()
        end = End(neuron, side, float(at[place])) if side else None
        evidence = Evidence(weights[place], nu[place], math.nan, nothing)
        found[number] = Lemma(phases[place], evidence, uses[place], end)
    return found


def regions_of(columns: Columns, lemmas: Mapping[int, Lemma], root: Region) -> list[Region]:
    """root: where nothing else is known."""
    found = []
    every = columns["regions"]
    require(not len(every) or every.shape[1:] == (2, len(root.lower)), "regions")
    for numbers in every:
        lower, upper = root.lower.clone(), root.upper.clone()
        for place, i in np.argwhere(numbers >= 0).tolist():
            lemma = lemmas.get(int(numbers[place, i]))
            side = 1 - 2 * place
            require(lemma is not None, "a lemma of a region")
            assert lemma is not None
            end = lemma.end
            require(end is not None and (end.neuron, end.side) == (i, side), "an end of a region")
            assert end is not None
            (upper if place else lower)[i] = end.at
        found.append(Region(lower, upper, numbers))
    return found


def _parts(flat: np.ndarray, sizes: np.ndarray, count: int) -> list[np.ndarray]:
    require(len(sizes) == count and int(sizes.min(initial=0)) >= 0, "numbers of items")
    ends = np.cumsum(sizes)
    require(len(flat) == (ends[-1] if count else 0), "items")
    return np.split(flat, ends[:-1]) if count else []
