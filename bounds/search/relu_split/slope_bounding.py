"""Nodes in batches: how far slope ascent with β raises their bounds, and what that proves.

All nodes of a search share the relaxation of the root. A node begins at the slopes and the β of its
parent, whose bound it has then at least about, and is given a few iterations; it leaves the rest to
its children. Multipliers are those of the condensed LP, and single nodes are finished by that LP
where it fits in memory (`bounds.search.relu_split.bounding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.errors import InvalidInputError
from bounds.network.memory import numbers_at_once, pass_numbers
from bounds.relaxation.relaxation import Relaxation
from bounds.search.relu_split.bounding import Evidence, NodeLP, Phases
from bounds.search.relu_split.branching import guesses
from bounds.search.relu_split.holding import hold
from bounds.search.relu_split.region import Findings, Reasons, Region
from bounds.search.relu_split.tightening import Tightening
from bounds.search.relu_tree import Neuron
from bounds.solvers.cost import matrices_fit
from bounds.solvers.interior_point.condense import condense
from bounds.solvers.slopes.conjunction import ConjunctionAscent

#: As `bounding.ABOVE`, of numbers in float32.
ABOVE = 1e-5
#: Iterations of the root; and of every other node, for each ReLU with unstable neurons and at most.
#: Few layers are soon as good as they get, and many are worth no split before.
ROOT, A_LAYER, ITERATIONS = 200, 5, 20
#: Copies of what changes with every iteration that a node holds, and nodes of a batch at most.
ITERATES, BATCH = 24, 1024
#: Neurons whose ends are tightened on a node, those first whose triangles cost most; unstable ones
#: up to which that pays, of which these are a good part; and nodes at a time that it is done on.
NEURONS, MOST, TIGHTENED = 64, 512, 32
#: What is left of a batch, as a share, for it to go on without those that are closed.
REST = 0.5


@dataclass(frozen=True, eq=False)
class Start:
    """Where the ascent of a node begins: slopes with β, (n,), and λ, (rows,); of many, stacked."""

    slopes: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class Bounded:
    """What is known of B nodes.

    value: d (B,). loss: what the dual function loses to each neuron's triangle, times how far the
    average point is above its ReLU, as a share; 0 where it is split, (B, n). slopes, nu, arriving:
    of the best bound, (B, n). x: (B, *input_shape), where it is attained, as a point of the set in
    float64. values: the network's own rows there, (B, rows). sides: their phases, −1, 0 and 1,
    those that follow from l and u included, (B, n). lower, upper: l and u, (B, n).
    """

    value: Tensor
    slopes: Tensor
    weights: Tensor
    nu: Tensor
    arriving: Tensor
    loss: Tensor
    x: Tensor
    values: Tensor
    sides: Tensor
    lower: Tensor
    upper: Tensor

    def children(
        self, some: Sequence[tuple[int, int, int]]
    ) -> tuple[Tensor, Start, Tensor, Tensor]:
        """Their phases, where they begin, l and u, stacked, given each one's node, neuron and side:
        the parent's multipliers, as far as the child's form allows them."""
        node, neuron, side = torch.tensor(some).to(self.slopes.device).unbind(1)
        each = torch.arange(len(some), device=node.device)
        nu, arriving = self.nu[node, neuron], self.arriving[node, neuron]
        slopes, sides = self.slopes[node], self.sides[node]
        slopes[each, neuron] = torch.where(side > 0, arriving - nu, nu).clamp(min=0)
        sides[each, neuron] = side.to(sides)
        return sides, Start(slopes, self.weights[node]), self.lower[node], self.upper[node]


@dataclass(frozen=True, eq=False)
class Finished:
    """An LP optimum. refutation: by it, if it may be one. x: where it is attained, (1,
    *input_shape). neuron: the best to split; None where all of them are on their ReLUs at x."""

    refutation: Findings | None
    x: Tensor
    neuron: int | None


class SlopeNodes:
    """One disjunct of one input. relaxation: in float64, of which all rows belong to the disjunct;
    `hold` takes the multipliers of this very relaxation. device: where nodes are bounded.

    batch: nodes at a time. tightens: whether nodes that are left open are worth `tightened`.
    region: what is known of all nodes.
    """

    def __init__(self, relaxation: Relaxation, device: torch.device) -> None:
        self._exact = relaxation
        try:
            rough = relaxation.convert(lambda tensor: tensor.float().to(device))
        except InvalidInputError:  # its numbers are too large for float32
            rough = relaxation.convert(lambda tensor: tensor.to(device))
        self._network, self._C, self._d = rough.network, rough.C[0].flatten(1), rough.d[0]
        with torch.no_grad():
            self._root = ConjunctionAscent(
                rough.network, rough.relu_bounds, rough.input_set, rough.C, rough.d
            )
        self.neurons: list[Neuron] = self._root.neurons
        self.n = len(self.neurons)
        nothing = rough.d.new_zeros(0)
        lower, upper = (
            torch.cat([nothing, *(getattr(each, end)[each.unstable] for each in rough.relu_bounds)])
            for end in ("lower", "upper")
        )
        self.region = Region.of(lower, upper)
        self.margin = ABOVE * float(relaxation.scale().max())
        places = numbers_at_once(rough.C, None) // (ITERATES * self.n + pass_numbers(rough.network))
        self.tightens = self.n <= MOST
        self.batch = max(1, min(TIGHTENED if self.tightens else BATCH, places))
        self._tasks = max(1, min(NEURONS, places // 2))
        layers = sum(bool(neurons.unstable.any()) for neurons in relaxation.relu_bounds)
        self._iterations = min(A_LAYER * layers, ITERATIONS)
        self._lp: NodeLP | None = None

    @property
    def root(self) -> Start:
        return Start(self._root.best_slopes[0, 0], self._root.best_weights[0, 0])

    def scattered(self, nu: np.ndarray) -> tuple[Tensor, ...]:
        """Of (rows, n) multipliers one tensor (rows, neurons) a ReLU, in float64."""
        values = torch.from_numpy(nu).double().unsqueeze(0).to(self._d.device)
        return tuple(each[0].flatten(1).to(self._exact.C) for each in self._root.scatter(values))

    @torch.no_grad()
    def bound(
        self,
        phases: Sequence[Phases],
        starts: Sequence[Start],
        regions: Sequence[Region],
        deadline: Deadline,
        iterations: int | None = None,
    ) -> Bounded:
        slopes, weights = (
            torch.stack([getattr(s, name) for s in starts]) for name in ("slopes", "weights")
        )
        lower, upper, implied = (
            torch.stack([getattr(each, name) for each in regions])
            for name in ("lower", "upper", "side")
        )
        sides = self._sides(phases)
        sides = torch.where(sides == 0, implied, sides)
        ascent = self._root.nodes(sides, slopes, weights, lower, upper)
        part, at = ascent, torch.arange(len(phases), device=sides.device)
        for _ in range(self._iterations if iterations is None else iterations):
            open_ = (part.best <= 2 * self.margin).flatten()
            count = int(open_.sum())
            if count == 0 or deadline.passed:
                break
            if count <= REST * len(open_):
                _put_back(part, ascent, at)
                left = open_.nonzero().flatten()
                part, at = part.take(left, left.new_zeros(count, 1)), at[left]
            part.advance()
        _put_back(part, ascent, at)
        ascent.settle()
        return self._bounded(ascent, sides, lower, upper)

    def refutation(
        self, found: Bounded, at: int, phases: Phases, region: Region, first: int
    ) -> Findings:
        """Of a node that is bounded from above 0, by what this cannot do without."""
        one, spare = slice(at, at + 1), found.value[at : at + 1] - self.margin
        nothing = torch.zeros_like(spare)
        multipliers = found.weights[one], found.nu[one], found.arriving[one]
        ends = nothing.long(), nothing, nothing, nothing
        return Findings(first, region, phases, *multipliers, *ends, spare)

    def tightened(
        self,
        found: Bounded,
        at: int,
        phases: Phases,
        region: Region,
        first: int,
        deadline: Deadline,
    ) -> Tightening:
        """A node that is left open, with tighter l and u."""
        tightening = Tightening(self._root, self.margin, region, phases, first)
        neurons = found.loss[at].topk(min(self._tasks, self.n)).indices
        value = float(found.value[at])
        tightening.run(found.slopes[at], found.weights[at], value, neurons, deadline)
        return tightening

    def hold(self, some: Sequence[Reasons]) -> list[bool]:
        """Whether each row, of one after another, holds on the network itself, rounding included,
        if what it uses does."""
        nu = np.concatenate([each.findings.nu.cpu().numpy()[each.rows] for each in some])
        return hold(self._exact, self.neurons, some, self.scattered(nu))

    @torch.no_grad()
    def values(self, sides: Tensor, starts: Start, lower: Tensor, upper: Tensor) -> Tensor:
        """d where nodes begin, given their phases, l and u, (nodes, n) each; (nodes,)."""
        return self._root.nodes(sides, starts.slopes, starts.weights, lower, upper).best[:, 0]

    def _sides(self, phases: Sequence[Phases]) -> Tensor:
        sides = np.zeros((len(phases), self.n), dtype=np.float32)
        for row, held in zip(sides, phases, strict=True):
            row[list(held)] = list(held.values())
        return torch.from_numpy(sides).to(self.region.lower)

    def _bounded(
        self, ascent: ConjunctionAscent, sides: Tensor, lower: Tensor, upper: Tensor
    ) -> Bounded:
        nu, arriving = ascent.best_nu[:, 0], ascent.arriving[:, 0]
        costs = torch.stack([-nu * lower, (arriving - nu) * upper], 1)
        pre = ascent.mean_pre[:, 0]
        width = upper - lower
        height = -lower * upper / width
        above = upper * (pre - lower) / width - pre.clamp(min=0)
        loss = -costs.amin(1).clamp(max=0) * (above / height).clamp(0, 1)
        output = self._network(ascent.x[:, 0]).flatten(1)
        weights = ascent.best_weights[:, 0]
        return Bounded(
            ascent.best[:, 0],
            ascent.best_slopes[:, 0],
            weights,
            nu,
            arriving,
            torch.where(sides == 0, loss, 0.0),
            # Rounded to float32, a point may lie outside.
            self._exact.input_set.project(ascent.x.transpose(0, 1).to(self._exact.C))[0],
            output @ self._C.T + self._d,
            sides,
            lower,
            upper,
        )

    def finish(self, phases: Phases, first: int, deadline: Deadline) -> Finished | None:
        """The optimum of a node's LP, with the root's l and u; None where that LP does not fit in
        memory, or fails. first: the number of the next lemma."""
        if self._lp is None:
            if not matrices_fit(self._exact, None):
                return None
            condensed = condense(self._exact, deadline=deadline)
            if condensed is None:
                return None
            place = {name: i for i, name in enumerate(condensed.neurons)}
            self._order = np.array([place[name] for name in self.neurons], dtype=int)
            self._condensed, self._lp = condensed, NodeLP(condensed)
        held = {int(self._order[i]): side for i, side in phases.items()}
        # A search that was stopped and goes on knows no vertex, and must find the same multipliers.
        self._lp.begin_anew()
        bound = self._lp.bound(held, seconds=deadline.left)
        if bound.evidence is None or not np.isfinite(bound.vertex.b).all():
            return None
        inputs = torch.from_numpy(bound.vertex.b).to(self._exact.C).expand(1, 1, -1)
        free = self._lp.splittable.copy()
        free[list(held)] = False
        guess = guesses(self._lp, bound, free)[self._order]
        return Finished(
            self._refuted_by(bound.evidence, phases, first) if bound.evidence.value > 0 else None,
            self._condensed.point(self._exact, inputs)[0],
            int(guess.argmax()) if guess.any() else None,
        )

    def _refuted_by(self, evidence: Evidence, phases: Phases, first: int) -> Findings:
        """By multipliers of the condensed LP."""
        weights, nu, above = (
            torch.from_numpy(each).unsqueeze(0)
            for each in (evidence.weights, evidence.nu[self._order], evidence.costs[1, self._order])
        )
        spare = weights.new_tensor([evidence.value / 2])
        nothing = torch.zeros_like(spare)
        region = self.region.convert(lambda tensor: tensor.cpu().double())
        arriving = nu + above / region.upper
        ends = nothing.long(), nothing, nothing, nothing
        return Findings(first, region, phases, weights, nu, arriving, *ends, spare)


def _put_back(part: ConjunctionAscent, whole: ConjunctionAscent, at: Tensor) -> None:
    """Write what some nodes have reached into the whole batch."""
    if part is not whole:
        for name in ("best", "best_nu", "best_slopes", "best_weights", "mean_pre"):
            values = getattr(whole, name).clone()
            values[at] = getattr(part, name)
            setattr(whole, name, values)
