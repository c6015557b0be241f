"""The search of one input's set by the phases of its ReLUs, one disjunct after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.relaxation.relaxation import Relaxation
from bounds.search.relu_split.bounding import NodeLP
from bounds.search.relu_split.search import ReluSearch
from bounds.search.relu_split.soundness import refuted
from bounds.search.relu_split.tree import recorded, used
from bounds.search.relu_tree import Refutation, ReluTree
from bounds.search.search import Search
from bounds.solvers.interior_point.condense import CondensedLP, condense


@dataclass(eq=False)
class ReluSplits:
    """relaxation: of one input, in float64, with all rows and what they have to exceed taken off.
    confirm: whether one of some points (points, *input_shape) is a counterexample. descend: given a
    disjunct and points to start from, whether there is one nearby. watch: is told how far the
    searches are. disjuncts: how many there are to exclude. limit: LPs that may be solved.

    trees: of each disjunct that is excluded. state: how far all searches are.
    """

    relaxation: Relaxation
    confirm: Callable[[Tensor], bool]
    descend: Callable[[int, Tensor], bool]
    watch: Callable[[Search], None]
    disjuncts: int
    limit: float
    trees: dict[int, ReluTree] = field(default_factory=dict)
    state: Search = field(default_factory=lambda: Search("open", 0, 0, -math.inf, 0.0))

    def excluded(self, k: int, rows: Sequence[int], deadline: Deadline) -> bool:
        """Whether disjunct k, of these rows, is met nowhere; `state` says why not."""
        before = self.state.domains
        share, done = 1 / self.disjuncts, len(self.trees) / self.disjuncts
        part = self.relaxation.take(torch.tensor([0]), torch.tensor(list(rows)))
        condensed = condense(part, deadline=deadline)
        if condensed is None:
            self.state = Search("time", before, 1, -math.inf, done)
            return False

        def point(b: np.ndarray) -> Tensor:
            inputs = torch.from_numpy(b).to(part.C).expand(1, 1, -1)
            return condensed.point(part, inputs)[0]

        def tell(search: Search) -> None:
            self.state = replace(search, closed=done + share * search.closed)
            self.watch(self.state)

        search = ReluSearch(
            NodeLP(condensed),
            confirm=lambda b: self.confirm(point(b)),
            descend=lambda b: self.descend(k, point(b)),
            watch=tell,
            begun=before,
            limit=self.limit,
        )
        try:
            search.run(deadline)
        finally:
            self.state = replace(search.state, closed=done + share * search.state.closed)
        if search.tree is None:
            return False
        kept = {number: search.refutations[number] for number in used(search.tree)}
        neurons = _neurons(condensed)
        refutations = {
            number: Refutation(
                {neurons[i]: side for i, side in phases.items()},
                torch.from_numpy(evidence.weights),
                _scattered(condensed, part, evidence.nu),
            )
            for number, (phases, evidence) in kept.items()
        }
        if not bool((refuted(part, list(refutations.values())) > 0).all()):
            self.state = replace(
                self.state, ended="precision", open=1, worst=-math.inf, closed=done
            )
            return False
        self.trees[k] = recorded(search.tree, neurons, refutations)
        return True


def _neurons(lp: CondensedLP) -> list[tuple[int, int]]:
    """Which ReLU's and which of its neurons each of the condensed LP is."""
    named = [(0, 0)] * lp.layers[0]
    for position, (index, _) in enumerate(lp.chosen):
        named += [(position, flat) for flat in index[0].tolist()]
    return named


def _scattered(lp: CondensedLP, relaxation: Relaxation, nu: np.ndarray) -> tuple[Tensor, ...]:
    spread = lp.scatter(relaxation, torch.from_numpy(nu).to(relaxation.C).reshape(1, 1, -1))
    return tuple(each.flatten() for each in spread)
