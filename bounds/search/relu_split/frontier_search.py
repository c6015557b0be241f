"""Many open nodes at a time over the phases of neurons: bound, explain, jump back; or split.

The same tree as `bounds.search.relu_split.search` makes, whose nodes are closed by the phases that
they need, and for the same reasons; but nodes are bounded by slope ascent, many together, where an
LP each is too slow, and those left open again with tighter l and u, where that pays. The newest are
taken first, and of these the worst: that keeps few open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from bounds.deadline import Deadline
from bounds.search.journal import Columns, Page
from bounds.search.relu_split.clauses import Clauses
from bounds.search.relu_split.lemmas import Lemmas
from bounds.search.relu_split.node import Node, columns_of, nodes_of
from bounds.search.relu_split.noted import (
    Proved,
    Subtrees,
    counts_of,
    lemma_columns,
    lemmas_of,
    regions_of,
    require,
    subtrees_of,
)
from bounds.search.relu_split.region import Findings, Lemma, rows_held
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


class FrontierSearch:
    """As `bounds.search.relu_split.search.ReluSearch`, with nodes in batches.

    confirm: whether one of these points (points, *input_shape) is a counterexample. descend:
    whether there is one near such points.
    """

    def __init__(
        self,
        nodes: SlopeNodes,
        *,
        confirm: Callable[[Tensor], bool],
        descend: Callable[[Tensor], bool],
        watch: Callable[[Search], None] = lambda _: None,
        begun: int = 0,
        limit: float = math.inf,
    ) -> None:
        self._nodes, self._confirm, self._descend = nodes, confirm, descend
        self._watch, self._limit = watch, limit
        root = Node(None, (-1, 0), nodes.root, nodes.region, -math.inf)
        self._frontier, self._held = [root], list[Node]()
        self._clauses = Clauses(CLAUSES, nodes.n)
        self._count = self._attacked = begun
        self._lemmas = Lemmas(nodes)
        self.tree: Subtree | None = None
        self.state = self._state("open")

    @property
    def refutations(self) -> dict[int, Lemma]:
        """And the lemmas that they use, by number, each with a larger one than what it uses."""
        return self._lemmas.known

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
        root, whole = self._nodes.root, self._nodes.region
        self._count, self._attacked, tree, following = counts_of(columns)
        known = lemmas_of(columns, self._nodes.n, len(root.weights))
        prove(known)
        self._lemmas.go_on(known, following)
        closed = subtrees_of(columns, known)
        regions = regions_of(columns, known, whole)
        self._frontier = nodes_of(columns, closed, regions, root, whole)
        require((tree < 0) == bool(self._frontier), "a tree that is closed, or nothing open")
        if tree >= 0:
            self.tree, needed = closed[tree]
            require(not needed, "what closes the root")
        for number, each in known.items():
            require(number < following, "a number")
            if each.end is None:
                self._clauses.learn(each.phases, number)
        self.state = self._state("open" if self.tree is None else "closed")

    def _columns(self) -> Columns:
        subtrees = Subtrees()
        tree = -1 if self.tree is None else subtrees.place(self.tree)
        open_ = [node for node in self._frontier if node.open]
        self._lemmas.learn(
            (region.found, region.numbers[region.numbers >= 0].tolist())
            for region in dict.fromkeys(node.region for node in open_)
            if region.found is not None
        )
        holding = self._lemmas.holding
        counts = self._count, self._attacked, tree, self._lemmas.next
        found = columns_of(open_, subtrees, holding)
        found |= lemma_columns(holding, self._nodes.n, len(self._nodes.root.weights))
        return found | subtrees.columns | {"counts": np.array(counts, dtype=np.int64)}

    def _end(self, deadline: Deadline, page: Page | None) -> Ended:
        while self.tree is None:
            if deadline.passed:
                return "time"
            if self._count >= self._limit:
                return "domains"
            held = rows_held(node.region for node in self._frontier)
            held += len(self._frontier) + len(self.refutations)
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
            other = self._known(number)
            node = Node(node, (neuron, -side), node.start, node.region, node.value, other=other)
            self._clauses.hold(node.literal)
            self._held.append(node)
        return node

    def _handle(self, batch: list[Node], deadline: Deadline) -> Ended | None:
        """Bound these nodes, and those left again with tighter l and u; close or split them."""
        self._count += len(batch)
        found = self._bound(batch, deadline, ROOT if batch[0].parent is None else None)
        if self._nodes.tightens:
            for at, node in enumerate(batch):
                if node.open and not deadline.passed:
                    self._tighten(node, found, at, deadline)
            batch = [node for node in batch if node.open]
            if not batch:
                return None
            found = self._bound(batch, deadline)
        left = [at for at, node in enumerate(batch) if node.open]
        if not left:
            return None
        if self._looked(found, left):
            return "found"
        return self._split(batch, found, left, deadline)

    def _bound(
        self, batch: list[Node], deadline: Deadline, iterations: int | None = None
    ) -> Bounded:
        """By slopes, which nodes go on from; those that this refutes are closed."""
        phases = [node.phases for node in batch]
        starts, regions = [node.start for node in batch], [node.region for node in batch]
        found = self._nodes.bound(phases, starts, regions, deadline, iterations)
        closing = []
        for at in (found.value > self._nodes.margin).nonzero().flatten().tolist():
            given = found, at, phases[at], regions[at], self._lemmas.next
            closing.append((batch[at], self._nodes.refutation(*given)))
            self._lemmas.next += 1
        self._close_by(closing)
        for node, slopes, weights in zip(batch, found.slopes, found.weights, strict=True):
            # What is kept of one must not keep those of the whole batch.
            node.start = Start(slopes.clone(), weights.clone())
        return found

    def _tighten(self, node: Node, found: Bounded, at: int, deadline: Deadline) -> None:
        given = found, at, node.phases, node.region, self._lemmas.next
        tightening = self._nodes.tightened(*given, deadline)
        node.region, self._lemmas.next = tightening.region, tightening.next
        if tightening.refutation is not None:
            self._close_by([(node, tightening.refutation)])

    def _close_by(self, closing: Sequence[tuple[Node, Findings]]) -> None:
        """Close nodes by what holds on the network itself, as all that it uses does."""
        self._lemmas.learn([(refutation, [refutation.first]) for _, refutation in closing])
        for node, refutation in closing:
            number = refutation.first
            if not self._lemmas.holds(number):
                # It goes on without lemmas of which one does not hold.
                node.region = self._nodes.region
            elif node.open:
                self._clauses.learn(self.refutations[number].phases, number)
                self._close(node, self._known(number))

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
        self, batch: list[Node], found: Bounded, left: list[int], deadline: Deadline
    ) -> Ended | None:
        chosen = choose(self._nodes, found, left)
        reached, lost = found.value.tolist(), found.loss.sum(1).tolist()
        places: list[tuple[int, int, int]] = []
        for at in left:
            node, neuron = batch[at], chosen.get(at)
            if neuron is None or lost[at] < LITTLE * (self._nodes.margin - reached[at]):
                step = self._finish(node, neuron, deadline)
                if not isinstance(step, int):
                    if step is not None:
                        return step
                    continue
                neuron = step
            places += [(at, neuron, side) for side in (-1, 1)]
        if not places:
            return None
        _, starts, _, _ = found.children(places)
        children = [
            Node(
                batch[at],
                (neuron, side),
                Start(slopes.clone(), weights.clone()),
                batch[at].region,
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

    def _finish(self, node: Node, neuron: int | None, deadline: Deadline) -> Ended | int | None:
        """Close a node, of which splits promise little, by its LP: None; or the neuron to go on
        with; or how the search ends.

        neuron: to go on with where there is no LP.
        """
        found = self._nodes.finish(node.phases, self._lemmas.next, deadline)
        if found is None:
            if deadline.passed:
                return "time"
            return "precision" if neuron is None else neuron
        if found.refutation is not None:
            self._lemmas.next += 1
            self._close_by([(node, found.refutation)])
            if node.closed:
                return None
        if self._confirm(found.x):
            return "found"
        return "precision" if found.neuron is None else found.neuron

    def _known(self, number: int) -> Closed:
        return Leaf(number), frozenset(self.refutations[number].phases.items())

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
