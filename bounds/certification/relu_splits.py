"""The search of one input's set by the phases of its ReLUs, one disjunct after another.

An LP a node is exact, and goes on from its parent's vertex: it suits networks whose LPs are small,
or sparse, as those of formulas. Slope ascent with β bounds hundreds of nodes together, on a device
too, and needs no matrices: on residual networks of a thousand unstable neurons it takes a twentieth
of the time, and on dense ones of 50 to 110, a third. It is far from the LP where that is all that
counts (benchmarks/README.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bounds.deadline import NEVER, Deadline
from bounds.relaxation.relaxation import Relaxation
from bounds.search.journal import Page
from bounds.search.relu_split.bounding import NodeLP
from bounds.search.relu_split.frontier_search import FrontierSearch
from bounds.search.relu_split.noted import require
from bounds.search.relu_split.region import Lemma
from bounds.search.relu_split.search import ReluSearch
from bounds.search.relu_split.slope_bounding import SlopeNodes
from bounds.search.relu_split.soundness import refuted
from bounds.search.relu_split.tree import recorded, used
from bounds.search.relu_tree import Bound, Neuron, Refutation, ReluTree
from bounds.search.search import Search
from bounds.solvers.cost import matrices_fit
from bounds.solvers.interior_point.condense import condense

#: How the nodes of a search are bounded: by an LP each, or by slope ascent in batches.
Bounding = Literal["lp", "slopes"]
#: The most unstable neurons for which nodes are LPs; and where these are of one layer, coefficients
#: that are not 0.
SMALL, SPARSE = 48, 2**15
#: Multipliers of the unstable neurons, (rows, n), as one tensor (rows, neurons) a ReLU.
Scattered = Callable[[np.ndarray], tuple[Tensor, ...]]


def bounding_of(root: Relaxation, deadline: Deadline = NEVER) -> Bounding:
    """How the nodes of a search are bounded, by its root alone, as long as there is time."""
    [unstable] = root.unstable
    if not matrices_fit(root, None):
        return "slopes"
    return "lp" if unstable <= SMALL or _is_sparse(root, deadline) else "slopes"


def _is_sparse(root: Relaxation, deadline: Deadline) -> bool:
    """Whether the LP has neurons of one layer, and few coefficients."""
    if sum(bool(neurons.unstable.any()) for neurons in root.relu_bounds) > 1:
        return False
    lp = condense(root, deadline=deadline)
    return lp is not None and int(lp.AL.count_nonzero()) <= SPARSE


@dataclass(eq=False)
class ReluSplits:
    """relaxation: of one input, in float64, with all rows and what they have to exceed taken off.
    confirm: whether one of some points (points, *input_shape) is a counterexample. descend: given a
    disjunct and points to start from, whether there is one nearby. watch: is told how far the
    searches are. disjuncts: how many there are to exclude. limit: nodes that may be bounded.
    bounding: how they are. device: where slope ascent runs. page: of each disjunct, where its
    search is noted and gone on from, if anywhere.

    trees: of each disjunct that is excluded. state: how far all searches are.
    """

    relaxation: Relaxation
    confirm: Callable[[Tensor], bool]
    descend: Callable[[int, Tensor], bool]
    watch: Callable[[Search], None]
    disjuncts: int
    limit: float
    bounding: Bounding
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    page: Callable[[int], Page | None] = lambda _: None
    trees: dict[int, ReluTree] = field(default_factory=dict)
    state: Search = field(default_factory=lambda: Search("open", 0, 0, -math.inf, 0.0))

    def excluded(self, k: int, rows: Sequence[int], deadline: Deadline) -> bool:
        """Whether disjunct k, of these rows, is met nowhere; `state` says why not."""
        share, done = 1 / self.disjuncts, len(self.trees) / self.disjuncts
        part = self.relaxation.take(torch.tensor([0]), torch.tensor(list(rows)))

        def tell(search: Search) -> None:
            self.state = replace(search, closed=done + share * search.closed)
            self.watch(self.state)

        make = self._by_slopes if self.bounding == "slopes" else self._by_lps
        made = make(k, part, tell, deadline)
        if made is None:
            self.state = Search("time", self.state.domains, 1, -math.inf, done)
            return False
        search, neurons, scattered = made

        def prove(found: Mapping[int, Lemma]) -> None:
            require(_all_hold(part, _named(found, neurons, scattered)), "a refutation")

        page = self.page(k)
        if page is not None:
            page.resume(lambda columns: search.go_on(columns, prove))
        try:
            search.run(deadline, page)
        finally:
            self.state = replace(search.state, closed=done + share * search.state.closed)
        if search.tree is None:
            return False
        needed = used(search.tree, search.refutations)
        named = _named(needed, neurons, scattered)
        # Those of slopes were asked one by one.
        if self.bounding == "lp" and not _all_hold(part, named):
            self.state = replace(
                self.state, ended="precision", open=1, worst=-math.inf, closed=done
            )
            return False
        self.trees[k] = recorded(search.tree, neurons, dict(zip(needed, named, strict=True)))
        return True

    def _by_lps(
        self, k: int, part: Relaxation, tell: Callable[[Search], None], deadline: Deadline
    ) -> tuple[ReluSearch, list[Neuron], Scattered] | None:
        condensed = condense(part, deadline=deadline)
        if condensed is None:
            return None

        def point(b: np.ndarray) -> Tensor:
            inputs = torch.from_numpy(b).to(part.C).expand(1, 1, -1)
            return condensed.point(part, inputs)[0]

        def scattered(nu: np.ndarray) -> tuple[Tensor, ...]:
            spread = condensed.scatter(part, torch.from_numpy(nu).to(part.C).unsqueeze(0))
            return tuple(each[0].flatten(1) for each in spread)

        search = ReluSearch(
            NodeLP(condensed),
            confirm=lambda b: self.confirm(point(b)),
            descend=lambda b: self.descend(k, point(b)),
            watch=tell,
            begun=self.state.domains,
            limit=self.limit,
        )
        return search, condensed.neurons, scattered

    def _by_slopes(
        self, k: int, part: Relaxation, tell: Callable[[Search], None], deadline: Deadline
    ) -> tuple[FrontierSearch, list[Neuron], Scattered]:
        nodes = SlopeNodes(part, self.device)
        search = FrontierSearch(
            nodes,
            confirm=self.confirm,
            descend=lambda points: self.descend(k, points),
            watch=tell,
            begun=self.state.domains,
            limit=self.limit,
        )
        return search, nodes.neurons, nodes.scattered


def _all_hold(part: Relaxation, named: Sequence[Refutation]) -> bool:
    return bool((refuted(part, named, earlier=named) > 0).all())


def _named(
    lemmas: Mapping[int, Lemma], neurons: list[Neuron], scattered: Scattered
) -> list[Refutation]:
    """As the record has them: by the places of those that they use."""
    if not lemmas:
        return []
    place = {number: place for place, number in enumerate(lemmas)}
    nu = scattered(np.stack([one.evidence.nu for one in lemmas.values()]))
    multipliers = zip(*nu, strict=True) if nu else [()] * len(lemmas)
    return [
        Refutation(
            {neurons[i]: side for i, side in one.phases.items()},
            torch.from_numpy(one.evidence.weights),
            each,
            tuple(place[use] for use in one.uses),
            None if one.end is None else Bound(neurons[one.end.neuron], one.end.side, one.end.at),
        )
        for one, each in zip(lemmas.values(), multipliers, strict=True)
    ]
