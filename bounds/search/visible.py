"""Bounds that others can see to be positive, whose passes round otherwise: what proofs consist of.

Any ν is valid, so that multipliers may be rounded as far as their value stays positive by that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import fixed
from bounds.relaxation.ranges import ranges
from bounds.relaxation.relaxation import Relaxation
from bounds.rounding import down, plain_arithmetic
from bounds.search.relu_tree import Refutation

#: How much larger than the rounding of a pass a bound has to be, so that others, who round
#: otherwise and whose l and u are rounded otherwise, see its sign too.
VISIBLE = 2.0**10
#: Refutations that are evaluated together.
TOGETHER = 64


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
    relaxation: Relaxation, rows: Sequence[int], refutations: Sequence[Refutation]
) -> list[np.ndarray]:
    """The multipliers of each, flat and one ReLU after another, in float16, float32 or float64.

    relaxation: of one input, in float64. rows: of the disjunct.
    """
    found = []
    for first in range(0, len(refutations), TOGETHER):
        part = refutations[first : first + TOGETHER]
        exact = torch.stack([_flat(one) for one in part])
        best = [each.numpy() for each in exact]
        for dtype in (torch.float32, torch.float16):
            rounded = exact.to(dtype)
            positive = _visible(relaxation, rows, part, rounded.double()) > 0
            for number in positive.nonzero().flatten().tolist():
                best[number] = rounded[number].numpy()
        found += best
    return found


def _flat(one: Refutation) -> Tensor:
    return torch.cat([torch.zeros(0, dtype=torch.float64), *one.multipliers])


@torch.no_grad()
def _visible(
    relaxation: Relaxation, rows: Sequence[int], part: Sequence[Refutation], flat: Tensor
) -> Tensor:
    """By how much the values of these refutations are above what rounding can hide; (count,)."""
    network, count = relaxation.network, len(part)
    whole = relaxation.take(torch.zeros(count, dtype=torch.int64), torch.tensor(rows))
    sizes = [neurons.lower[0].numel() for neurons in whole.relu_bounds]
    phases = [torch.zeros(count, size, dtype=flat.dtype) for size in sizes]
    for number, one in enumerate(part):
        for (k, i), sign in one.phases.items():
            phases[k][number, i] = sign
    layers = [
        neurons.kept(each.reshape(neurons.lower.shape)) if bool(each.any()) else neurons
        for neurons, each in zip(whole.relu_bounds, phases, strict=True)
    ]
    nu = [
        each.reshape(count, 1, *neurons.lower.shape[1:])
        for each, neurons in zip(flat.split(sizes, 1), layers, strict=True)
    ]
    weights = torch.stack([one.weights for one in part]).to(flat)
    C = torch.einsum("ir,ir...->i...", weights, whole.C).unsqueeze(1)
    d = (weights * whole.d).sum(1, keepdim=True)
    with plain_arithmetic():
        within = ranges(network, whole.input_set, whole.relu_bounds, implied=True)
        last = len(network.nodes) - 1
        dual = backward_pass(network, layers, last, C, lambda k, *_: nu[k], within)
        assert dual.rounding is not None
        value = dual.value_below(whole.input_set, layers, d)
    return down(value - VISIBLE * dual.rounding).squeeze(1).nan_to_num(-torch.inf)
