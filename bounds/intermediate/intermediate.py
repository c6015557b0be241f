"""Pre-activation bounds l ≤ ẑ ≤ u of every ReLU, layer by layer.

"interval" propagates boxes. "backward" improves on them by the dual bound of the layers below (Wong
& Kolter 2018, Alg. 1), for the neurons that the box leaves unstable: only these enter the
relaxation. "optimised" takes the best that "backward" finds with either slope and, for neurons that
are unstable even so, the backward bounds with the best slopes for each
(`bounds.solvers.slopes.ascent`). "lp" takes what "backward" finds and, for neurons that are
unstable even so, the optimum of the LP over the layers below (LP-ALL of Salman et al. 2019, arXiv
1902.08722). All hold for the network over the reals: they are rounded outward by
`bounds.relaxation.ranges` and `DualPoint.value_below`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bounds.deadline import NEVER, Deadline
from bounds.dual.dual import MultiplierRule, backward_pass
from bounds.dual.fixed_slope import fixed
from bounds.intermediate.first_layer import within_ball
from bounds.intermediate.kept import Kept, in_float32, kept_of, stated_rule
from bounds.intermediate.layer_lp import TOLERANCE, LayerLP
from bounds.intermediate.neuron_bounds import neuron_bounds
from bounds.intermediate.projection import Projection, Vectors
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.network.memory import pass_numbers, rows_at_once
from bounds.relaxation.ranges import Range, affine_range, input_range, relu_range, sum_range
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import plain_arithmetic
from bounds.sets.box import InputSet
from bounds.solvers.slopes.ascent import ascend

Intermediate = Literal["interval", "backward", "optimised", "lp"]
Slope = Literal["fixed", "adaptive"]

#: l and u are wider than rounding asks for by this part of their terms. Bounds that a corner of
#: the input set attains leave the LP no interior there, and solvers fail on triangles of width
#: 1e-15.
WIDENING = 2.0**-44
#: Iterations on the slopes of an optimised bound.
ITERATIONS = 10


#: How often the layers are bounded, where it is more than once.
SWEEPS = {"optimised": 1 + len(get_args(Slope))}

#: Given the bounds of the ReLUs below a node, the node, and rows on it: rules for their
#: multipliers, of which one or the other is the best for a row.
Best = Callable[[Sequence[ReluBounds], int, Tensor], Sequence[MultiplierRule]]


@dataclass(frozen=True, eq=False)
class IntermediateBounds:
    """layers: the bounds of each ReLU's input, in the order of `Network.relus`. unsolved: of each
    input, how many LPs for them ended without an optimum. timed_out: whether the time was up before
    all were found."""

    layers: tuple[ReluBounds, ...]
    unsolved: tuple[int, ...]
    timed_out: bool


def relu_bounds(
    network: Network,
    input_set: InputSet,
    *,
    method: Intermediate,
    slope: Slope,
    max_memory: int | None = None,
    deadline: Deadline = NEVER,
    projection: int | None = None,
    known: Sequence[ReluBounds] = (),
    keep: list[Kept] | None = None,
    stated: Sequence[Kept] | None = None,
) -> IntermediateBounds:
    """The bounds of every ReLU's input; see `bounds.relax`.

    known: bounds of each, that hold for the network on the input set and may be infinite: what they
    show to be stable needs no pass.

    keep: is given what proves the bounds of "optimised" that "backward" does not; of one input, and
    with multipliers that float32 holds. stated: of "optimised", what was kept, in the place of what
    would be looked for.

    projection: vectors that estimate them, and prove nothing, wherever that is less work than
    "backward" (`bounds.intermediate.projection`).
    """
    at_once = rows_at_once(input_set.lower, pass_numbers(network), max_memory)
    images = torch.arange(len(input_set), device=input_set.lower.device)
    vectors = None if projection is None else Vectors(projection)
    parts, unsolved = [], []
    for some in images.split(at_once):
        part = input_set.convert(partial(torch.index_select, dim=0, index=some))
        lps = LayerLP(network, part, max_memory, deadline)
        means = lps, max_memory, deadline
        given = [each.convert(partial(torch.index_select, dim=0, index=some)) for each in known]
        parts.append(
            _relu_bounds(
                *(network, part, method, slope, *means, vectors),
                known=given,
                keep=keep,
                stated=stated,
            )
        )
        unsolved += lps.unsolved.tolist()
    late = deadline.noticed or (method == "lp" and deadline.passed)
    return IntermediateBounds(_joined(parts), tuple(unsolved), late)


def _joined(parts: Sequence[Sequence[ReluBounds]]) -> tuple[ReluBounds, ...]:
    """The layers of all inputs, from those of some each."""
    return tuple(
        ReluBounds(torch.cat([k.lower for k in layer]), torch.cat([k.upper for k in layer]))
        for layer in zip(*parts, strict=True)
    )


def _relu_bounds(
    network: Network,
    input_set: InputSet,
    method: Intermediate,
    slope: Slope,
    lps: LayerLP,
    max_memory: int | None,
    deadline: Deadline,
    vectors: Vectors | None = None,
    begun: tuple[Sequence[ReluBounds], Sequence[Range]] = ((), ()),
    known: Sequence[ReluBounds] = (),
    keep: list[Kept] | None = None,
    stated: Sequence[Kept] | None = None,
) -> tuple[ReluBounds, ...]:
    """begun: the layers and ranges that are found, of the first nodes. known, keep, stated: as for
    `relu_bounds`."""
    projected = None if vectors is None else Projection(network, input_set, vectors)
    others = [known] if known else []
    if method == "optimised":
        others += [
            _relu_bounds(network, input_set, "backward", each, lps, max_memory, deadline)
            for each in get_args(Slope)
        ]

    def ascended(below: Sequence[ReluBounds], start: int, rows: Tensor) -> list[MultiplierRule]:
        if stated is not None:
            return [stated_rule(stated, len(below), rows)]
        at = network, below, input_set, start, rows
        return [_following(ascend(*at, iterations=ITERATIONS, deadline=deadline))]

    def optimal(below: Sequence[ReluBounds], start: int, rows: Tensor) -> list[MultiplierRule]:
        # An LP may have several best ν: of those found, one may be on no upper face where another
        # is, and ν that are put there do not go with the others.
        found = lps.multipliers(below, start, rows)
        return [_following(found), lambda position, *_: found[position]]

    found, ranges = list(begun[0]), list(begun[1])
    for node in network.nodes[len(ranges) :]:
        match node:
            case InputNode():
                ranges.append(input_range(input_set))
            case AffineNode(parents=(parent,)):
                ranges.append(affine_range(network, node, ranges[parent]))
            case SumNode(parents=parents):
                ranges.append(sum_range([ranges[p] for p in parents]))
            case ReluNode(parents=(parent,)):
                before = ranges[parent]
                margin = _margin(before)
                neurons = ReluBounds(before.lower - margin, before.upper + margin)
                for other in others:
                    neurons = neurons.intersection(other[len(found)])
                if not before.exact:
                    if method != "interval":
                        neurons = within_ball(network, input_set, ranges, parent, neurons)
                    at = network, input_set, found, ranges, parent, max_memory, deadline
                    if projected is not None and projected.cheaper(parent, neurons.unstable):
                        if len(input_set) > projected.together:
                            state = lps, max_memory, deadline, vectors, (found, ranges)
                            return _in_parts(projected.together, network, input_set, *state)
                        neurons = _within(neurons, projected.bounds(parent, found))
                    elif method in ("backward", "lp"):
                        neurons = _one_pass(*at, neurons, slope)
                    if method == "optimised":
                        neurons = _best(*at, neurons, ascended, weight=32, keep=keep)
                    if method == "lp":
                        neurons = _best(*at, neurons, optimal, weight=4)
                found.append(neurons)
                deadline.tell(len(input_set))
                ranges.append(relu_range(before, neurons, implied=True))
            case _:
                raise TypeError(f"relu_bounds does not know {type(node).__name__}.")
    return tuple(found)


def _in_parts(
    together: int,
    network: Network,
    input_set: InputSet,
    lps: LayerLP,
    max_memory: int | None,
    deadline: Deadline,
    vectors: Vectors | None,
    begun: tuple[Sequence[ReluBounds], Sequence[Range]],
) -> tuple[ReluBounds, ...]:
    """The layers from where projections begin, of so many inputs together; for gradients each part
    is computed again, as its projections hold much."""

    def bounds_of(some: Tensor) -> tuple[ReluBounds, ...]:
        take = partial(torch.index_select, dim=0, index=some)
        # New objects each time: what they remember must not differ when this is done again.
        part = input_set.convert(take)
        known = [each.convert(take) for each in begun[0]], [each.convert(take) for each in begun[1]]
        with plain_arithmetic():  # also when the caller's context is gone
            means = lps, max_memory, deadline, vectors, known
            return _relu_bounds(network, part, "backward", "fixed", *means)

    images = torch.arange(len(input_set), device=input_set.lower.device)
    parts = images.split(together)
    again = partial(checkpoint, bounds_of, use_reentrant=False, preserve_rng_state=False)
    return _joined([again(some) for some in parts])


def _within(neurons: ReluBounds, estimates: ReluBounds) -> ReluBounds:
    """The estimates of unstable neurons, as far as they lie within their bounds."""
    ends = neurons.lower, neurons.upper
    lower, upper = (torch.clamp(end, *ends) for end in (estimates.lower, estimates.upper))
    return ReluBounds(
        torch.where(neurons.unstable, lower, neurons.lower),
        torch.where(neurons.unstable, upper, neurons.upper),
    )


def _margin(pre_activations: Range) -> Tensor:
    return WIDENING * pre_activations.terms


def _one_pass(
    network: Network,
    input_set: InputSet,
    below: list[ReluBounds],
    ranges: list[Range],
    start: int,
    max_memory: int | None,
    deadline: Deadline,
    neurons: ReluBounds,
    slope: Slope,
) -> ReluBounds:
    """The bounds of node `start`, improved for each input's unstable neurons by backward bounds."""
    found = neuron_bounds(
        network,
        input_set,
        below,
        ranges,
        start,
        neurons.unstable,
        slope=slope,
        max_memory=max_memory,
        deadline=deadline,
    )
    return _improved(neurons, found, ranges[start])


def _best(
    network: Network,
    input_set: InputSet,
    below: list[ReluBounds],
    ranges: list[Range],
    start: int,
    max_memory: int | None,
    deadline: Deadline,
    neurons: ReluBounds,
    best: Best,
    *,
    weight: int,
    keep: list[Kept] | None = None,
) -> ReluBounds:
    """The same, by backward bounds with the best multipliers for each.

    weight: how many rows of a pass a row counts for while these are found.
    """
    unstable = neurons.unstable.flatten(1)
    batch, count = len(unstable), int(unstable.sum(1).max())
    if count == 0:
        return neurons
    # Each input's unstable neurons first; inputs with fewer fill up with rows of zeros.
    chosen = torch.argsort(unstable, dim=1, descending=True, stable=True)[:, :count]
    numbers = batch * pass_numbers(network, start) * weight
    lowers, uppers = [], []
    like = neurons.lower
    for part in chosen.split(rows_at_once(like, numbers, max_memory), dim=1):
        if deadline.passed:
            lowers.append(torch.full_like(part, -math.inf, dtype=like.dtype))
            uppers.append(-lowers[-1])
            continue
        rows = torch.zeros(*part.shape, unstable.shape[1], dtype=like.dtype, device=like.device)
        rows.scatter_(2, part.unsqueeze(2), unstable.gather(1, part).unsqueeze(2).to(like))
        rows = rows.unflatten(2, neurons.lower.shape[1:])
        rows = torch.cat((rows, -rows), 1)
        rules = best(below, start, rows)
        if keep is not None:
            rules = [in_float32(rule) for rule in rules]
        duals = [backward_pass(network, below, start, rows, rule, ranges) for rule in rules]
        value, *others = (dual.value_below(input_set, below) for dual in duals)
        if keep is not None:
            [dual] = duals
            keep.append(kept_of(len(below), part[0], dual, value[0], neurons))
        for other in others:  # the first one has the better gradients
            better = other.detach() - value.detach() > TOLERANCE * value.detach().abs()
            value = torch.where(better, other, value)
        low, high = value.chunk(2, 1)
        lowers.append(low)
        uppers.append(-high)

    def spread(values: list[Tensor], otherwise: float) -> Tensor:
        found = torch.where(unstable.gather(1, chosen), torch.cat(values, 1), otherwise)
        everywhere = torch.full_like(unstable, otherwise, dtype=like.dtype)
        return everywhere.scatter(1, chosen, found).reshape(like.shape)

    found = ReluBounds(spread(lowers, -math.inf), spread(uppers, math.inf))
    return _improved(neurons, found, ranges[start])


def _improved(neurons: ReluBounds, found: ReluBounds, range_: Range) -> ReluBounds:
    """The better of both bounds. Stable neurons keep the bounds of their box, for which `found` has
    infinite ones: an input's LP is not its batch's business."""
    own = _margin(range_)
    return neurons.intersection(ReluBounds(found.lower - own, found.upper + own))


def _following(best: Sequence[Tensor]) -> MultiplierRule:
    """ν = best; but on the upper face, where d has a kink in l and u, ν follows them, as the best
    one does."""

    def rule(position: int, arriving: Tensor, neurons: ReluBounds) -> Tensor:
        return torch.where(arriving < 0, fixed(position, arriving, neurons), best[position])

    return rule
