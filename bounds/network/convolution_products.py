"""Two-dimensional convolutions as matrix products, on the CPU faster than torch's own kernels.

`bounds.rounding.plain_arithmetic` switches off the libraries that may transform numbers before they
multiply them. What torch computes by itself then takes one sample at a time. Here one product takes
many, and adds up the same products in another order. Neither dilation nor groups. Gradients are
torch's own: nothing is proved of them, so that they may use the fast libraries.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.network.affine import Shape
from bounds.network.memory import Numbers, on_cpu

#: Numbers of the windows that are copied at a time.
WINDOWS = Numbers(cpu=2**20, device=2**28)
#: From so many neighbouring sums on it pays to add up whole blocks of them.
BLOCK = 16
#: With fewer channels all blocks are filled up with zeros: to add a few numbers here and there
#: costs more than products with zeros.
CHANNELS = 8
#: Bytes of such sums that a CPU's core adds up at a time: half of what its own cache holds.
SUMS = 2**19


def correlate(x: Tensor, weight: Tensor, stride: Shape, padding: Shape) -> Tensor:
    """conv2d(x, weight), (samples, channels, height, width)."""
    return _Correlate.apply(x, weight, stride, padding)


def scatter(y: Tensor, weight: Tensor, stride: Shape, padding: Shape, shape: Shape) -> Tensor:
    """The adjoint: conv_transpose2d(y, weight), for samples of `shape`."""
    return _Scatter.apply(y, weight, stride, padding, shape)


class _Correlate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Shape, padding: Shape) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options = stride, padding, (1, 1), False, (0, 0), 1
        return _correlate(x, weight, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *_gradients(ctx, grad), None, None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, weight: Tensor, stride: Shape, padding: Shape, shape: Shape
    ) -> Tensor:
        ctx.save_for_backward(y, weight)
        # The rows and columns that the stride never reached.
        unreached = tuple(
            size - ((out - 1) * step - 2 * pad + kernel)
            for size, out, step, pad, kernel in zip(
                shape[1:], y.shape[2:], stride, padding, weight.shape[2:], strict=True
            )
        )
        ctx.options = stride, padding, (1, 1), True, unreached, 1
        return _scatter(y, weight, stride, padding, shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *_gradients(ctx, grad), None, None, None


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    wanted = [*ctx.needs_input_grad[:2], False]
    plain = map(_row_major, (grad, *ctx.saved_tensors))
    found = torch.ops.aten.convolution_backward(*plain, None, *ctx.options, wanted)
    return found[0], found[1]


def _row_major(numbers: Tensor) -> Tensor:
    """With the strides of its shape, along axes of length 1, too. By those of channels_last, oneDNN
    reads what is no number of a transposed convolution (torch 2.13), for which they count."""
    return numbers.contiguous().flatten().view(numbers.shape)


def _correlate(x: Tensor, weight: Tensor, stride: Shape, padding: Shape) -> Tensor:
    """The kernel's windows side by side."""
    high, wide = weight.shape[2:]
    (down, right), (above, left) = stride, padding
    places = F.pad(x, (left, left, above, above)).permute(0, 2, 3, 1)
    if on_cpu(x):
        places = places.contiguous()  # windows are copied faster then
    windows = places.unfold(1, high, down).unfold(2, wide, right)
    matrix = weight.permute(2, 3, 1, 0).flatten(0, 2)
    size = math.prod(windows.shape[1:])
    parts = [
        part.permute(0, 1, 2, 4, 5, 3).flatten(3) @ matrix
        for part in windows.split(max(1, WINDOWS.on(x) // size))
    ]
    found = parts[0] if len(parts) == 1 else torch.cat(parts)
    return found.permute(0, 3, 1, 2).contiguous()


def _scatter(y: Tensor, weight: Tensor, stride: Shape, padding: Shape, shape: Shape) -> Tensor:
    """The kernel in blocks of the size of the stride, where that is large, one after the other."""
    channels, high, wide = weight.shape[1:]
    down, right = stride
    if down * right * channels < BLOCK or not on_cpu(y):  # elsewhere what counts is to be few
        products = weight.flatten(1).mT @ y.flatten(2)
        return F.fold(products, shape[1:], (high, wide), padding=padding, stride=stride)
    # The kernel in blocks of the size of the stride: what a block adds to lies side by side.
    if channels < CHANNELS:
        weight = F.pad(weight, (0, -wide % right, 0, -high % down))
    blocks = [
        [block.permute(0, 2, 3, 1) for block in line.split(right, 3)]
        for line in weight.split(down, 2)
    ]
    found = y.new_empty(len(y), *shape)
    sums = math.prod(shape) * y.element_size()
    together = max(1, SUMS * torch.get_num_threads() // sums)
    for first in range(0, len(y), together):
        some = slice(first, first + together)
        image = _scatter_blocks(y[some], blocks, stride)
        found[some] = _fitting(image, padding, shape).permute(0, 3, 1, 2)
    return found


def _scatter_blocks(y: Tensor, blocks: list[list[Tensor]], stride: Shape) -> Tensor:
    """(samples, height, width, channels), padding included, from blocks of (outputs, down, right,
    channels), of which the last ones may be smaller than the stride."""
    down, right = stride
    samples, outputs, rows, columns = y.shape
    channels = blocks[0][0].shape[3]
    places = y.permute(0, 2, 3, 1).reshape(-1, outputs)
    total = y.new_zeros(
        samples, rows + len(blocks) - 1, columns + len(blocks[0]) - 1, down, right * channels
    )
    for i, line in enumerate(blocks):
        for j, block in enumerate(line):
            high, wide = block.shape[1], block.shape[2] * channels
            part = (places @ block.flatten(1)).view(samples, rows, columns, high, wide)
            total[:, i : i + rows, j : j + columns, :high, :wide] += part
    # (samples, rows, columns, down, right · channels) to (samples, height, width, channels)
    image = total.permute(0, 1, 3, 2, 4)
    return image.reshape(samples, total.shape[1] * down, total.shape[2] * right, channels)


def _fitting(image: Tensor, padding: Shape, shape: Shape) -> Tensor:
    """Off with the padding, and zeros where the stride never reached."""
    (above, left), (height, width) = padding, shape[1:]
    missing = max(0, above + height - image.shape[1]), max(0, left + width - image.shape[2])
    if any(missing):
        image = F.pad(image, (0, 0, 0, missing[1], 0, missing[0]))
    return image[:, above : above + height, left : left + width]
