"""What searches one input set, of its parts or of the phases of its ReLUs, once bounds leave it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.certification.attacks import BESIDE, STEPS, attack, restarts
from bounds.certification.decision import Decision
from bounds.certification.relu_splits import Bounding, ReluSplits, bounding_of
from bounds.certification.stopwatch import Stopwatch
from bounds.deadline import Deadline
from bounds.intermediate.forward import pays
from bounds.intermediate.kept import Kept
from bounds.relaxation.relaxation import Relaxation
from bounds.rounding import difference_below
from bounds.search.bounding import Question
from bounds.search.domains import signs_of
from bounds.search.journal import Page
from bounds.search.proof import Branches, Exclusion, Leaf
from bounds.search.root import columns_of, optimised_root, root_of
from bounds.search.search import Attack, BoxSearch, Search
from bounds.search.tree import Tree
from bounds.search.visible import VISIBLE, reserve
from bounds.sets.box import Box, InputSet
from bounds.solution.verdict import proved, trusted
from bounds.solvers.solve import solve

#: Boxes of the search of one input, where nobody has said how long it may take: neither by a
#: timeout nor by asking for the search. Some tens of seconds on networks of some hundred neurons.
UNASKED = 100_000
#: Nodes of the search of one input where nobody has said how long it may take, at most, and times
#: the square of its unstable neurons; and LPs that a node by slopes counts for, whose l and u are
#: tightened.
UNASKED_NODES, UNASKED_WORK, BY_SLOPES = 2_000, 10**8, 20
#: A step of an attack, in passes of one row.
PASSES = 3


def left_of(decision: Decision, disjuncts: Sequence[Sequence[int]]) -> list[int]:
    """The disjuncts that no bound excludes yet, the worst off first."""
    open_ = [k for k, rows in enumerate(disjuncts) if not proved(decision.lower, [rows])]
    return sorted(open_, key=lambda k: max(decision.lower[row] for row in disjuncts[k]))


@dataclass(frozen=True, eq=False, kw_only=True)
class OneInput:
    """One input set, and what is known about it.

    whole: what is asked of it, in float64, less what rows have to exceed. decision: in which all is
    noted. disjuncts, cases: the rows of each, filled up to the longest, and as they were asked.
    excluded: what excludes those that are, for a proof, if `proving`. asked: whether somebody has
    said how long a search may take. confirm: whether one of some points is a counterexample. watch:
    is told how far searches are. clock: what took how long. page: where a search of a kind is
    noted, if anywhere.
    """

    whole: Relaxation
    decision: Decision
    disjuncts: Sequence[Sequence[int]]
    cases: Sequence[Sequence[int]]
    excluded: dict[int, Exclusion]
    proving: bool
    asked: bool
    confirm: Callable[[Tensor], bool]
    watch: Callable[[Search], None]
    clock: Stopwatch
    generator: torch.Generator
    page: Callable[[str], Page | None]

    def split_inputs(self, deadline: Deadline) -> bool:
        """Search the parts of the set, for a proof of each or for a counterexample; whether all are
        proved."""
        decision, whole, open_ = self.decision, self.whole, left_of(self.decision, self.disjuncts)
        rows = torch.tensor([list(each) for each in self.disjuncts]).to(whole.C.device)
        kept = VISIBLE if self.proving else 0.0
        box = Box(whole.input_set.lower, whole.input_set.upper)
        forward = pays(whole.network, box)
        question = Question(whole.network, whole.C[0, rows], whole.d[0, rows], kept, forward)
        random, tree = restarts(whole.network), Tree(len(open_))

        def descend(k: int, part: Box, starts: Tensor) -> bool:
            return self._descended(whole, part, k, starts[0], random, deadline)

        decision.method = "input_split"
        search = BoxSearch(
            question,
            box,
            signs_of(whole.relu_bounds, whole.d.new_zeros(1, 1, dtype=torch.int8)),
            {k: max(decision.lower[row] for row in self.disjuncts[k]) for k in open_},
            attack=Attack(self.confirm, descend, STEPS * PASSES * random),
            watch=self.watch,
            limit=math.inf if self.asked else UNASKED,
            tree=tree,
            page=self.page("boxes"),
        )
        try:
            with self.clock("search"):
                search.run(deadline)
        finally:
            decision.search = search.state
        if search.state.ended != "closed":
            return False
        trees = (Branches(tree, root, forward) for root in range(len(search.roots)))
        self.excluded.update(zip(search.roots, trees, strict=True))
        return True

    def split_relus(self, deadline: Deadline) -> tuple[Relaxation, Sequence[Kept]] | None:
        """Search the phases of ReLUs, for a proof of each or for a counterexample: on the CPU, as
        HiGHS solves LPs there, but for slope ascent.

        Returns the relaxation that its disjuncts were excluded on, and what its l and u are found
        by; None where they are not all excluded.
        """
        decision, whole = self.decision, self.whole.convert(lambda tensor: tensor.cpu())
        decision.method = "relu_split"
        with self.clock("relax"):
            root, stated = self._root(whole, deadline)
        with self.clock("adaptive_slope"):
            best = trusted(solve(root, method="adaptive_slope"))
        if self.proving:
            best = difference_below(best, reserve(root))
        decision.lower[:] = map(max, decision.lower, best[0].tolist())
        if self.page("root") is not None and deadline.passed:
            # Its bounds may be looser than they were, and would not fit what was noted.
            decision.search = Search("time", 0, 1, -math.inf, 0.0)
            return None
        some = left_of(decision, self.disjuncts)
        if self.proving:
            # It is about one relaxation: what was excluded on another is excluded again, but for
            # what a checker's own pass over the whole of the set shows.
            for k in [k for k, how in self.excluded.items() if not isinstance(how, Leaf)]:
                del self.excluded[k]
            some += [k for k in range(len(self.cases)) if k not in some]
        open_ = [k for k in some if k not in self.excluded]

        def descend(k: int, starts: Tensor) -> bool:
            return self._descended(whole, root.input_set, k, starts, BESIDE, deadline)

        bounding = bounding_of(root, deadline)
        splits = ReluSplits(
            root,
            self.confirm,
            descend,
            self.watch,
            len(open_),
            math.inf if self.asked else _unasked(root.unstable[0], bounding),
            bounding,
            self.whole.C.device,
            lambda k: self.page(f"relus.{k}"),
        )
        decision.chosen += f", nodes by {splits.bounding}"
        try:
            with self.clock("search"):
                closed = all(splits.excluded(k, self.cases[k], deadline) for k in open_)
        finally:
            decision.search = splits.state
        if not closed or decision.verdict != "unknown":
            return None
        self.excluded.update(splits.trees)
        return root, stated

    def _root(self, whole: Relaxation, deadline: Deadline) -> tuple[Relaxation, Sequence[Kept]]:
        """As `optimised_root` finds it, or has found it before."""
        page = self.page("root")
        if page is None:
            return optimised_root(whole, deadline, keep=self.proving)
        found: list[tuple[Relaxation, Sequence[Kept]]] = []
        if not page.resume(lambda columns: found.append(root_of(columns, whole, deadline))):
            found.append(optimised_root(whole, deadline))
            page.keep(lambda: columns_of(*found[0]), ended=True)
        return found[0]

    def _descended(
        self,
        whole: Relaxation,
        part: InputSet,
        k: int,
        starts: Tensor,
        random: int,
        deadline: Deadline,
    ) -> bool:
        """Whether there is a counterexample near points (points, *input_shape) of a part of the
        set, or near so many random ones, for a disjunct."""
        at = torch.tensor([list(self.disjuncts[k])]).to(whole.C.device)
        with self.clock("attack"):
            points, values = attack(
                whole.network,
                part,
                whole.C[0, at],
                whole.d[0, at],
                starts.unsqueeze(0),
                random=random,
                generator=self.generator,
                deadline=deadline,
            )
        return float(values) <= 0 and self.confirm(points)


def _unasked(unstable: int, bounding: Bounding) -> int:
    """Nodes that a search may bound that nobody has asked for."""
    lps = min(UNASKED_NODES, UNASKED_WORK // max(1, unstable) ** 2)
    return max(1, lps // BY_SLOPES if bounding == "slopes" else lps)
