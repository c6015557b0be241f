"""The affine operations of a network as matrices, by index arithmetic on their raw parameters.

Samples are flattened in C order, and each row of an array is one. Nothing here calls what the
operations of `bounds` compute: only their parameters are read.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from bounds.checker.arithmetic import Arithmetic, Array
from bounds.errors import UnsupportedLayerError
from bounds.network.affine import Affine, Linear, Reshape, Scale, Transposed
from bounds.network.convolution import Convolution
from bounds.network.indexing import Select
from bounds.network.sparse import SparseLinear

#: np.abs for the same operation with |W| in place of W.
Change = Callable[[np.ndarray], np.ndarray]


class Matrix(ABC):
    """W of y = W x."""

    #: How many numbers a product makes for each row besides x and y.
    between = 0
    #: How many products a number of `forward` is the sum of at most, and one of `backward`; 0 where
    #: they are only moved.
    terms = (0, 0)

    @abstractmethod
    def forward(self, x: Array) -> Array:
        """W x, for the rows x of (rows, inputs)."""

    @abstractmethod
    def backward(self, y: Array) -> Array:
        """Wᵀ y, for the rows y of (rows, outputs)."""


def matrix(operation: Affine, arithmetic: Arithmetic, change: Change = np.asarray) -> Matrix:
    """W of an operation, with its weights changed.

    Raises:
        UnsupportedLayerError: an operation that has no matrix here.
    """
    match operation:
        case Linear():
            return Dense(arithmetic, change(_float64(operation.weight)))
        case SparseLinear():
            return matrix(operation.dense, arithmetic, change)
        case Convolution():
            return Patches(arithmetic, change(_float64(operation.weight)), operation)
        case Scale():
            factors = np.broadcast_to(_float64(operation.scale), operation.input_shape).ravel()
            if (factors == 1).all():
                return Identity()
            return Diagonal(arithmetic.numbers(change(factors)))
        case Reshape():
            return Identity()
        case Select():
            index = operation.index.cpu().numpy().ravel()
            return Selection(arithmetic, index, math.prod(operation.input_shape))
        case Transposed():
            return Transpose(matrix(operation.operation, arithmetic, change))
    raise UnsupportedLayerError(
        f"the checker got the operation {type(operation).__name__}, expected Linear, Convolution, "
        "Scale, Reshape, Select or Transposed: add its matrix to bounds/checker/operations.py."
    )


def bias(operation: Affine) -> np.ndarray:
    """b of y = W x + b, (outputs,), in float64."""
    match operation:
        case (
            Linear(bias=Tensor() as tensor)
            | SparseLinear(bias=Tensor() as tensor)
            | Transposed(bias=Tensor() as tensor)
        ):
            numbers = _float64(tensor)
        case Scale(shift=Tensor() as tensor):
            numbers = _float64(tensor)
        case Convolution(bias=Tensor() as tensor):
            numbers = _float64(tensor).reshape(-1, *[1] * (len(operation.output_shape) - 1))
        case _:
            numbers = np.zeros(())
    return np.broadcast_to(numbers, operation.output_shape).ravel()


def _float64(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


class Dense(Matrix):
    """One weight (out, in) along the last axis of a sample, whose other axes are copies."""

    def __init__(self, arithmetic: Arithmetic, weight: np.ndarray) -> None:
        self.arithmetic, (self.outputs, self.inputs) = arithmetic, weight.shape
        # What is multiplied by 0 is no part of a sum.
        entries = weight != 0
        self.terms = max(1, int(entries.sum(1).max())), max(1, int(entries.sum(0).max()))
        self.weight = arithmetic.constant(weight)
        self.transposed = arithmetic.constant(weight.T)

    def forward(self, x: Array) -> Array:
        y = self.arithmetic.product(x.reshape(-1, self.inputs), self.transposed)
        return y.reshape(len(x), -1)

    def backward(self, y: Array) -> Array:
        x = self.arithmetic.product(y.reshape(-1, self.outputs), self.weight)
        return x.reshape(len(y), -1)


class Patches(Matrix):
    """A convolution: at each place of the output, one dense weight on a patch of the input.

    read: (kernel offsets, output places), the input place that each offset reads at each place; one
    past the last where that lies in the padding.
    """

    def __init__(self, arithmetic: Arithmetic, weight: np.ndarray, operation: Convolution) -> None:
        self.arithmetic, self.groups = arithmetic, operation.groups
        self.channels, *sizes = operation.input_shape
        self.input_places = math.prod(sizes)
        kernel, places = weight.shape[2:], operation.output_shape[1:]
        read = np.zeros((math.prod(kernel), math.prod(places)), dtype=np.int64)
        inside = np.ones(read.shape, dtype=bool)
        for axis, size in enumerate(sizes):
            offset = np.indices(kernel)[axis].reshape(-1, 1) * operation.dilation[axis]
            place = np.indices(places)[axis].reshape(1, -1) * operation.stride[axis]
            position = place + offset - operation.padding[axis]
            read = read * size + position
            inside &= (position >= 0) & (position < size)
        self.read = np.where(inside, read, self.input_places)
        #: Of each group: (its input channels · offsets, its output channels).
        split = weight.reshape(self.groups, len(weight) // self.groups, -1)
        self.weights = [arithmetic.constant(part.T) for part in split]
        self.transposed = [arithmetic.constant(part) for part in split]
        self.between = self.read.size * self.channels
        self.terms = self.weights[0].nrows(), self.weights[0].ncols() * len(self.read)

    def forward(self, x: Array) -> Array:
        rows = len(x)
        padded = np.concatenate(
            (
                x.reshape(rows, self.channels, self.input_places),
                self.arithmetic.zeros(rows, self.channels, 1),
            ),
            axis=2,
        )
        outputs = []
        for part, weight in zip(np.split(padded, self.groups, 1), self.weights, strict=True):
            # From (row, channel, offset, place) to one line a row and place.
            patches = np.moveaxis(part[:, :, self.read], 3, 1)
            y = self.arithmetic.product(patches.reshape(-1, weight.nrows()), weight)
            outputs.append(np.moveaxis(y.reshape(rows, -1, weight.ncols()), 2, 1))
        return np.concatenate(outputs, axis=1).reshape(rows, -1)

    def backward(self, y: Array) -> Array:
        rows, (offsets, places) = len(y), self.read.shape
        parts = np.split(y.reshape(rows, -1, places), self.groups, 1)
        inputs = []
        for part, weight in zip(parts, self.transposed, strict=True):
            # A row that starts at one neuron is 0 at most places.
            row, place = np.nonzero(np.asarray(part != 0, dtype=bool).any(axis=1))
            patches = self.arithmetic.product(part[row, :, place], weight)
            patches = patches.reshape(len(row), weight.ncols() // offsets, offsets)
            x = self.arithmetic.zeros(rows, patches.shape[1], self.input_places)
            # One offset reads no place of the input twice, so that no addition is lost.
            for offset in range(offsets):
                read = self.read[offset, place]
                inside = np.flatnonzero(read < self.input_places)
                x[row[inside], :, read[inside]] += patches[inside, :, offset]
            inputs.append(x)
        whole = inputs[0] if len(inputs) == 1 else np.concatenate(inputs, axis=1)
        return whole.reshape(rows, -1)


@dataclass(frozen=True)
class Diagonal(Matrix):
    """A factor a number."""

    factors: Array

    terms = (1, 1)

    def forward(self, x: Array) -> Array:
        return x * self.factors

    def backward(self, y: Array) -> Array:
        return y * self.factors


class Identity(Matrix):
    """The same numbers: samples are flat already."""

    def forward(self, x: Array) -> Array:
        return x

    def backward(self, y: Array) -> Array:
        return y


@dataclass(frozen=True)
class Selection(Matrix):
    """Output i is input index[i]."""

    arithmetic: Arithmetic
    index: np.ndarray
    inputs: int

    @property
    def terms(self) -> tuple[int, int]:  # type: ignore[override]
        return 0, int(np.bincount(self.index, minlength=1).max())

    def forward(self, x: Array) -> Array:
        return x[:, self.index]

    def backward(self, y: Array) -> Array:
        x = self.arithmetic.zeros(self.inputs, len(y))
        np.add.at(x, self.index, y.T)  # which adds up what an index that stands twice receives
        return x.T


@dataclass(frozen=True)
class Transpose(Matrix):
    """Wᵀ for the W of another."""

    matrix: Matrix

    @property
    def between(self) -> int:  # type: ignore[override]
        return self.matrix.between

    @property
    def terms(self) -> tuple[int, int]:  # type: ignore[override]
        forward, backward = self.matrix.terms
        return backward, forward

    def forward(self, x: Array) -> Array:
        return self.matrix.backward(x)

    def backward(self, y: Array) -> Array:
        return self.matrix.forward(y)
