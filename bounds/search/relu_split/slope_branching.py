"""Which neuron a node splits whose bound comes from slopes: a score for all, a pass for the best.

The score is what the triangle costs the bound where the ascent has been on average; the few best of
each node are tried on both sides, in one pass with the parent's multipliers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.search.relu_split.slope_bounding import Bounded, SlopeNodes

#: Neurons of each node that are tried before one is chosen.
CANDIDATES = 8
#: The smallest share of the missing gain that counts.
LEAST = 1e-6


def choose(nodes: SlopeNodes, found: Bounded, left: list[int]) -> dict[int, int]:
    """The neuron of each node whose sides promise most, of the few that are tried; none where
    all are split."""
    if not nodes.n:
        return {}
    score = found.loss[left].clone()
    # Neurons that the bound loses nothing to come last, those of large coefficients first.
    arriving = found.arriving[left].abs()
    score += (
        LEAST
        * score.amax(1, keepdim=True).clamp(min=LEAST)
        * (arriving / arriving.amax(1, keepdim=True).clamp(min=LEAST))
    )
    score[found.sides[left] != 0] = -1.0
    best, neurons = score.topk(min(CANDIDATES, nodes.n), dim=1)
    tried = [
        (at, neuron)
        for row, at in enumerate(left)
        for value, neuron in zip(best[row].tolist(), neurons[row].tolist(), strict=True)
        if value >= 0
    ]
    chosen: dict[int, tuple[float, int]] = {}
    gains = _trial(nodes, found, tried).tolist() if tried else []
    for (at, neuron), gain in zip(tried, gains, strict=True):
        if at not in chosen or gain > chosen[at][0]:
            chosen[at] = gain, neuron
    return {at: neuron for at, (_, neuron) in chosen.items()}


def _trial(nodes: SlopeNodes, found: Bounded, tried: list[tuple[int, int]]) -> Tensor:
    """The product of what both sides gain in one pass, of each."""
    sides = [(at, neuron, side) for at, neuron in tried for side in (-1, 1)]
    values = [
        nodes.values(*found.children(sides[begin : begin + nodes.batch]))
        for begin in range(0, len(sides), nodes.batch)
    ]
    before = found.value[[at for at, _, _ in sides]]
    missing = (nodes.margin - before).clamp(min=nodes.margin)
    share = ((torch.cat(values) - before) / missing).nan_to_num(0.0).clamp(LEAST, 1.0)
    return share.reshape(-1, 2).prod(1)
