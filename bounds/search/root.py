"""The relaxation that a search of ReLU splits begins with, and what proves its l and u."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from bounds.deadline import NEVER, Deadline
from bounds.intermediate.intermediate import Kept, relu_bounds
from bounds.relaxation.relaxation import Relaxation
from bounds.rounding import plain_arithmetic

#: The share of the time that is left which these bounds may take.
SHARE = 0.25


def optimised_root(
    relaxation: Relaxation, deadline: Deadline = NEVER, *, keep: bool = True
) -> tuple[Relaxation, Sequence[Kept]]:
    """The relaxation of one input, in float64, with l and u of intermediate="optimised", as far as
    a share of the time allows; and the multipliers of those that one pass does not give, for
    `bounds.search.proof.CaseProof.stated`, if they are to be kept.

    Only as much is kept as float32 holds, so that l and u are a little looser than those of
    `relax`; they are found anew with these very multipliers.
    """
    kept: list[Kept] = []
    left = deadline.left
    with torch.no_grad(), plain_arithmetic():
        found = relu_bounds(
            relaxation.network,
            relaxation.input_set,
            method="optimised",
            slope="fixed",
            deadline=Deadline(None if left is None else SHARE * left),
            keep=kept if keep else None,
        )
    timed_out = relaxation.timed_out or found.timed_out
    root = replace(
        relaxation,
        relu_bounds=found.layers,
        intermediate="optimised",
        slope=None,
        timed_out=timed_out,
    )
    return root, kept
