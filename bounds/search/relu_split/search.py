"""Depth first over the phases of neurons: bound, explain, jump back; or split.

A node that is refuted is closed by the phases that its refutation needs. If the last split is not
among them, its other side is closed by the same; and where both sides of a split are closed, what
they need together, but for the split neuron, closes the parent. So every closed subtree is known by
the phases that it needs, and splits that nothing needs leave the tree. (Conflict analysis and
backjumping: Marques Silva & Sakallah 1999.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bounds.deadline import Deadline
from bounds.search.journal import Columns, Page
from bounds.search.relu_split.bounding import NodeBound, NodeLP, needed
from bounds.search.relu_split.branching import Record, choose, guesses
from bounds.search.relu_split.clauses import Clauses, Literal
from bounds.search.relu_split.noted import (
    Proved,
    Subtrees,
    counts_of,
    lemma_columns,
    lemmas_of,
    require,
    subtrees_of,
)
from bounds.search.relu_split.region import Lemma
from bounds.search.relu_split.tree import Closed, Leaf, Subtree, resolved
from bounds.search.search import WHOLE, Ended, Search

#: Clauses that are watched, and numbers in the multipliers of all refutations.
CLAUSES, CAPACITY = 20_000, 2**27
#: Pivots for a child that is only tried.
TRIAL = 50


@dataclass(frozen=True, eq=False)
class Frame:
    """A phase that the present node has.

    other: what closes the other side, None while it is open. value, guess: the bound of the node
    that was split, and what the split was thought to gain.
    """

    literal: Literal
    other: Closed | None
    value: float = -math.inf
    guess: float = 0.0


class ReluSearch:
    """Whether all rows of a disjunct are at most 0 somewhere; `run` finds out.

    lp: of the root. confirm: whether the network's own point at b is a counterexample, or close to
    one; all rows seem to be at most 0 there. descend: whether there is one nearby. watch: is told
    after every node how far the search is. begun: the nodes of the searches before this one, of
    other disjuncts. limit: nodes that may be bounded, with those.

    tree: what closes the root, once it is closed. refutations: by number, the phases that each
    needs, and its multipliers.
    """

    def __init__(
        self,
        lp: NodeLP,
        *,
        confirm: Callable[[np.ndarray], bool],
        descend: Callable[[np.ndarray], bool],
        watch: Callable[[Search], None] = lambda _: None,
        begun: int = 0,
        limit: float = math.inf,
    ) -> None:
        self._lp, self._confirm, self._descend = lp, confirm, descend
        self._watch, self._limit = watch, limit
        self._trail: list[Frame] = []
        self._phases: dict[int, int] = {}
        self._clauses, self._record = Clauses(CLAUSES, lp.n), Record(lp.n)
        self._nodes = begun
        self.refutations: dict[int, Lemma] = {}
        self.tree: Subtree | None = None
        #: How far the search is; what is known of it where `run` is interrupted.
        self.state = self._state("open")

    def run(self, deadline: Deadline, page: Page | None = None) -> Search:
        """page: where the search is noted, if anywhere."""
        self.state = self._state(self._end(deadline, page))
        if page is not None and self.state.ended in WHOLE:
            page.keep(self._columns, ended=True)
        return self.state

    def go_on(self, columns: Columns, prove: Proved) -> None:
        """As `FrontierSearch` does; but HiGHS begins anew, so that other neurons may be split."""
        refutations = lemmas_of(columns, self._lp.n, len(self._lp.c_0))
        prove(refutations)
        closed = subtrees_of(columns, refutations)
        self._nodes, tree = counts_of(columns)
        self._record.go_on(columns["record"])
        self.refutations = refutations
        require(list(refutations) == list(range(len(refutations))), "numbers of refutations")
        for number, each in refutations.items():
            require(each.end is None, "an end, which this search does not use")
            self._clauses.learn(each.phases, number)
        for neuron, side, other, value, guess in zip(
            *columns["trail"].T.tolist(), *columns["values"].T.tolist(), strict=True
        ):
            require(neuron not in self._phases and abs(side) == 1, "a phase")
            frame = Frame((neuron, side), None if other < 0 else closed[other], value, guess)
            possible = {*self._phases.items(), (neuron, -side)}
            require(frame.other is None or frame.other[1] <= possible, "what closes a node")
            self._push(frame)
        if tree >= 0:
            self.tree, needed = closed[tree]
            require(not needed, "what closes the root")
        self.state = self._state("open" if self.tree is None else "closed")

    def _columns(self) -> Columns:
        subtrees = Subtrees()
        trail = [(*frame.literal, subtrees.place_of(frame.other)) for frame in self._trail]
        tree = -1 if self.tree is None else subtrees.place(self.tree)
        return {
            "counts": np.array([self._nodes, tree], dtype=np.int64),
            "trail": np.array(trail, dtype=np.int64).reshape(-1, 3),
            "values": np.array([(f.value, f.guess) for f in self._trail]).reshape(-1, 2),
            "record": self._record.numbers.copy(),
            **lemma_columns(self.refutations, self._lp.n, len(self._lp.c_0)),
            **subtrees.columns,
        }

    def _end(self, deadline: Deadline, page: Page | None) -> Ended:
        while self.tree is None:
            if deadline.passed:
                return "time"
            if self._nodes >= self._limit:
                return "domains"
            if len(self.refutations) * self._lp.n > CAPACITY:
                return "memory"
            step: Frame | Closed | None = self._propagate()
            if step is None:
                bound = self._bound(deadline)
                step = self._refute(bound, self._phases)
                if step is None:
                    if self._attacked(bound):
                        return "found"
                    step = self._split(bound, deadline)
                    if step is None:
                        return "precision"
            following = step if isinstance(step, Frame) else self._close(*step)
            if following is None:
                break
            self._push(following)
            self.state = self._state("open")
            if page is not None:
                page.keep(self._columns)
            self._watch(self.state)
        return "closed"

    def _bound(self, deadline: Deadline) -> NodeBound:
        """Of the present node; what its split has gained goes on record."""
        bound = self._lp.bound(self._phases, seconds=deadline.left)
        self._nodes += 1
        last = self._trail[-1] if self._trail else None
        if last is not None and last.guess > 0 and bound.evidence is not None:
            gain = min(bound.evidence.value, self._lp.margin) - last.value
            self._record.note(*last.literal, last.guess, gain)
        return bound

    def _refute(self, bound: NodeBound, phases: dict[int, int]) -> Closed | None:
        """What closes the node with these phases, if its multipliers do."""
        evidence = bound.evidence
        if evidence is None or not evidence.value > self._lp.margin:
            return None
        kept = needed(evidence, phases, self._lp.margin)
        number = len(self.refutations)
        self.refutations[number] = Lemma(kept, evidence)
        self._clauses.learn(kept, number)
        return self._known(number)

    def _known(self, number: int) -> Closed:
        return Leaf(number), frozenset(self.refutations[number].phases.items())

    def _propagate(self) -> Closed | None:
        """Take the phases that follow from clauses; what closes the node, if one does."""
        at = max(0, len(self._trail) - 1)
        while at < len(self._trail):
            literal = self._trail[at].literal
            violated, unit = self._clauses.look(literal)
            if violated is not None:
                return self._known(violated)
            if unit is None:
                at += 1
            else:
                (neuron, side), number = unit
                self._push(Frame((neuron, -side), self._known(number)))
        return None

    def _attacked(self, bound: NodeBound) -> bool:
        """Whether a counterexample is found where the LP's point suggests it."""
        b = bound.vertex.b
        if not np.isfinite(b).all():
            return False
        if bool((self._lp.values(b) <= 0).all()) and self._confirm(b):
            return True
        # After 1, 2, 4, ... nodes: attacks must not cost more than the proof.
        return self._nodes & (self._nodes - 1) == 0 and self._descend(b)

    def _split(self, bound: NodeBound, deadline: Deadline) -> Frame | Closed | None:
        """The phase to go on with, or what closes the node; None where nothing is left to split."""
        free = self._lp.splittable.copy()
        free[list(self._phases)] = False
        if bound.evidence is None:
            return Frame((int(free.argmax()), -1), None) if free.any() else None
        guess, value = guesses(self._lp, bound, free), bound.evidence.value
        if not guess.any():
            return None
        settled: Frame | Closed | None = None

        def trial(neuron: int) -> np.ndarray | None:
            nonlocal settled
            gains = np.zeros(2)
            for side in (-1, 1):
                phases = {**self._phases, neuron: side}
                child = self._lp.bound(phases, seconds=deadline.left, pivots=TRIAL)
                refuted = self._refute(child, phases)
                if refuted is not None:
                    needed = (neuron, side) in refuted[1]
                    settled = Frame((neuron, -side), refuted) if needed else refuted
                    return None
                if child.evidence is not None:
                    gains[int(side > 0)] = max(child.evidence.value - value, 0.0)
                    self._record.note(neuron, side, guess[neuron], gains[int(side > 0)])
            return gains

        chosen = choose(guess, self._record, self._lp.margin - value, trial)
        if chosen is None:
            return settled
        return Frame(chosen, None, value, float(guess[chosen[0]]))

    def _close(self, subtree: Subtree, needed: frozenset[Literal]) -> Frame | None:
        """Go back to the last split of which a side is open, and to that; None if there is none."""
        while self._trail:
            frame = self._pop()
            neuron, side = frame.literal
            if frame.literal not in needed:
                continue
            if frame.other is None:
                return Frame((neuron, -side), (subtree, needed), frame.value, frame.guess)
            subtree, needed = resolved(frame.literal, (subtree, needed), frame.other)
        self.tree = subtree
        return None

    def _push(self, frame: Frame) -> None:
        self._trail.append(frame)
        self._phases[frame.literal[0]] = frame.literal[1]
        self._clauses.hold(frame.literal)

    def _pop(self) -> Frame:
        frame = self._trail.pop()
        del self._phases[frame.literal[0]]
        self._clauses.release(frame.literal)
        return frame

    def _state(self, ended: Ended) -> Search:
        """How far the search is. What is open: the present node, and the sides left for later."""
        if ended == "closed":
            return Search(ended, self._nodes, 0, math.inf, 1.0)
        later = [frame.value for frame in self._trail if frame.other is None]
        closed = sum(
            2.0**-depth for depth, frame in enumerate(self._trail, 1) if frame.other is not None
        )
        return Search(ended, self._nodes, 1 + len(later), min(later, default=-math.inf), closed)
