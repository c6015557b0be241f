"""oneDNN's float32 convolutions, where they are seen to sum window by window.

`bounds.rounding` knows how far a sum of products can be off, whatever its order, and nothing of
sums of what was transformed before (Winograd, Fourier). torch asks oneDNN for its direct algorithm,
which is several times as fast as what torch has without it. That a kernel is direct shows in what
it computes: one infinite number spoils the sums that it is a term of and no others, and a weight of
a single 1 moves numbers without rounding them. Each kind of convolution is tried once.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.network.affine import Shape
from bounds.network.convolution_products import scatter
from bounds.network.followed import followed
from bounds.network.memory import on_cpu

#: Samples of a trial at most: other numbers of them make no other algorithm.
SAMPLES = 4


def is_direct(
    x: Tensor, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, groups: int
) -> bool:
    """Whether `correlate` of x and a weight of its dtype and the shape `kernel` adds up products,
    window by window."""
    if not (
        on_cpu(x)
        and x.dtype == torch.float32
        and len(kernel) == 4
        and min(x.numel(), math.prod(kernel)) > 0
        and torch.backends.mkldnn.is_available()
        and _full_precision()
        and not followed(x)
    ):
        return False
    samples = min(SAMPLES, len(x))
    options = stride, padding, dilation, groups
    return _tried((samples, *x.shape[1:]), kernel, *options)


def correlate(
    x: Tensor, weight: Tensor, stride: Shape, padding: Shape, dilation: Shape, groups: int
) -> Tensor:
    """conv2d(x, weight), (samples, channels, height, width), whatever torch has switched off."""
    operands = x.contiguous(), weight.contiguous()
    common = dilation == (1, 1) and groups == 1
    if x.requires_grad and common and spreads_slowly(x.shape[1], stride):
        return _OfFewChannels.apply(*operands, stride, padding)
    return torch.mkldnn_convolution(*operands, None, padding, stride, dilation, groups)


def spreads_slowly(channels: int, stride: Shape) -> bool:
    """Whether `convolution_products.scatter` to so few channels takes less time than oneDNN, which
    computes eight or more at a time."""
    return channels <= 2 * max(stride)


class _OfFewChannels(torch.autograd.Function):
    """The same, with a gradient of x that oneDNN has no part in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Shape, padding: Shape) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options = stride, padding
        return torch.mkldnn_convolution(x, weight, None, padding, stride, (1, 1), 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (stride, padding) = ctx.saved_tensors, ctx.options
        of_x = scatter(grad, weight, stride, padding, tuple(x.shape[1:]))
        of_weight = None
        if ctx.needs_input_grad[1]:
            options = stride, padding, (1, 1), False, (0, 0), 1, [False, True, False]
            _, of_weight, _ = torch.ops.aten.convolution_backward(
                grad.contiguous(), x, weight, None, *options
            )
        return of_x, of_weight, None, None


def _full_precision() -> bool:
    """Whether nobody asked for TF32 or bfloat16 inside of convolutions, as torch 2.9 lets one."""
    kind = getattr(torch.backends.mkldnn, "conv", None)
    return kind is None or kind.fp32_precision in ("none", "ieee")


@lru_cache(maxsize=4096)
def _tried(
    shape: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, groups: int
) -> bool:
    options = stride, padding, dilation, groups
    dice = torch.Generator().manual_seed(0)
    numbers = torch.rand(shape, generator=dice, device="cpu", dtype=torch.float32)
    ones = torch.ones(kernel, device="cpu", dtype=torch.float32)
    # In each sample one place, with all of its channels.
    places = torch.zeros(shape[0], math.prod(shape[2:]), device="cpu", dtype=torch.float32)
    sample = torch.arange(shape[0], device="cpu")
    places[sample, (sample + 1) * 7919 % places.shape[1]] = 1.0
    places = places.reshape(-1, 1, *shape[2:]).expand(shape)
    spoilt = correlate(numbers.masked_fill(places > 0, math.inf), ones, *options)
    # In each output channel one weight that is not 0.
    single = torch.zeros(kernel, device="cpu", dtype=torch.float32).flatten(1)
    output = torch.arange(len(single), device="cpu")
    single[output, output * 7919 % single.shape[1]] = 1.0
    single = single.reshape(kernel)
    moved = correlate(numbers, single, *options)
    # oneDNN has no float64.
    touched = F.conv2d(places.double(), ones.double(), None, *options) > 0
    exact = F.conv2d(numbers.double(), single.double(), None, *options)
    return (
        torch.equal(spoilt.isinf(), touched)
        and bool(spoilt[~touched].isfinite().all())
        and torch.equal(moved.double(), exact)
    )
