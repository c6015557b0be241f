"""Tighter l and u on a node: where all rows of the disjunct are at most 0, ẑ has less room.

What the rows leave of one neuron makes the triangles of all others smaller, and these what the rows
leave of that one: all ends are raised together, and every iteration goes by those found by then. A
node whose bound is far below 0 often ends with no room at all, which takes a tree of thousands of
nodes otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.search.relu_split.bounding import Phases
from bounds.search.relu_split.region import Findings, Region
from bounds.solvers.slopes.conjunction import ConjunctionAscent
from bounds.solvers.slopes.tightening import TighteningAscent

#: Iterations at most; and the share of the width of what is unstable by which one has to tighten.
ITERATIONS, STOP = 20, 0.01
#: The first iterations, which may tighten less.
BEGIN = 4
#: By how much of its width an end has to move to be a lemma of its own, and how much of its width
#: it may lose to need less.
STEP, SPARE = 0.02, 0.01
#: How much of the terms' size a value has to spare: they are in float32.
ABOVE = 1e-5


class Tightening:
    """One node. root: of the search. margin: by how much a mixture of rows with weights that sum to
    1 has to be above 0. known: of the node. first: the number of the next lemma.

    region: what is known by now. refutation: of the node, if it has been refuted. next: the number
    of the next lemma.
    """

    def __init__(
        self, root: ConjunctionAscent, margin: float, known: Region, phases: Phases, first: int
    ) -> None:
        self._root, self._margin, self._phases = root, margin, phases
        self.region, self.next = known, first
        self.refutation: Findings | None = None
        self._held = known.lower.new_zeros(len(known.lower))
        self._held[list(phases)] = torch.tensor(list(phases.values())).to(self._held)

    @torch.no_grad()
    def run(
        self, slopes: Tensor, weights: Tensor, value: float, neurons: Tensor, deadline: Deadline
    ) -> None:
        """slopes, weights, value: of the node's bound. neurons: whose ends are raised, as far as
        they are unstable."""
        free = neurons[self._sides()[neurons] == 0]
        if not len(free):
            return
        neuron = free.repeat(2)
        sign = torch.ones_like(neuron).to(slopes)
        sign[len(free) :] = -1.0
        width = self.region.upper - self.region.lower
        # λ at which the rows' bound is worth about as much as the neuron's width.
        scale = width[neuron] / max(-value, ABOVE)
        ascent = TighteningAscent(
            self._root,
            neuron,
            sign,
            scale.unsqueeze(1) * weights,
            slopes,
            self._sides(),
            self.region.lower,
            self.region.upper,
        )
        before = self._width()
        for count in range(1, ITERATIONS + 1):
            if self._refuted(ascent):
                return
            self._learn(ascent)
            now = self._width()
            if deadline.passed or (count > BEGIN and now > (1 - STOP) * before):
                return
            before = now
            sides = self._sides()
            left = (sides[ascent.neuron[:, 0]] == 0).nonzero().flatten()
            if not len(left):
                return
            if len(left) < len(ascent.neuron):
                ascent = ascent.take(left, left.new_zeros(len(left), 1))
            ascent.iterate(sides, self.region.lower, self.region.upper)

    def _sides(self) -> Tensor:
        return torch.where(self._held != 0, self._held, self.region.side)

    def _width(self) -> float:
        width = self.region.upper - self.region.lower
        return float(width[self._sides() == 0].sum())

    def _refuted(self, ascent: TighteningAscent) -> bool:
        """Whether a task's own multipliers leave the node no point: its end is beyond the other."""
        nu = ascent.nu[:, 0]
        margin = self._spare(ascent)
        value = ascent.best[:, 0] - self._own(ascent, nu - ascent.own[:, 0]) + self._own(ascent, nu)
        spare = torch.where(ascent.better[:, 0], value - margin, -torch.inf)
        best = spare.argmax().reshape(1)
        if not float(spare[best]) > 0:
            return False
        nothing = torch.zeros_like(spare[best])
        self.refutation = self._found(ascent, best, nothing, nothing, nothing, spare[best])
        return True

    def _spare(self, ascent: TighteningAscent) -> Tensor:
        """What a value is to be above, (B,): rows may be small where their terms are not."""
        return ABOVE * ascent.magnitude[:, 0] + self._margin * ascent.weights[:, 0].sum(1)

    def _own(self, ascent: TighteningAscent, nu: Tensor) -> Tensor:
        """What a task's own neuron adds to the value at these ν, (B,)."""
        at = ascent.neuron
        nu, c = nu.gather(1, at)[:, 0], ascent.arriving[:, 0].gather(1, at)[:, 0]
        lower, upper = self.region.lower[at[:, 0]], self.region.upper[at[:, 0]]
        return torch.minimum(-nu * lower, (c - nu) * upper).clamp(max=0)

    def _learn(self, ascent: TighteningAscent) -> None:
        """The ends that the last iteration has found."""
        at, sign, nu = ascent.neuron[:, 0], ascent.sign[:, 0], ascent.nu[:, 0]
        lower, upper = self.region.lower[at], self.region.upper[at]
        width, margin = upper - lower, self._spare(ascent)
        value, objective = ascent.best[:, 0] - margin, nu - ascent.own[:, 0]
        # What lies beyond an end is a segment: with ν > 0 below 0, and ν < ĉ above, the value there
        # is that of the other neurons and ν times the distance to 0.
        own_nu = nu.gather(1, ascent.neuron)[:, 0]
        c = ascent.arriving[:, 0].gather(1, ascent.neuron)[:, 0]
        slope = torch.where(sign > 0, own_nu, c - own_nu)
        segment = (value - self._own(ascent, objective)) / slope
        segment = torch.where(slope > 0, segment, -torch.inf)
        on_segment = segment > value
        found = torch.maximum(value, segment) - SPARE * width
        old = torch.where(sign > 0, lower, -upper)
        enough = old + torch.minimum(STEP * width, -old)
        some = (ascent.better[:, 0] & (found.clamp(max=0) >= enough)).nonzero().flatten()
        if not len(some):
            return
        spare = SPARE * width * torch.where(on_segment, slope, 1.0)
        shift = torch.where(on_segment, 0.0, sign)
        ends = found.clamp(max=0) * sign
        found_now = self._found(ascent, some, sign[some], ends[some], shift[some], spare[some])
        self.region = found_now.narrowed()

    def _found(
        self,
        ascent: TighteningAscent,
        some: Tensor,
        side: Tensor,
        at: Tensor,
        shift: Tensor,
        spare: Tensor,
    ) -> Findings:
        first, self.next = self.next, self.next + len(some)
        weights, nu, arriving = (
            each[some, 0] for each in (ascent.weights, ascent.nu, ascent.arriving)
        )
        neuron = ascent.neuron[some, 0]
        return Findings(
            first, self.region, self._phases, weights, nu, arriving, neuron, side, at, shift, spare
        )
