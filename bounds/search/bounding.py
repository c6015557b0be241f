"""Sound bounds of a batch of boxes, and what they are made of.

A box inherits the signs of ReLU inputs that hold where it was cut from; only what is left gets
bounds of its own, by one backward pass each. Every row is bounded by both rules of
`bounds.dual.fixed_slope`. All of that holds over the reals, for the network on the box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import RULES
from bounds.intermediate.forward import dear, forward_bounds, passes
from bounds.intermediate.intermediate import Intermediate, relu_bounds
from bounds.network.graph import Network
from bounds.relaxation.ranges import ranges
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import down, plain_arithmetic
from bounds.search.domains import Domains, bounds_of, distinct, signs_of
from bounds.sets.box import Box
from bounds.solution.status import Status
from bounds.solution.verdict import trusted

#: Bytes that a batch's passes take. It is no share of what is free: that would not be the same from
#: run to run, and rounding depends on how passes are cut into parts.
MEMORY = 2**28


@dataclass(frozen=True, eq=False)
class Question:
    """What is to be excluded: disjunct k is met where all of its rows are at most 0.

    network: in float64. C: (disjuncts, rows, *output_shape). d: (disjuncts, rows). Shorter
    disjuncts repeat a row. reserve: what is taken off bounds, in parts of what rounding may have
    raised them by, for others to see their sign too. forward: whether l and u are carried forward
    from the input first, and have no backward bounds besides where these are dear.
    """

    network: Network
    C: Tensor
    d: Tensor
    reserve: float = 0.0
    forward: bool = False

    @property
    def rows(self) -> int:
        """Of each disjunct."""
        return self.d.shape[1]

    @property
    def shapes(self) -> list[torch.Size]:
        """Of the inputs of every ReLU."""
        return [torch.Size(self.network.nodes[index].shape) for index in self.network.relus]


@dataclass(frozen=True, eq=False)
class BoxBounds:
    """Of each box: its disjunct's rows, first by one rule and then by the other.

    proof: the lower bounds that may prove something (`bounds.solution.verdict.trusted`), −∞ for the
    others; (count, rules × rows). coefficients: c of linear functions ⟨c, x⟩ + k below the rows,
    whose smallest values on the box are at least these; (count, rules × rows, *input_shape).
    points: of the box, (count, points, *input_shape). values: of the disjunct's rows there, up to
    rounding; (count, points, rows). passes: how many of one row l and u took, where they
    are not another's, (count,). forward: where they are carried forward alone, (count,). signs: as
    `Domains` has them.
    """

    proof: Tensor
    coefficients: Tensor
    points: Tensor
    values: Tensor
    passes: Tensor
    forward: Tensor
    signs: Tensor

    @property
    def best(self) -> Tensor:
        """The largest bound of each box; (count,)."""
        return self.proof.amax(1)

    @property
    def top(self) -> Tensor:
        """Which one that is; (count,)."""
        return self.proof.argmax(1)

    @property
    def steepest(self) -> Tensor:
        """The coefficients that it comes from; (count, *input_shape)."""
        return self.coefficients[torch.arange(len(self.top), device=self.top.device), self.top]

    def take(self, chosen: Tensor) -> BoxBounds:
        """Those of the boxes that a mask has."""
        return BoxBounds(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class _Rows:
    """What `trusted` looks at, of boxes that are sets by themselves."""

    lower: Tensor
    upper: Tensor
    status: Tensor
    method: str = "input_split"
    sound: bool = True
    partial: bool = False


@torch.no_grad()
def bound(question: Question, domains: Domains, deadline: Deadline) -> BoxBounds:
    """Once the time is up, bounds are looser, and hold all the same."""
    network, box = question.network, domains.box
    C, d = question.C[domains.disjunct], question.d[domains.disjunct]
    with plain_arithmetic():
        first, of = distinct(domains)
        known = bounds_of(domains.signs[first], question.shapes, C.dtype)
        own = box.convert(lambda each: each[first])
        layers, taken, forward = _layers(question, own, known, deadline)
        within = ranges(network, own, layers, implied=True)
        if len(first) < len(of):  # else they are the domains, in their order
            within = [each.convert(lambda each: each[of]) for each in within]
            layers = [each.convert(lambda each: each[of]) for each in layers]
        last = len(network.nodes) - 1
        duals = [backward_pass(network, layers, last, C, rule, within) for rule in RULES.values()]
        lower = torch.cat([dual.value_below(box, layers, d) for dual in duals], 1)
        if question.reserve:
            rounding = torch.cat([each.rounding for each in duals if each.rounding is not None], 1)
            lower = down(lower - question.reserve * rounding)
    coefficients = torch.cat([dual.at_input for dual in duals], 1)
    points, values = _points(question, box, coefficients, C, d)
    usable = _usable(layers, d)
    status = torch.where(usable, int(Status.BOUND), int(Status.NUMERICAL_ERROR))
    upper = values.amin(1).repeat(1, len(RULES))
    signs = torch.where(usable.unsqueeze(1), signs_of(layers, domains.signs), domains.signs)
    return BoxBounds(
        trusted(_Rows(lower, upper, status.unsqueeze(1).expand_as(lower))),
        coefficients,
        points,
        values,
        torch.zeros_like(of).index_put((first,), taken.to(of)),
        forward[of],
        signs,
    )


def _layers(
    question: Question, box: Box, known: Sequence[ReluBounds], deadline: Deadline
) -> tuple[Sequence[ReluBounds], Tensor, Tensor]:
    """l and u of every ReLU's input, how many passes of one row they took of each box, and whether
    they were carried forward alone. Where backward bounds are too dear, its halves are better
    bounded than a box is bounded better."""

    network = question.network

    def bounded(method: Intermediate, some: Tensor | slice) -> Sequence[ReluBounds]:
        return relu_bounds(
            network,
            box.convert(lambda each: each[some]),
            method=method,
            slope="adaptive",
            max_memory=MEMORY,
            deadline=deadline,
            known=[each.convert(lambda each: each[some]) for each in known],
        ).layers

    if not question.forward:
        layers = bounded("backward", slice(None))
        taken = _unstable(layers, len(box))
        return layers, taken, torch.zeros_like(taken, dtype=torch.bool)
    known = forward_bounds(network, box, known)
    few = ~dear(network, box, known)
    kinds: dict[Intermediate, Tensor] = {"interval": ~few, "backward": few}
    parts = [bounded(kind, some) for kind, some in kinds.items() if bool(some.any())]
    back = torch.cat([(~few).nonzero(), few.nonzero()]).flatten().argsort()
    layers = [ReluBounds(*_joined(layer, back)) for layer in zip(*parts, strict=True)]
    return layers, passes(box) + few * _unstable(layers, len(box)), ~few


def _joined(parts: Sequence[ReluBounds], order: Tensor) -> tuple[Tensor, Tensor]:
    return (
        torch.cat([part.lower for part in parts])[order],
        torch.cat([part.upper for part in parts])[order],
    )


def _unstable(layers: Sequence[ReluBounds], count: int) -> Tensor:
    """How many neurons are, of each box."""
    numbers = [layer.unstable.flatten(1).sum(1) for layer in layers]
    return torch.stack(numbers).sum(0) if numbers else torch.zeros(count, dtype=torch.long)


def _points(
    question: Question, box: Box, coefficients: Tensor, C: Tensor, d: Tensor
) -> tuple[Tensor, Tensor]:
    """The middle of each box and where each linear function is smallest; and the rows there."""
    middle = (box.lower / 2 + box.upper / 2).unsqueeze(1)
    points = torch.cat((middle, box.argmin(coefficients)), 1)
    outputs = question.network(points.flatten(0, 1)).reshape(*points.shape[:2], -1)
    values = torch.baddbmm(d.unsqueeze(1), outputs, C.flatten(2).mT)
    return points, values


def _usable(layers: Sequence[ReluBounds], like: Tensor) -> Tensor:
    """Whether all l and u of a box are numbers, the right way round; (count,)."""
    usable = torch.ones(len(like), dtype=torch.bool, device=like.device)
    for neurons in layers:
        finite = torch.isfinite(neurons.lower) & torch.isfinite(neurons.upper)
        usable &= (finite & (neurons.lower <= neurons.upper)).flatten(1).all(1)
    return usable
