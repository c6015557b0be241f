"""Bounds that others can see to be positive, whose passes round otherwise: what proofs consist of.

Any ν is valid, so that multipliers may be rounded as far as their value stays positive by that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import fixed
from bounds.relaxation.relaxation import Relaxation
from bounds.rounding import plain_arithmetic
from bounds.search.relu_split.soundness import claims_of, values_of
from bounds.search.relu_tree import Refutation

#: How much larger than the rounding of a pass a bound has to be, so that others, who round
#: otherwise and whose l and u are rounded otherwise, see its sign too.
VISIBLE = 2.0**10
#: Numbers in the multipliers of refutations that are evaluated together.
TOGETHER = 2**20


@torch.no_grad()
def reserve(relaxation: Relaxation) -> Tensor:
    """What each row has to exceed for that, in float64; (batch, rows)."""
    whole = relaxation.double()
    with plain_arithmetic():
        last = len(whole.network.nodes) - 1
        dual = backward_pass(whole.network, whole.relu_bounds, last, whole.C, fixed, whole.ranges())
    assert dual.rounding is not None
    return VISIBLE * dual.rounding


def narrow(
    relaxation: Relaxation,
    rows: Sequence[int],
    refutations: Sequence[Refutation],
    *,
    earlier: Sequence[Refutation] = (),
) -> list[np.ndarray]:
    """The multipliers of each, flat and one ReLU after another, in float16, float32 or float64.

    relaxation: of one input, in float64. rows: of the disjunct. earlier: what they use.
    """
    whole = relaxation.take(torch.tensor([0]), torch.tensor(list(rows)))
    sizes = [neurons.lower[0].numel() for neurons in whole.relu_bounds]
    together = max(1, TOGETHER // max(1, sum(sizes)))
    found = []
    for first in range(0, len(refutations), together):
        part = refutations[first : first + together]
        claims = claims_of(whole, part, earlier)
        exact = torch.cat([claims.weights.new_zeros(len(part), 0), *claims.multipliers], 1)
        best = [each.numpy() for each in exact]
        for dtype in (torch.float32, torch.float16):
            rounded = exact.to(dtype)
            tried = replace(claims, multipliers=rounded.double().split(sizes, 1))
            positive = values_of(whole, len(part), tried.take, reserve=VISIBLE) > 0
            for number in positive.nonzero().flatten().tolist():
                best[number] = rounded[number].numpy()
        found += best
    return found
