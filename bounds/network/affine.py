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

    @property
    def elementwise(self) -> bool:
        """Whether W has at most one entry in each row and column: boxes map to boxes exactly."""
        return False

    @property
    @abstractmethod
    def fan_in(self) -> int:
        """How many products `linear` sums for a number at most; 0 where it only moves numbers."""

    @property
    @abstractmethod
    def fan_out(self) -> int:
        """The same for `adjoint`."""

    @property
    def inexact(self) -> float:
        """By what part of themselves the stored numbers may be off those of the model."""
        return 0.0

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


def optional(convert: Convert, tensor: Tensor | None) -> Tensor | None:
    """`tensor` converted, where there is one."""
    return None if tensor is None else convert(tensor)


@dataclass(frozen=True, eq=False)
class Linear(Affine):
    """y = weight · x + bias along the last axis; weight has shape (out, in)."""

    weight: Tensor
    bias: Tensor | None = None

    @property
    def fan_in(self) -> int:
        return self.weight.shape[1]

    @property
    def fan_out(self) -> int:
        return self.weight.shape[0]

    def linear(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def adjoint(self, y: Tensor) -> Tensor:
        return F.linear(y, self.weight.mT)

    def absolute(self) -> Linear:
        return replace(self, weight=self.weight.abs(), bias=None)

    @property
    def offset(self) -> Tensor | None:
        return self.bias

    def convert(self, convert: Convert) -> Linear:
        return replace(self, weight=convert(self.weight), bias=optional(convert, self.bias))


@dataclass(frozen=True, eq=False)
class Scale(Affine):
    """y = scale ∘ x + shift, elementwise; both broadcast to the sample's shape."""

    scale: Tensor
    shift: Tensor | None = None
    inexact: float = 0.0

    elementwise = True
    fan_in = fan_out = 1

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
        return replace(self, scale=convert(self.scale), shift=optional(convert, self.shift))


@dataclass(frozen=True, eq=False)
class Reshape(Affine):
    """The same numbers in another per-sample shape."""

    elementwise = True
    fan_in = fan_out = 0

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


@dataclass(frozen=True, eq=False)
class Transposed(Affine):
    """y = Wᵀ x + bias for the W of another operation, whose own bias plays no part.

    A transposed convolution is that of a convolution; padding is that of the `Select` that would
    take it off again. The bias broadcasts to output_shape.
    """

    operation: Affine
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        assert self.input_shape == self.operation.output_shape
        assert self.output_shape == self.operation.input_shape

    @property
    def elementwise(self) -> bool:
        return self.operation.elementwise

    @property
    def fan_in(self) -> int:
        return self.operation.fan_out

    @property
    def fan_out(self) -> int:
        return self.operation.fan_in

    def linear(self, x: Tensor) -> Tensor:
        return self.operation.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operation.linear(y)

    def absolute(self) -> Transposed:
        return replace(self, operation=self.operation.absolute(), bias=None)

    @property
    def offset(self) -> Tensor | None:
        return self.bias

    def convert(self, convert: Convert) -> Transposed:
        return replace(
            self, operation=self.operation.convert(convert), bias=optional(convert, self.bias)
        )


def transposed(operation: Affine, bias: Tensor | None = None) -> Transposed:
    """y = Wᵀ x + bias for the W of `operation`."""
    return Transposed(operation.output_shape, operation.input_shape, operation, bias)


def per_row(operation: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Apply a batched operation to a tensor of shape (batch, rows, *shape)."""
    images, count = rows.shape[:2]
    return torch.unflatten(operation(rows.flatten(0, 1)), 0, (images, count))


def row_sums(coefficients: Tensor, numbers: Tensor) -> Tensor:
    """⟨c, numbers⟩ for each row, (batch, rows): coefficients (batch, rows, *shape), numbers of each
    row, or (batch, 1, *shape) of each sample."""
    if numbers.shape[1] == 1:
        return torch.bmm(coefficients.flatten(2), numbers.flatten(2).mT).squeeze(2)
    return (coefficients * numbers).flatten(2).sum(2)
