"""Pre-activation bounds l ≤ ẑ ≤ u of every ReLU, layer by layer.

"interval" propagates boxes. "backward" improves on them by the dual bound of the layers below (Wong
& Kolter 2018, Alg. 1), for the neurons that the box leaves unstable: only these enter the
relaxation. "optimised" takes the best that "backward" finds with either slope and, for neurons that
are unstable even so, the backward bounds with the best slopes for each (`bounds.ascent`). "lp"
takes what "backward" finds and, for neurons that are unstable even so, the optimum of the LP over
the layers below (LP-ALL of Salman et al. 2019, arXiv 1902.08722). All hold for the network over the
reals: they are rounded outward by `bounds.ranges` and `DualPoint.value_below`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from bounds.ascent import ascend
from bounds.dual import MultiplierRule, backward_pass
from bounds.fixed_slope import RULES, fixed
from bounds.input_sets import InputSet
from bounds.layer_lp import LayerLP
from bounds.memory import pass_numbers, rows_at_once
from bounds.network import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.ranges import Range, affine_range, input_range, relu_range, sum_range
from bounds.triangle import ReluBounds

Intermediate = Literal["interval", "backward", "optimised", "lp"]
Slope = Literal["fixed", "adaptive"]

#: l and u are wider than rounding asks for by this part of their terms. Bounds that a corner of
#: the input set attains leave the LP no interior there, and solvers fail on triangles of width
#: 1e-15.
WIDENING = 2.0**-44
#: Iterations on the slopes of an optimised bound.
ITERATIONS = 10


@dataclass(frozen=True, eq=False)
class _Source:
    """Where the multipliers of a bound come from.

    choose: given the bounds of the ReLUs below a node, the node, and rows on it, their rule.
    weight: how many rows of a pass a row counts for meanwhile. odd: whether −rows get −ν.
    """

    choose: Callable[[Sequence[ReluBounds], int, Tensor], MultiplierRule]
    weight: int = 1
    odd: bool = False


@dataclass(frozen=True, eq=False)
class IntermediateBounds:
    """layers: the bounds of each ReLU's input, in the order of `Network.relus`. unsolved: of each
    input, how many LPs for them ended without an optimum."""

    layers: tuple[ReluBounds, ...]
    unsolved: tuple[int, ...]


def relu_bounds(
    network: Network,
    input_set: InputSet,
    *,
    method: Intermediate,
    slope: Slope,
    max_memory: int | None = None,
) -> IntermediateBounds:
    """The bounds of every ReLU's input; see `bounds.relax`."""
    at_once = rows_at_once(input_set.lower, pass_numbers(network), max_memory)
    images = torch.arange(len(input_set), device=input_set.lower.device)
    parts, unsolved = [], []
    for some in images.split(at_once):
        part = input_set.convert(partial(torch.index_select, dim=0, index=some))
        lps = LayerLP(network, part, max_memory)
        parts.append(_relu_bounds(network, part, method, slope, lps, max_memory))
        unsolved += lps.unsolved.tolist()
    layers = tuple(
        ReluBounds(torch.cat([k.lower for k in layer]), torch.cat([k.upper for k in layer]))
        for layer in zip(*parts, strict=True)
    )
    return IntermediateBounds(layers, tuple(unsolved))


def _relu_bounds(
    network: Network,
    input_set: InputSet,
    method: Intermediate,
    slope: Slope,
    lps: LayerLP,
    max_memory: int | None,
) -> tuple[ReluBounds, ...]:
    known = []
    if method == "optimised":
        known = [
            _relu_bounds(network, input_set, "backward", each, lps, max_memory)
            for each in get_args(Slope)
        ]

    def ascended(below: Sequence[ReluBounds], start: int, rows: Tensor) -> MultiplierRule:
        return _following(ascend(network, below, input_set, start, rows, iterations=ITERATIONS))

    def optimal(below: Sequence[ReluBounds], start: int, rows: Tensor) -> MultiplierRule:
        return _following(lps.multipliers(below, start, rows))

    one_pass = _Source(lambda *_: RULES[slope], odd=slope == "fixed")
    sources = {
        "interval": [],
        "backward": [one_pass],
        "optimised": [_Source(ascended, weight=32)],
        "lp": [one_pass, _Source(optimal, weight=4)],
    }
    found: list[ReluBounds] = []
    ranges: list[Range] = []
    for node in network.nodes:
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
                for other in known:
                    neurons = neurons.intersection(other[len(found)])
                if not before.exact:
                    for source in sources[method]:
                        neurons = _tighten(
                            network, input_set, found, ranges, parent, neurons, source, max_memory
                        )
                found.append(neurons)
                ranges.append(relu_range(before, neurons, implied=True))
            case _:
                raise TypeError(f"relu_bounds does not know {type(node).__name__}.")
    return tuple(found)


def _margin(pre_activations: Range) -> Tensor:
    return WIDENING * pre_activations.terms


def _tighten(
    network: Network,
    input_set: InputSet,
    below: list[ReluBounds],
    ranges: list[Range],
    start: int,
    neurons: ReluBounds,
    source: _Source,
    max_memory: int | None,
) -> ReluBounds:
    """Improve the bounds of node `start` by backward bounds, for each input's unstable neurons."""
    unstable = neurons.unstable.flatten(1)
    batch, count = len(unstable), int(unstable.sum(1).max())
    if count == 0:
        return neurons
    # Each input's unstable neurons first; inputs with fewer fill up with rows of zeros.
    chosen = torch.argsort(unstable, dim=1, descending=True, stable=True)[:, :count]
    numbers = batch * pass_numbers(network, start) * source.weight
    lowers, uppers = [], []
    like = neurons.lower
    for part in chosen.split(rows_at_once(like, numbers, max_memory), dim=1):
        rows = torch.zeros(*part.shape, unstable.shape[1], dtype=like.dtype, device=like.device)
        rows.scatter_(2, part.unsqueeze(2), unstable.gather(1, part).unsqueeze(2).to(like))
        own = _margin(ranges[start]).flatten(1).gather(1, part)
        rows = rows.unflatten(2, neurons.lower.shape[1:])
        if not source.odd:
            rows = torch.cat((rows, -rows), 1)
        rule = source.choose(below, start, rows)
        point = backward_pass(network, below, start, rows, rule, ranges)
        low = point.value_below(input_set, below)
        if source.odd:
            high = point.negated().value_below(input_set, below)
        else:
            low, high = low.chunk(2, 1)
        lowers.append(low - own)
        uppers.append(own - high)

    def merge(old: Tensor, new: list[Tensor], better: Callable[..., Tensor]) -> Tensor:
        flat = old.flatten(1)
        held = flat.gather(1, chosen)
        # Stable neurons keep the bounds of their box: an input's LP is not its batch's business.
        found = torch.where(unstable.gather(1, chosen), better(held, torch.cat(new, 1)), held)
        return flat.scatter(1, chosen, found).reshape(old.shape)

    return ReluBounds(
        merge(neurons.lower, lowers, torch.maximum), merge(neurons.upper, uppers, torch.minimum)
    )


def _following(best: Sequence[Tensor]) -> MultiplierRule:
    """ν = best; but on the upper face, where d has a kink in l and u, ν follows them, as the best
    one does."""

    def rule(position: int, arriving: Tensor, neurons: ReluBounds) -> Tensor:
        return torch.where(arriving < 0, fixed(position, arriving, neurons), best[position])

    return rule
