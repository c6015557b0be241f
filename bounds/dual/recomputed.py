"""Passes whose graphs are too large to keep for gradients: computed again where those are not 0.

Most passes of a layer show that a neuron is stable, after which its bounds matter no more. Their
gradients are 0, so that only the few others are computed twice, and nothing is kept meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bounds.rounding import plain_arithmetic

#: Some of the results: their positions among all, flattened; numbers below and above each.
Part = tuple[Tensor, Tensor, Tensor]
#: Given the tensors that gradients flow to, which results are wanted, and whether that is for the
#: first time, when some may be left out: those, in parts.
Passes = Callable[[Sequence[Tensor], Tensor, bool], Iterator[Part]]

#: Numbers that are kept for gradients where most are 0, and where none is: there all is computed
#: twice that is not kept.
KEPT, ALL_KEPT = 2**25, 2**27


def recomputed(
    passes: Passes,
    tensors: Sequence[Tensor],
    wanted: Tensor,
    numbers: int,
    *,
    all_matter: bool = False,
) -> tuple[Tensor, Tensor]:
    """Numbers below and above what is wanted, infinite elsewhere; both of the shape of `wanted`.

    wanted: bools. numbers: how many each result would keep for gradients.
    all_matter: whether the gradients of few are 0.
    """
    kept = ALL_KEPT if all_matter else KEPT
    if not torch.is_grad_enabled() or int(wanted.sum()) * numbers <= kept:
        return _merged(passes(tensors, wanted, True), wanted, tensors[0])
    lower, upper = _Recomputed.apply(passes, wanted, *tensors)
    return lower, upper


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, passes: Passes, wanted: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.passes = passes
        ctx.save_for_backward(wanted, *tensors)
        return _merged(passes(tensors, wanted, True), wanted, tensors[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_lower: Tensor, to_upper: Tensor) -> tuple[Tensor | None, ...]:
        wanted, *tensors = ctx.saved_tensors
        leaves = [
            tensor.detach().requires_grad_(needed)
            for tensor, needed in zip(tensors, ctx.needs_input_grad[2:], strict=True)
        ]
        wanted = wanted & ((to_lower != 0) | (to_upper != 0))
        to_lower, to_upper = to_lower.flatten(), to_upper.flatten()
        with torch.enable_grad(), plain_arithmetic():
            for places, lower, upper in ctx.passes(leaves, wanted, False):
                if not lower.requires_grad:  # only layers further up ask for gradients
                    continue
                gradients = to_lower[places], to_upper[places]
                # What the parts have in common is passed once for each.
                torch.autograd.backward((lower, upper), gradients, retain_graph=True)
        return None, None, *(leaf.grad for leaf in leaves)


def _merged(parts: Iterator[Part], wanted: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    found = list(parts)

    def merge(values: int, otherwise: float) -> Tensor:
        result = torch.full((wanted.numel(),), otherwise, dtype=like.dtype, device=like.device)
        if found:
            places = torch.cat([part[0] for part in found])
            result = result.scatter(0, places, torch.cat([part[values] for part in found]))
        return result.reshape(wanted.shape)

    return merge(1, -math.inf), merge(2, math.inf)
