"""Affine operations y = W x + b, each with its exact adjoint x* = Wᵀ y*.

Every operation acts on a batch of samples: a tensor of shape (batch, *input_shape) becomes one of
shape (batch, *output_shape). `linear` applies W alone, `forward` adds the bias, `adjoint` applies
Wᵀ, and `absolute` is the same operation with |W| and no bias, which is what interval arithmetic
needs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, ...]
Convert = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Affine(ABC):
    """An affine map between per-sample shapes. Instances are immutable."""

    input_shape: Shape
    output_shape: Shape

    #: Whether each output depends on one input alone, so that boxes map to boxes without loss.
    elementwise = False

    @abstractmethod
    def linear(self, x: Tensor) -> Tensor:
        """W x, for x of shape (batch, *input_shape)."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Wᵀ y, for y of shape (batch, *output_shape)."""

    @abstractmethod
    def absolute(self) -> Affine:
        """The same operation with |W| in place of W, and without the bias."""

    @property
    @abstractmethod
    def offset(self) -> Tensor | None:
        """The bias b, broadcastable to output_shape, or None where there is none."""

    @abstractmethod
    def convert(self, convert: Convert) -> Affine:
        """The same operation with `convert` applied to its tensors."""

    def forward(self, x: Tensor) -> Tensor:
        """W x + b."""
        y = self.linear(x)
        return y if self.offset is None else y + self.offset


def _optional(convert: Convert, tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else convert(tensor)


@dataclass(frozen=True, eq=False)
class Linear(Affine):
    """y = weight · x + bias along the last axis; weight has shape (out, in)."""

    weight: Tensor
    bias: Tensor | None = None

    def linear(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)

    def adjoint(self, y: Tensor) -> Tensor:
        return F.linear(y, self.weight.mT)

    def absolute(self) -> Linear:
        return replace(self, weight=self.weight.abs(), bias=None)

    @property
    def offset(self) -> Tensor | None:
        return self.bias

    def convert(self, convert: Convert) -> Linear:
        return replace(self, weight=convert(self.weight), bias=_optional(convert, self.bias))


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

    def linear(self, x: Tensor) -> Tensor:
        convolve = F.conv1d if self.weight.dim() == 3 else F.conv2d
        return convolve(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)

    def adjoint(self, y: Tensor) -> Tensor:
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

    def absolute(self) -> Convolution:
        return replace(self, weight=self.weight.abs(), bias=None)

    @property
    def offset(self) -> Tensor | None:
        return None if self.bias is None else self.bias.reshape(-1, *[1] * len(self.stride))

    def convert(self, convert: Convert) -> Convolution:
        return replace(self, weight=convert(self.weight), bias=_optional(convert, self.bias))


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


@dataclass(frozen=True, eq=False)
class Scale(Affine):
    """y = scale ∘ x + shift, elementwise; both broadcast to the sample's shape."""

    scale: Tensor
    shift: Tensor | None = None

    elementwise = True

    def linear(self, x: Tensor) -> Tensor:
        return x * self.scale

    def adjoint(self, y: Tensor) -> Tensor:
        return y * self.scale

    def absolute(self) -> Scale:
        return replace(self, scale=self.scale.abs(), shift=None)

    @property
    def offset(self) -> Tensor | None:
        return self.shift

    def convert(self, convert: Convert) -> Scale:
        return replace(self, scale=convert(self.scale), shift=_optional(convert, self.shift))


@dataclass(frozen=True, eq=False)
class Reshape(Affine):
    """The same numbers in another per-sample shape."""

    elementwise = True

    def __post_init__(self) -> None:
        assert math.prod(self.input_shape) == math.prod(self.output_shape)

    def linear(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self.output_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        return y.reshape(y.shape[0], *self.input_shape)

    def absolute(self) -> Reshape:
        return self

    @property
    def offset(self) -> None:
        return None

    def convert(self, convert: Convert) -> Reshape:
        return self


def per_row(operation: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Apply a batched operation to a tensor of shape (batch, rows, *shape)."""
    images, count = rows.shape[:2]
    return torch.unflatten(operation(rows.flatten(0, 1)), 0, (images, count))
