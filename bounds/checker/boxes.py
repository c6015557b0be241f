"""Trees that split inputs, and leaves without a split: that no part of a box has an unsafe output.

A node's box is what is left of its parent's after cuts, on one side of x_j = t; both sides together
are all of it, wherever t lies. Where a row is at least ⟨c, x⟩ + k on a box [l, u], and that is at
least b there, a point of the box at which the row is at most 0 has, for every j with c_j > 0,

    c_j (x_j − l_j)  ≤  −k − Σ_i min(c_i l_i, c_i u_i)  ≤  −b,

so that x_j ≤ l_j − b / c_j; likewise x_j ≥ u_j − b / c_j with c_j < 0. All rows of the disjunct are
at most 0 at what it is about, so each of them cuts, and b > 0 leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from bounds.checker.batch import Batch
from bounds.checker.floats import down, up
from bounds.checker.forest import BACKWARD, FORWARD, Cases, Forest
from bounds.checker.forward import carried
from bounds.checker.passes import Passes
from bounds.solution.proof_file import ADAPTIVE, CUT, FIXED, SPLIT


@dataclass(frozen=True, eq=False)
class Open:
    """Nodes, their boxes, and the signs of ReLU inputs that hold on them."""

    node: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    signs: np.ndarray

    def __len__(self) -> int:
        return len(self.node)

    def take(self, chosen: np.ndarray | slice) -> Open:
        return Open(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def distinct(self, how: np.ndarray) -> tuple[Open, np.ndarray]:
        """Nodes one for each box, signs and way of bounding, (nodes,), and for each node here which
        of them has its own."""
        parts = self.lower, self.upper, self.signs, how
        lines = [np.ascontiguousarray(part).view(np.uint8).reshape(len(self), -1) for part in parts]
        whole = np.concatenate(lines, 1)
        keys = whole.view(np.dtype((np.void, whole.shape[1]))).ravel()
        _, first, of = np.unique(keys, return_index=True, return_inverse=True)
        return self.take(first), of

    @staticmethod
    def join(parts: list[Open]) -> Open:
        return Open(
            *(np.concatenate([getattr(p, each.name) for p in parts]) for each in fields(Open))
        )


class BoxTrees:
    """The trees of a forest whose nodes are boxes; `prove` gives the leaves that are not proved.

    evaluated: how many nodes were bounded.
    """

    def __init__(self, passes: Passes, cases: Cases, forest: Forest) -> None:
        self._passes, self._cases, self._forest = passes, cases, forest
        self._case = cases.of_disjunct
        self.evaluated = 0

    def prove(
        self, disjuncts: np.ndarray, tell: Callable[[int], None], *, every: bool = False
    ) -> Open:
        """Walks the trees of these disjuncts; tell: of how many nodes are done. every: gives all
        leaves, as if none were proved."""
        together = self._passes.boxes
        failed = [self._roots(disjuncts[:0])]
        for first in range(0, len(disjuncts), together):
            pending = [self._roots(disjuncts[first : first + together])]
            while pending:
                part = pending.pop()
                while pending and len(part) < together:
                    part = Open.join([pending.pop(), part])
                if len(part) > together:
                    pending.append(part.take(slice(None, -together)))
                    part = part.take(slice(-together, None))
                children, unproved = self._step(part, every)
                failed.append(unproved)
                if len(children):
                    pending.append(children)
                tell(self.evaluated)
        return Open.join(failed)

    def _roots(self, disjuncts: np.ndarray) -> Open:
        case = self._case[disjuncts]
        return Open(
            self._forest.roots[disjuncts],
            self._cases.lower[case],
            self._cases.upper[case],
            np.zeros((len(disjuncts), self._passes.neurons), dtype=np.int8),
        )

    def _step(self, part: Open, every: bool) -> tuple[Open, Open]:
        """The children of these nodes, and leaves that are not proved."""
        self.evaluated += len(part)
        kind = self._forest.kind[part.node]
        # The roots of all disjuncts of a case are one box.
        boxes, of = part.distinct(self._forest.how[part.node])
        batch = self._batch(boxes, self._forest.how[boxes.node])
        proved = self._by_row(batch, of, part, kind)
        others = np.flatnonzero((kind == SPLIT) | (kind == CUT))
        lower, upper, empty = self._cut(batch, of, part, others)
        proved[others[empty]] = True
        left = others[~empty]
        own = of[left]
        signs = np.where(batch.usable[own, None], batch.signs[own], part.signs[left])
        cut = Open(part.node[left], lower[~empty], upper[~empty], signs)
        children = self._children(cut.take(kind[left] == SPLIT))
        return children, part.take((every | ~proved) & (kind != SPLIT))

    def _batch(self, boxes: Open, how: np.ndarray) -> Batch:
        at = self._passes, boxes.lower, boxes.upper, boxes.signs
        known = [carried(*at, how > BACKWARD)] if (how > BACKWARD).any() else []
        return Batch(*at, alone=how == FORWARD, known=known)

    def _by_row(self, batch: Batch, of: np.ndarray, part: Open, kind: np.ndarray) -> np.ndarray:
        """Which of the nodes, of these boxes of the batch, are leaves whose row is proved
        positive."""
        proved = np.zeros(len(part), dtype=bool)
        leaves = np.flatnonzero((kind == FIXED) | (kind == ADAPTIVE))
        if len(leaves):
            node = part.node[leaves]
            row = self._cases.rows[self._forest.disjunct[node]] + self._forest.which[node]
            C, d = self._cases.C[row, None], self._cases.d[row, None]
            forms = batch.rows(C, d, of[leaves], kind[leaves] == ADAPTIVE)
            proved[leaves] = forms.least[:, 0] > 0
        return proved

    def _cut(
        self, batch: Batch, of: np.ndarray, part: Open, nodes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What all rows by both slopes leave of these nodes' boxes, and whether that is nothing."""
        lower, upper = part.lower[nodes], part.upper[nodes]
        empty = np.zeros(len(nodes), dtype=bool)
        if not len(nodes):
            return lower, upper, empty
        disjunct = self._forest.disjunct[part.node[nodes]]
        first, counts = self._cases.rows[:-1][disjunct], np.diff(self._cases.rows)[disjunct]
        row = first[:, None] + np.minimum(np.arange(counts.max()), counts[:, None] - 1)
        C, d = self._cases.C[row], self._cases.d[row]
        ends = lower, upper
        for adaptive in (False, True):
            forms = batch.rows(C, d, of[nodes], np.full(len(nodes), adaptive))
            empty |= (forms.least > 0).any(1)
            for line in range(row.shape[1]):
                c = forms.c[:, line]
                with np.errstate(all="ignore"):
                    step = up(-forms.least[:, line, None] / np.abs(c))
                    far = up(ends[0] + step)
                    near = down(ends[1] - step)
                # What is no number, such as 0 / 0, cuts nothing.
                upper = np.where((c > 0) & (far < upper), far, upper)
                lower = np.where((c < 0) & (near > lower), near, lower)
        return lower, upper, empty | (lower > upper).any(1)

    def _children(self, cut: Open) -> Open:
        forest = self._forest
        at, place = forest.at[cut.node, None], forest.place[cut.node, None]
        below, above = cut.upper.copy(), cut.lower.copy()
        smaller = np.minimum(np.take_along_axis(cut.upper, at, 1), place)
        larger = np.maximum(np.take_along_axis(cut.lower, at, 1), place)
        np.put_along_axis(below, at, smaller, 1)
        np.put_along_axis(above, at, larger, 1)
        first = forest.first[cut.node]
        both = Open.join(
            [
                Open(first, cut.lower, below, cut.signs),
                Open(first + 1, above, cut.upper, cut.signs),
            ]
        )
        # Of no points, everything is true.
        return both.take(np.asarray((both.lower <= both.upper).all(1)))
