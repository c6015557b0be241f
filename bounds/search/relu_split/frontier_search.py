"""Many open nodes at a time over the phases of neurons: bound, explain, jump back; or split.

The same tree as `bounds.search.relu_split.search` makes, whose nodes are closed by the phases that
they need, and for the same reasons; but nodes are bounded by slope ascent, hundreds together, where
an LP each is too slow. The newest are taken first, and of these the worst: that keeps few open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from bounds.deadline import Deadline
from bounds.search.journal import Columns, Page
from bounds.search.relu_split.bounding import Evidence, needed
from bounds.search.relu_split.clauses import Clauses
from bounds.search.relu_split.node import Node, columns_of, nodes_of
from bounds.search.relu_split.noted import (
    Proved,
    Subtrees,
    counts_of,
    refutation_columns,
    refutations_of,
    require,
    subtrees_of,
)
from bounds.search.relu_split.slope_bounding import ROOT, Bounded, SlopeNodes, Start
from bounds.search.relu_split.slope_branching import choose
from bounds.search.relu_split.tree import Closed, Leaf, Subtree, resolved
from bounds.search.search import WHOLE, Ended, Search

#: Clauses that are watched, and numbers in the multipliers of all refutations.
CLAUSES, CAPACITY = 2000, 2**27
#: Points of a batch that are looked at closely, where they seem to be counterexamples.
SUSPECTS = 4
#: How many open nodes are looked at for every one that is bounded, to say how far the search is.
LOOKED = 4
#: Where the triangles cost less than this share of what is missing, splits promise little.
LITTLE = 1e-3

#: Whether each of these refutations holds on the network itself.
Confirmed = Callable[[Sequence[tuple[dict[int, int], Evidence]]], Sequence[bool]]


class FrontierSearch:
    """As `bounds.search.relu_split.search.ReluSearch`, with nodes in batches.

    confirm: whether one of these points (points, *input_shape) is a counterexample. descend:
    whether there is one near such points. holds: whether refutations hold on the network itself,
    rounding included; nothing else closes a node.
    """

    def __init__(
        self,
        nodes: SlopeNodes,
        *,
        confirm: Callable[[Tensor], bool],
        descend: Callable[[Tensor], bool],
        holds: Confirmed,
        watch: Callable[[Search], None] = lambda _: None,
        begun: int = 0,
        limit: float = math.inf,
    ) -> None:
        self._nodes, self._confirm, self._descend, self._holds = nodes, confirm, descend, holds
        self._watch, self._limit = watch, limit
        root = Node(None, (-1, 0), nodes.root, -math.inf)
        self._frontier, self._held = [root], list[Node]()
        self._clauses = Clauses(CLAUSES, nodes.n)
        self._count = self._attacked = begun
        self.refutations: list[tuple[dict[int, int], Evidence]] = []
        self.tree: Subtree | None = None
        self.state = self._state("open")

    def run(self, deadline: Deadline, page: Page | None = None) -> Search:
        """page: where the search is noted, if anywhere."""
        self.state = self._state(self._end(deadline, page))
        if page is not None and self.state.ended in WHOLE:
            page.keep(self._columns, ended=True)
        return self.state

    def go_on(self, columns: Columns, prove: Proved) -> None:
        """From what is noted there. prove: refuses refutations of which one does not hold.

        Raises ValueError for what cannot be so.
        """
        root = self._nodes.root
        refutations = refutations_of(columns, self._nodes.n, len(root.weights))
        prove(refutations)
        closed = subtrees_of(columns, refutations)
        self._count, self._attacked, tree = counts_of(columns)
        self._frontier = nodes_of(columns, closed, root)
        require((tree < 0) == bool(self._frontier), "a tree that is closed, or nothing open")
        if tree >= 0:
            self.tree, needed = closed[tree]
            require(not needed, "what closes the root")
        self.refutations = refutations
        for phases, _ in refutations:
            self._clauses.learn(phases)
        self.state = self._state("open" if self.tree is None else "closed")

    def _columns(self) -> Columns:
        subtrees = Subtrees()
        tree = -1 if self.tree is None else subtrees.place(self.tree)
        found = columns_of([node for node in self._frontier if node.open], subtrees)
        counts = np.array([self._count, self._attacked, tree], dtype=np.int64)
        rows = len(self._nodes.root.weights)
        found |= refutation_columns(self.refutations, self._nodes.n, rows)
        return found | subtrees.columns | {"counts": counts}

    def _end(self, deadline: Deadline, page: Page | None) -> Ended:
        while self.tree is None:
            if deadline.passed:
                return "time"
            if self._count >= self._limit:
                return "domains"
            held = len(self._frontier) + len(self.refutations)
            if held * self._nodes.n > CAPACITY:
                return "memory"
            batch = self._pop()
            if not batch:
                continue
            ended = self._handle(batch, deadline)
            if ended is not None:
                return ended
            if self.tree is None:
                # To look at all open nodes must not cost more than to bound some.
                if self._count - self.state.domains >= len(self._frontier) / LOOKED:
                    self.state = self._state("open")
                if page is not None:
                    page.keep(self._columns)
                self._watch(self.state)
        return "closed"

    def _pop(self) -> list[Node]:
        """The newest open nodes, with the phases that follow from clauses."""
        batch: list[Node] = []
        most = min(self._nodes.batch, max(1, int(min(self._limit - self._count, 2**30))))
        while self._frontier and len(batch) < most:
            node = self._frontier.pop()
            if node.open:
                found = self._propagate(node)
                if found is not None:
                    batch.append(found)
        # What clauses have closed may be above others.
        return [node for node in batch if node.open]

    def _propagate(self, node: Node) -> Node | None:
        """Take the phases that follow from clauses; None where one closes the node."""
        path = node.path
        common = 0
        while common < min(len(path), len(self._held)) and path[common] is self._held[common]:
            common += 1
        while len(self._held) > common:
            self._clauses.release(self._held.pop().literal)
        for each in path[common:]:
            self._clauses.hold(each.literal)
            self._held.append(each)
        at = max(0, len(path) - 1)
        while at < len(self._held):
            literal = self._held[at].literal
            violated, unit = self._clauses.look(literal)
            if violated is not None:
                self._close(self._held[-1], self._known(violated))
                return None
            if unit is None:
                at += 1
                continue
            (neuron, side), number = unit
            node = Node(node, (neuron, -side), node.start, node.value, other=self._known(number))
            self._clauses.hold(node.literal)
            self._held.append(node)
        return node

    def _handle(self, batch: list[Node], deadline: Deadline) -> Ended | None:
        """Bound these nodes, close or split them."""
        phases = [node.phases for node in batch]
        first = batch[0].parent is None
        found = self._nodes.bound(
            phases, [node.start for node in batch], deadline, *([ROOT] if first else [])
        )
        self._count += len(batch)
        closing = [
            (at, (needed(one, phases[at], self._nodes.margin), one))
            for at, one in enumerate(found.evidence)
            if one.value > self._nodes.margin
        ]
        proved = self._holds([refutation for _, refutation in closing]) if closing else []
        for (at, refutation), holds in zip(closing, proved, strict=True):
            if holds and batch[at].open:
                self._close(batch[at], self._learn(refutation))
        left = [at for at, node in enumerate(batch) if node.open]
        if not left:
            return None
        if self._looked(found, left):
            return "found"
        return self._split(batch, phases, found, left, deadline)

    def _looked(self, found: Bounded, left: list[int]) -> bool:
        """Whether a counterexample is found where the bounds of open nodes are attained."""
        largest = found.values[left].amax(1)
        order = largest.argsort()[:SUSPECTS].tolist()
        suspects = [left[k] for k in order if float(largest[k]) <= 0]
        if suspects and self._confirm(found.x[suspects]):
            return True
        # Whenever their number has doubled: attacks must not cost more than the proof.
        if self._count < 2 * self._attacked:
            return False
        self._attacked = self._count
        best = left[order[0]]
        return self._descend(found.x[best : best + 1])

    def _split(
        self,
        batch: list[Node],
        phases: list[dict[int, int]],
        found: Bounded,
        left: list[int],
        deadline: Deadline,
    ) -> Ended | None:
        chosen = choose(self._nodes, phases, found, left)
        reached, lost = found.value.tolist(), found.loss.sum(1).tolist()
        places: list[tuple[int, int, int]] = []
        for at in left:
            node, neuron = batch[at], chosen.get(at)
            if neuron is None or lost[at] < LITTLE * (self._nodes.margin - reached[at]):
                step = self._finish(node, phases[at], neuron, deadline)
                if not isinstance(step, int):
                    if step is not None:
                        return step
                    continue
                neuron = step
            places += [(at, neuron, side) for side in (-1, 1)]
        if not places:
            return None
        _, starts = found.children(places)
        children = [
            # What is kept of one must not keep those of the whole batch.
            Node(
                batch[at],
                (neuron, side),
                Start(slopes.clone(), weights.clone()),
                max(batch[at].value, reached[at]),
            )
            for (at, neuron, side), slopes, weights in zip(
                places, starts.slopes, starts.weights, strict=True
            )
        ]
        for one, two in zip(children[::2], children[1::2], strict=True):
            one.sibling, two.sibling = two, one
        # The worst last: they are taken first.
        self._frontier += sorted(children, key=lambda node: -node.value)
        return None

    def _finish(
        self, node: Node, phases: dict[int, int], neuron: int | None, deadline: Deadline
    ) -> Ended | int | None:
        """Close a node, of which splits promise little, by its LP: None; or the neuron to go on
        with; or how the search ends.

        neuron: to go on with where there is no LP.
        """
        found = self._nodes.finish(phases, deadline)
        if found is None:
            return "precision" if neuron is None else neuron
        evidence = found.evidence
        if evidence.value > 0:
            refutation = needed(evidence, phases, evidence.value / 2), evidence
            if self._holds([refutation])[0]:
                self._close(node, self._learn(refutation))
                return None
        if self._confirm(found.x):
            return "found"
        return "precision" if found.neuron is None else found.neuron

    def _learn(self, refutation: tuple[dict[int, int], Evidence]) -> Closed:
        self.refutations.append(refutation)
        return self._known(self._clauses.learn(refutation[0]))

    def _known(self, number: int) -> Closed:
        return Leaf(number), frozenset(self.refutations[number][0].items())

    def _close(self, node: Node, closed: Closed) -> None:
        """Close a node, and those above that this closes, too."""
        while node.parent is not None:
            node.closed = True
            if node.literal in closed[1]:
                if node.other is None:
                    assert node.sibling is not None
                    node.sibling.other = closed
                    return
                closed = resolved(node.literal, closed, node.other)
            node = node.parent
        node.closed = True
        self.tree = closed[0]

    def _state(self, ended: Ended) -> Search:
        """How far the search is."""
        if ended == "closed":
            return Search(ended, self._count, 0, math.inf, 1.0)
        left = self._frontier = [node for node in self._frontier if node.open]
        worst = min((node.value for node in left), default=-math.inf)
        closed = 1 - math.fsum(0.5**node.depth for node in left)
        return Search(ended, self._count, len(left), worst, closed)
