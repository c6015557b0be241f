"""Whether what a search has found holds on the network itself, rounding included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.search.relu_split.region import Reasons
from bounds.search.relu_split.soundness import Claims, bounds_left, values_of
from bounds.search.relu_tree import Bound, Neuron


@dataclass(frozen=True, eq=False)
class _Room:
    """What some rows leave of the n unstable neurons. ends: l and u, where they are tighter than
    the root's, else ∓infinity, (rows, n); kept: where only ẑ ≥ 0 is left, and where ẑ ≤ 0."""

    ends: tuple[Tensor, Tensor]
    kept: tuple[Tensor, Tensor]

    @staticmethod
    def of(reasons: Reasons) -> _Room:
        findings, at = reasons.findings, torch.from_numpy(reasons.rows)
        held, region = torch.from_numpy(findings.held), findings.region
        ends, kept = [], []
        for place, end in enumerate((region.lower, region.upper)):
            needs, side, end = torch.from_numpy(reasons.needed[:, place]), 1 - 2 * place, end.cpu()
            # Where a phase holds, or an end is 0, only one side of 0 is left; as it is of a neuron
            # beyond the end that is claimed.
            only = needs & ((held == side) | (end == 0))
            beyond = (findings.side.cpu()[at] == -side).nonzero().flatten()
            only[beyond, findings.neuron.cpu()[at][beyond]] = True
            ends.append(torch.where(needs & ~only, end.double(), -side * torch.inf))
            kept.append(only)
        return _Room((ends[0], ends[1]), (kept[0], kept[1]))


def hold(
    relaxation: Relaxation,
    neurons: Sequence[Neuron],
    some: Sequence[Reasons],
    multipliers: Sequence[Tensor],
) -> list[bool]:
    """Of every row, one of these after another, if what it uses does. neurons: that are unstable.
    multipliers: ν of all rows at each ReLU, (rows, neurons of it)."""
    each = [_Room.of(reasons) for reasons in some]
    ends, kept = (
        [torch.cat(parts) for parts in zip(*(getattr(left, name) for left in each), strict=True)]
        for name in ("ends", "kept")
    )
    weights, neuron, side, at = (
        torch.cat([getattr(r.findings, name).cpu().double()[r.rows] for r in some])
        for name in ("weights", "neuron", "side", "at")
    )
    bounded = [
        (row, Bound(neurons[int(neuron[row])], int(side[row]), float(at[row])))
        for row in side.nonzero().flatten().tolist()
    ]
    layer_of = torch.tensor([k for k, _ in neurons], dtype=torch.long)

    def left(k: int, layer: ReluBounds, rows: slice) -> ReluBounds:
        block, places = layer_of == k, layer.unstable[0].flatten()
        lower, upper = (
            whole.flatten(1).repeat(rows.stop - rows.start, 1)
            for whole in (layer.lower, layer.upper)
        )
        lower[:, places] = torch.maximum(lower[:, places], ends[0][rows][:, block])
        upper[:, places] = torch.minimum(upper[:, places], ends[1][rows][:, block])
        sides = [torch.zeros_like(lower, dtype=torch.bool) for _ in kept]
        for only, own in zip(sides, kept, strict=True):
            only[:, places] = own[rows][:, block]
        return bounds_left(layer, lower, upper, sides)

    def claims(numbers: Tensor) -> Claims:
        rows = slice(int(numbers[0]), int(numbers[-1]) + 1)
        return Claims(
            weights[rows],
            [nu[rows] for nu in multipliers],
            [left(k, layer, rows) for k, layer in enumerate(relaxation.relu_bounds)],
            [(row - rows.start, b) for row, b in bounded if rows.start <= row < rows.stop],
        )

    found: list[bool] = (values_of(relaxation, len(weights), claims) > 0).tolist()
    return found
