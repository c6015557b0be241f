"""Trees that split neurons, and single leaves with multipliers: that no input has an unsafe output.

Every input has ẑ ≤ 0 or ẑ ≥ 0 at a split, so that it goes to a leaf all of whose path it satisfies.
A refutation is about all inputs that satisfy its phases; where these are some of the path's, it is
about those of the leaf. With l ≤ ẑ ≤ u on the case and the phases, a neuron's (ẑ, z) is on the
segment from (l, max(l, 0)) to (u, max(u, 0)) or, where l < 0 < u, in the triangle of these and
(0, 0): what c z − ν ẑ is at least, is so at one of the vertices, for every ν.

That holds within any l and u. So a refutation may use bounds of ẑ that hold only where all rows are
at most 0, too, as what it says is that this is nowhere; and such a bound is proved by the same
inequality, on the part that it excludes (`bounds.checker.uses`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bounds.checker.batch import Batch
from bounds.checker.evidence import Neurons
from bounds.checker.forest import Cases, Forest
from bounds.checker.passes import Passes
from bounds.checker.refutations import Refutations
from bounds.checker.uses import require_leaves_refute
from bounds.solution.proof_file import (
    BACKWARD_ADAPTIVE,
    BACKWARD_FIXED,
    INTERVAL,
    MULTIPLIERS,
    SPLIT,
    STATED,
)

#: Whether a refutation holds, given whether it does so in float64, its disjunct and number, and the
#: l and u of its case.
Again = Callable[[bool, int, int, list[Neurons]], bool]
#: Of backward passes, by the recipe.
SLOPES = {INTERVAL: None, BACKWARD_FIXED: "fixed", BACKWARD_ADAPTIVE: "adaptive"}


class ReluTrees:
    """The trees of a forest whose leaves have multipliers; `prove` gives those leaves that are not
    proved.

    Raises Rejected where a leaf names a refutation that is a bound.
    """

    def __init__(
        self,
        passes: Passes,
        cases: Cases,
        forest: Forest,
        refutations: Refutations,
        *,
        inputs: int,
    ) -> None:
        self._passes, self._cases, self._forest = passes, cases, forest
        self._refutations, self._inputs = refutations, inputs
        self._ends = np.cumsum(passes.sizes)[:-1]
        require_leaves_refute(forest, refutations.ends, refutations.uses)

    def prove(self, disjuncts: np.ndarray, tell: Callable[[int], None], again: Again) -> list[int]:
        """The nodes of leaves that are not proved; tell: of how many are done. again: what else is
        asked of refutations."""
        failed: list[int] = []
        own, done = self._cases.of_disjunct[disjuncts], 0
        sizes = np.bincount(self._forest.disjunct, minlength=len(self._forest.roots))
        for batch, cases in self._batches(np.unique(own)):
            for at, case in enumerate(cases.tolist()):
                neurons = [Neurons(f.lower[at], f.upper[at]) for f in batch.faces]
                for disjunct in disjuncts[own == case].tolist():
                    holds = self._refuted(batch, at, disjunct)
                    base = int(self._refutations.ends[disjunct])
                    for which in range(len(holds) - 1):
                        # What it uses comes before it, and is decided.
                        used = self._refutations.uses.of[base + which] - base
                        holds[which] = holds[used].all() and again(
                            bool(holds[which]), disjunct, base + which, neurons
                        )
                    failed += [n for n, which in self._leaves(disjunct) if not holds[which]]
                    done += int(sizes[disjunct])
                    tell(done)
        return failed

    def _batches(self, cases: np.ndarray) -> Iterator[tuple[Batch, np.ndarray]]:
        """l and u of all cases, each by its recipe: of some together, and which these are."""
        for recipe in range(STATED + 1):
            own = cases[self._refutations.recipe[cases] == recipe]
            together = 1 if recipe == STATED else self._passes.boxes
            for first in range(0, len(own), together):
                part = own[first : first + together]
                nothing = np.zeros((len(part), self._passes.neurons), dtype=np.int8)
                at = self._passes, self._cases.lower[part], self._cases.upper[part], nothing
                if recipe == STATED:
                    known = [Batch(*at, slope=slope) for slope in ("fixed", "adaptive")]
                    stated = self._refutations.stated[int(part[0])]
                    yield Batch(*at, slope=None, known=known, stated=stated), part
                else:
                    yield Batch(*at, slope=SLOPES[recipe]), part

    def _leaves(self, disjunct: int) -> Iterator[tuple[int, int]]:
        """Each leaf with its refutation, or −1 where that needs phases that are not on its path."""
        forest, literals = self._forest, self._refutations.literals
        base = int(self._refutations.ends[disjunct])
        count = int(self._refutations.ends[disjunct + 1]) - base
        pending: list[tuple[int, frozenset[int]]] = [(int(forest.roots[disjunct]), frozenset())]
        while pending:
            node, path = pending.pop()
            if forest.kind[node] == SPLIT:
                dead = 2 * (int(forest.at[node]) - self._inputs)
                child = int(forest.first[node])
                pending += [(child, path | {dead}), (child + 1, path | {dead + 1})]
                continue
            which = int(forest.which[node]) if forest.kind[node] == MULTIPLIERS else count
            if which < count and path.issuperset(literals[base + which].tolist()):
                yield node, which
            else:
                yield node, -1

    def _refuted(self, batch: Batch, at: int, disjunct: int) -> np.ndarray:
        """Whether each of a disjunct's refutations holds if all that it uses does, and false after
        the last of them."""
        ends = self._refutations.ends
        numbers = np.arange(ends[disjunct], ends[disjunct + 1])
        holds = np.zeros(len(numbers) + 1, dtype=bool)
        for first in range(0, len(numbers), self._passes.rows):
            part = numbers[first : first + self._passes.rows]
            holds[first : first + len(part)] = self._values(batch, at, disjunct, part) > 0
        return holds

    def _values(self, batch: Batch, at: int, disjunct: int, numbers: np.ndarray) -> np.ndarray:
        """Lower bounds of the mixtures of rows where each refutation is about; infinite where
        nothing is there."""
        refutations, cases = self._refutations, self._cases
        count, neurons = len(numbers), self._passes.neurons
        listed = refutations.listed[cases.of_disjunct[disjunct]]
        nothing = np.zeros(0)
        lower = np.concatenate([nothing, *(face.lower[at] for face in batch.faces)])
        upper = np.concatenate([nothing, *(face.upper[at] for face in batch.faces)])
        lower, upper = np.tile(lower, (count, 1)), np.tile(upper, (count, 1))
        nu = np.zeros((count, neurons))
        for line, number in enumerate(numbers):
            nu[line, listed] = refutations.multipliers[number]
            refutations.narrow(number, lower[line], upper[line])
        rows = slice(int(cases.rows[disjunct]), int(cases.rows[disjunct + 1]))
        boxes = np.full(count, at)
        split = [np.split(each, self._ends, 1) for each in (lower, upper, nu)]
        given = np.broadcast_to(listed, nu.shape)
        rule = batch.multipliers(
            list(zip(*split[:2], strict=True)), split[2], np.split(given, self._ends, 1)
        )
        least = batch.mixtures(
            np.broadcast_to(cases.C[rows], (count, *cases.C[rows].shape)),
            np.broadcast_to(cases.d[rows], (count, rows.stop - rows.start)),
            np.stack([refutations.weights[number] for number in numbers]),
            boxes,
            rule,
        )
        return np.where((lower > upper).any(1) & batch.usable[at], np.inf, least)
