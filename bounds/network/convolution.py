"""Convolution as an affine operation; transposed, it is the transposed convolution."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.network import onednn
from bounds.network.affine import Affine, Convert, Shape, optional
from bounds.network.convolution_products import correlate, scatter
from bounds.network.memory import on_cpu


@dataclass(frozen=True, eq=False)
class Convolution(Affine):
    """Cross-correlation in one or two dimensions with zero padding, as torch's conv1d and conv2d.

    weight has shape (out_channels, in_channels / groups, *kernel); stride, padding and dilation
    have one entry a spatial axis, and the same padding stands on both sides of it.
    """

    weight: Tensor
    bias: Tensor | None
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int

    @property
    def fan_in(self) -> int:
        return self.weight[0].numel()

    @property
    def fan_out(self) -> int:
        return self.weight[:, 0].numel() // self.groups

    def linear(self, x: Tensor) -> Tensor:
        options = self.stride, self.padding, self.dilation, self.groups
        if onednn.is_direct(x, tuple(self.weight.shape), *options):
            return onednn.correlate(x, self.weight, *options)
        # What torch has without oneDNN and cuDNN takes one sample at a time. On a CPU that is up to
        # three times as slow with strides in float32, as fast in float64, and faster without.
        strides_in_float32 = x.dtype == torch.float32 and max(self.stride) > 1
        if self._common and (strides_in_float32 or not on_cpu(x)):
            return correlate(x, self.weight, self.stride, self.padding)
        convolve = F.conv1d if self.weight.dim() == 3 else F.conv2d
        return convolve(x, self.weight, None, *options)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return y if self.offset is None else y.add_(self.offset)  # of its own

    def adjoint(self, y: Tensor) -> Tensor:
        if self._common:
            outputs, inputs, *size = self.weight.shape
            rest = tuple(k - 1 - p for k, p in zip(size, self.padding, strict=True))
            spread = max(self.stride) > 1 or onednn.spreads_slowly(inputs, self.stride)
            if not spread and min(rest) >= 0:
                # A convolution, too, with the kernel turned round.
                options = self.stride, rest, self.dilation, self.groups
                if onednn.is_direct(y, (inputs, outputs, *size), *options):
                    turned = self.weight.flip(2, 3).transpose(0, 1)
                    return onednn.correlate(y, turned, *options)
            return scatter(y, self.weight, self.stride, self.padding, self.input_shape)
        transpose = F.conv_transpose1d if self.weight.dim() == 3 else F.conv_transpose2d
        # The rows and columns that the stride never reached: the adjoint has zeros there.
        unreached = tuple(
            size - ((out - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
            for size, out, stride, padding, dilation, kernel in zip(
                self.input_shape[1:],
                self.output_shape[1:],
                self.stride,
                self.padding,
                self.dilation,
                self.weight.shape[2:],
                strict=True,
            )
        )
        return transpose(
            y, self.weight, None, self.stride, self.padding, unreached, self.groups, self.dilation
        )

    @property
    def _common(self) -> bool:
        """Whether it is one of the many that `bounds.network.convolution_products` computes."""
        return self.weight.dim() == 4 and self.dilation == (1, 1) and self.groups == 1

    def absolute(self) -> Convolution:
        return replace(self, weight=self.weight.abs(), bias=None)

    @property
    def offset(self) -> Tensor | None:
        return None if self.bias is None else self.bias.reshape(-1, *[1] * len(self.stride))

    def convert(self, convert: Convert) -> Convolution:
        return replace(self, weight=convert(self.weight), bias=optional(convert, self.bias))


def convolution_output_shape(
    input_shape: Shape, weight: Tensor, stride: Shape, padding: Shape, dilation: Shape
) -> Shape:
    """The shape (channels, *spatial) that a convolution of these parameters gives."""
    spatial = tuple(
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(
            input_shape[1:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    )
    return (weight.shape[0], *spatial)
