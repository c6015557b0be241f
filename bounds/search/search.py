"""Branch and bound over boxes of inputs: bound, close, cut, split, until nothing is open.

Complete for sets of few dimensions: bounds get tighter as boxes get smaller. All disjuncts have a
tree each, whose boxes share batches. What becomes of a box depends on the question and the seed of
the attack alone; the clock only says when all of it ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.network.memory import pass_numbers
from bounds.search.bounding import BoxBounds, Question, bound
from bounds.search.branching import coordinates, halves
from bounds.search.clipping import clip
from bounds.search.domains import Domains, roots
from bounds.search.frontier import Frontier
from bounds.search.journal import Columns, Page
from bounds.search.noted import columns_of, go_on
from bounds.search.tree import CUT, Tree
from bounds.sets.box import Box

#: Boxes that are bounded together: more are no faster; as many as make about so many numbers.
BATCH, NUMBERS = 512, 2**24
#: What open boxes may take, in bytes.
CAPACITY = 2**30
#: The share of the work on bounds that attacks may be, in passes of one row through the network;
#: and what a box costs besides those of its l and u.
ATTACKS, BOX = 0.2, 40
#: Points of a batch that are looked at closely, where they seem to be counterexamples; and in how
#: many batches they may turn out not to be any: rows that are 0 there exclude nothing, ever.
SUSPECTS, REFUSED = 4, 16

#: "closed": nothing is open, every disjunct is excluded. "found": a counterexample was. "time",
#: "memory", "domains": out of these. "refused": there are points where all rows of a disjunct seem
#: to be at most 0, and none is a counterexample. "precision": a box that is not excluded has no
#: number between its ends, or a node no neuron to split, or too little to go by.
Ended = Literal["open", "closed", "found", "time", "memory", "domains", "refused", "precision"]

#: How a search ends between batches, of which nothing is left undone then.
WHOLE: tuple[Ended, ...] = ("closed", "time", "memory", "domains")


@dataclass(frozen=True)
class Search:
    """How a search ended, or how far it is ("open").

    domains: how many boxes or nodes were bounded. open: how many are left. worst: the smallest
    lower bound that is known of one, of its disjunct's best row, or best sum of rows; infinite
    where none is left. closed: the share of all trees that is closed, as if both sides of a split
    were half of the work; from it the time that is left may be guessed (Knuth 1975).
    """

    ended: Ended
    domains: int
    open: int
    worst: float
    closed: float


@dataclass(frozen=True)
class Attack:
    """How counterexamples are looked for.

    confirm: whether one of these points (points, *input_shape) is one; all rows of a disjunct seem
    to be at most 0 there. descend: given a disjunct, a box (1, *input_shape) and points of it to
    start from, whether there is one nearby. passes: what that costs, in passes of one row.
    """

    confirm: Callable[[Tensor], bool]
    descend: Callable[[int, Box, Tensor], bool]
    passes: int


class BoxSearch:
    """Whether any disjunct of a question is met on a box; `run` finds out.

    box: of one input, (1, *input_shape), in float64. signs: what is known of ReLU inputs on it,
    (1, neurons). open: the disjuncts that are to be excluded, each with the best lower bound that
    is known of it. watch: is told how far the search is after every batch. tree: is told what
    becomes of every box. capacity: of open boxes, in bytes. limit: boxes that may be bounded. page:
    where it is noted, and gone on from, if there is one.

    roots: the disjunct of each root.
    """

    def __init__(
        self,
        question: Question,
        box: Box,
        signs: Tensor,
        open: dict[int, float],
        *,
        attack: Attack,
        watch: Callable[[Search], None] = lambda _: None,
        tree: Tree | None = None,
        capacity: int = CAPACITY,
        limit: float = math.inf,
        page: Page | None = None,
    ) -> None:
        self._question, self._attack, self._watch, self._page = question, attack, watch, page
        self.roots = list(open)
        self._tree = Tree(len(open)) if tree is None else tree
        self._frontier, self._limit = Frontier(capacity), limit
        self._frontier.push(roots(box, signs, list(open), list(open.values())))
        self._batch = max(1, min(BATCH, NUMBERS // pass_numbers(question.network)))
        self._boxes, self._work, self._attacks, self._refused = 0, 0, 0, 0
        if page is not None:
            page.resume(self._go_on)
        #: How far the search is; what is known of it where `run` is interrupted.
        self.state = self._state("open")

    def run(self, deadline: Deadline) -> Search:
        self.state = self._end(deadline)
        # Elsewhere boxes are cut that are not split.
        if self._page is not None and self.state.ended in WHOLE:
            self._page.keep(self._columns, ended=True)
        return self.state

    def _end(self, deadline: Deadline) -> Search:
        while len(self._frontier):
            if deadline.passed:
                return self._state("time")
            if self._boxes >= self._limit:
                return self._state("domains")
            before = list(self._frontier.parts)
            domains = self._frontier.pop(self._batch)
            found = bound(self._question, domains, deadline)
            if deadline.noticed:
                # What such bounds close, cut and split, others that hold too need not.
                self._frontier.restore(before)
                return self._state("time")
            self._tree.bound_forward(domains.node[found.forward])
            self._boxes += len(domains)
            self._work += BOX * len(domains) + int(found.passes.sum())
            domains, found = self._cut(*self._close(domains, found))
            if len(domains):
                if self._attacked(domains, found):
                    return self._state("found", domains)
                if self._refused > REFUSED:
                    return self._state("refused", domains)
                coordinate, place = coordinates(domains, found.steepest)
                if bool(place.isnan().any()):
                    return self._state("precision", domains)
                first = self._tree.split(domains.node, coordinate, place)
                self._frontier.push(halves(domains, coordinate, place, first))
                if self._frontier.full:
                    return self._state("memory")
            self.state = self._state("open")
            if self._page is not None:
                self._page.keep(self._columns)
            self._watch(self.state)
        return self._state("closed")

    def _close(self, domains: Domains, found: BoxBounds) -> tuple[Domains, BoxBounds]:
        """Close the boxes on which a row is proved positive; what is left."""
        closed = found.best > 0
        self._tree.close(domains.node[closed], found.top[closed], self._question.rows)
        domains = replace(domains, worst=found.best, signs=found.signs)
        return domains.take(~closed), found.take(~closed)

    def _cut(self, domains: Domains, found: BoxBounds) -> tuple[Domains, BoxBounds]:
        """Cut each box by its rows; those that something is left of."""
        lower, upper = clip(domains.lower, domains.upper, found.proof, found.coefficients)
        empty = (lower > upper).flatten(1).any(1)
        nodes = domains.node[empty]
        self._tree.close(nodes, torch.full_like(nodes, CUT), self._question.rows)
        domains = replace(domains, lower=lower, upper=upper)
        return domains.take(~empty), found.take(~empty)

    def _attacked(self, domains: Domains, found: BoxBounds) -> bool:
        """Whether a counterexample is among the points of these boxes, or close to the best."""
        largest = found.values.amax(2).nan_to_num(torch.inf)
        order = largest.flatten().argsort(stable=True)[:SUSPECTS]
        suspects = order[largest.flatten()[order] <= 0]
        if len(suspects):
            if self._attack.confirm(found.points.flatten(0, 1)[suspects]):
                return True
            self._refused += 1
        elif self._attack.passes * (self._attacks + 1) > ATTACKS * self._work:
            return False
        self._attacks += 1
        best = int(order[0]) // largest.shape[1]
        one = domains.take(slice(best, best + 1))
        starts = one.box.project(found.points[best : best + 1])
        return self._attack.descend(int(one.disjunct), one.box, starts)

    def _columns(self) -> Columns:
        """All that a search goes on from."""
        counts = self._boxes, self._work, self._attacks, self._refused
        noted = {"roots": self.roots, "counts": counts}
        arrays = {name: np.array(numbers, dtype=np.int64) for name, numbers in noted.items()}
        return arrays | columns_of(self._frontier, self._tree)

    def _go_on(self, columns: Columns) -> None:
        """From there, if all that is open now was so then.

        Raises ValueError for what cannot be so.
        """
        disjuncts = columns["roots"].tolist()
        if set(self.roots) <= set(disjuncts):
            go_on(columns, len(disjuncts), self._frontier, self._tree)
            self.roots = disjuncts
            self._boxes, self._work, self._attacks, self._refused = columns["counts"].tolist()

    def _state(self, ended: Ended, unsplit: Domains | None = None) -> Search:
        """How far the search is; unsplit: open boxes that are in no frontier."""
        if unsplit is not None:
            self._frontier.push(unsplit)
        left = self._frontier
        return Search(ended, self._boxes, len(left), left.worst, max(0.0, 1.0 - left.share))
