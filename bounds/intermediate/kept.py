"""What proves optimised bounds: multipliers that are kept, and bounds found anew with these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.dual.dual import DualPoint, MultiplierRule
from bounds.relaxation.triangle import ReluBounds


@dataclass(frozen=True, eq=False)
class Kept:
    """Of one input: neurons of the ReLU at a position in `Network.relus`, which of their bounds is
    meant (−1 for the upper one), and the ν that prove them at every ReLU below that matters, in
    numbers of float32; (rows,), (rows,), and (rows, numbers) each."""

    position: int
    neuron: Tensor
    sign: Tensor
    multipliers: dict[int, Tensor]


def in_float32(rule: MultiplierRule) -> MultiplierRule:
    return lambda *at: rule(*at).float().double()


def kept_of(
    position: int, part: Tensor, dual: DualPoint, value: Tensor, neurons: ReluBounds
) -> Kept:
    """Of the bounds of these neurons, first the lower and then the upper ones, those that are
    better."""
    before = torch.cat([neurons.lower[0].flatten()[part], -neurons.upper[0].flatten()[part]])
    better = value > before
    sign = torch.ones_like(part).repeat(2)
    sign[len(part) :] = -1
    multipliers = {k: nu[0].flatten(1)[better] for k, nu in dual.multipliers.items()}
    return Kept(position, part.repeat(2)[better], sign[better], multipliers)


def stated_rule(stated: Sequence[Kept], position: int, rows: Tensor) -> MultiplierRule:
    """What was kept of these rows (1, rows, *shape), each one neuron of the ReLU at this position
    or minus one; 0 for those of which nothing was."""
    own = [each for each in stated if each.position == position]
    flat = rows[0].flatten(1)
    places = torch.full((2 * flat.shape[1],), -1)
    if own:
        of = torch.cat([2 * each.neuron + (each.sign < 0) for each in own])
        places[of] = torch.arange(len(of))
    at = places[2 * flat.abs().argmax(1) + (flat.sum(1) < 0)]

    def rule(position: int, arriving: Tensor, _: ReluBounds) -> Tensor:
        parts = [each.multipliers[position] for each in own if position in each.multipliers]
        if not parts or sum(map(len, parts)) != sum(len(each.neuron) for each in own):
            return torch.zeros_like(arriving)
        nu = torch.cat(parts).to(arriving)
        return torch.where((at >= 0).unsqueeze(1), nu[at], 0.0).reshape(arriving.shape)

    return rule
