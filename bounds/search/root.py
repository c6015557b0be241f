"""The relaxation that a search of ReLU splits begins with, and what proves its l and u."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bounds.deadline import NEVER, Deadline
from bounds.intermediate.intermediate import relu_bounds
from bounds.intermediate.kept import Kept
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import plain_arithmetic
from bounds.search.journal import Columns

#: The share of the time that is left which these bounds may take.
SHARE = 0.25


def optimised_root(
    relaxation: Relaxation,
    deadline: Deadline = NEVER,
    *,
    keep: bool = True,
    stated: Sequence[Kept] | None = None,
) -> tuple[Relaxation, Sequence[Kept]]:
    """The relaxation of one input, in float64, with l and u of intermediate="optimised", as far as
    a share of the time allows; and the multipliers of those that one pass does not give, for
    `bounds.search.proof.CaseProof.stated`, if they are to be kept.

    Only as much is kept as float32 holds, so that l and u are a little looser than those of
    `relax`; they are found anew with these very multipliers: here, where they are stated, too,
    which may take all of the time.
    """
    kept: list[Kept] = []
    left = deadline.left
    with torch.no_grad(), plain_arithmetic():
        found = relu_bounds(
            relaxation.network,
            relaxation.input_set,
            method="optimised",
            slope="fixed",
            deadline=Deadline(None if left is None else SHARE * left)
            if stated is None
            else deadline,
            keep=kept if keep and stated is None else None,
            stated=stated,
        )
    timed_out = relaxation.timed_out or found.timed_out
    root = replace(
        relaxation,
        relu_bounds=found.layers,
        intermediate="optimised",
        slope=None,
        timed_out=timed_out,
    )
    return root, kept if stated is None else stated


def columns_of(root: Relaxation, kept: Sequence[Kept]) -> Columns:
    """l, u and what proves them, for a journal."""
    layers = root.relu_bounds
    found = {
        f"{end}.{k}": getattr(neurons, end).cpu().numpy()
        for k, neurons in enumerate(layers)
        for end in ("lower", "upper")
    }
    for number, each in enumerate(kept):
        found[f"kept.{number}.position"] = np.array([each.position])
        found[f"kept.{number}.neuron"] = each.neuron.cpu().numpy()
        found[f"kept.{number}.sign"] = each.sign.cpu().numpy()
        for k, nu in each.multipliers.items():
            own = nu[:, layers[k].unstable[0].flatten()]
            found[f"kept.{number}.nu.{k}"] = own.float().cpu().numpy()
    return found


def root_of(
    columns: Columns, relaxation: Relaxation, deadline: Deadline
) -> tuple[Relaxation, Sequence[Kept]]:
    """As `optimised_root` has found it. l and u are proved anew, and are those of the columns where
    these are looser: where the time was up before all was found."""
    shapes = [torch.Size(relaxation.network.nodes[k].shape) for k in relaxation.network.relus]
    layers = [
        ReluBounds(
            *(torch.from_numpy(columns[f"{end}.{k}"]).reshape(1, *s) for end in ("lower", "upper"))
        )
        for k, s in enumerate(shapes)
    ]
    kept, number = list[Kept](), 0
    while f"kept.{number}.position" in columns:
        [position] = columns[f"kept.{number}.position"].tolist()
        names = {k: f"kept.{number}.nu.{k}" for k in range(len(layers))}
        multipliers = {
            k: _spread(torch.from_numpy(columns[name]).double(), layers[k])
            for k, name in names.items()
            if name in columns
        }
        neuron, sign = (
            torch.from_numpy(columns[f"kept.{number}.{name}"]) for name in ("neuron", "sign")
        )
        kept.append(Kept(position, neuron, sign, multipliers))
        number += 1
    root, _ = optimised_root(relaxation, deadline, stated=kept)
    proved = [
        ReluBounds(torch.minimum(a.lower, b.lower), torch.maximum(a.upper, b.upper))
        for a, b in zip(root.relu_bounds, layers, strict=True)
    ]
    return replace(root, relu_bounds=tuple(proved)), kept


def _spread(nu: Tensor, neurons: ReluBounds) -> Tensor:
    """Multipliers (rows, unstable neurons) as (rows, neurons)."""
    unstable = neurons.unstable[0].flatten()
    whole = nu.new_zeros(len(nu), len(unstable))
    whole[:, unstable] = nu
    return whole
