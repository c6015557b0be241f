"""Coefficients on a tensor that vanish outside a small window of it, a window a row.

A neuron of a convolution reads a window of the layer below it, whose neurons read a larger window
of the one below that. As long as the windows are smaller than the tensors, a backward pass that
starts from single neurons moves and computes only what is in them. What comes to a tensor on two
ways, as at a residual sum, goes on in windows that hold both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.network.affine import Shape, per_row
from bounds.network.convolution import Convolution

#: A convolution of windows is one matrix product where the matrix has at most this many entries for
#: each that is not zero, and in all: a product with a small matrix is so much faster than sums of
#: shifted parts.
FILL, ENTRIES = 8, 2**18


@dataclass(frozen=True)
class Extent:
    """Where windows lie on the spatial axes of a tensor: that of position p begins at first + step
    · p on each axis."""

    window: Shape
    step: Shape
    first: Shape

    @staticmethod
    def of_neurons(axes: int) -> Extent:
        """Each position by itself."""
        return Extent((1,) * axes, (1,) * axes, (0,) * axes)

    def read_by(self, operation: Convolution) -> Extent:
        """What `operation` reads for these windows of its result."""
        along = zip(
            self.window,
            self.step,
            self.first,
            operation.stride,
            operation.padding,
            operation.dilation,
            operation.weight.shape[2:],
            strict=True,
        )
        axes = [
            ((size - 1) * s + dilation * (kernel - 1) + 1, step * s, first * s - p)
            for size, step, first, s, p, dilation, kernel in along
        ]
        window, step, first = zip(*axes, strict=True)
        return Extent(window, step, first)

    def union(self, other: Extent) -> Extent | None:
        """The smallest windows that hold both; None where they move apart from position to
        position."""
        if self.step != other.step:
            return None
        first = tuple(map(min, self.first, other.first))
        last = tuple(map(max, self.end, other.end))
        return Extent(tuple(b - a for a, b in zip(first, last, strict=True)), self.step, first)

    @property
    def end(self) -> Shape:
        """Where the window of position 0 ends."""
        return tuple(a + size for a, size in zip(self.first, self.window, strict=True))


@dataclass(frozen=True, eq=False)
class Patches:
    """Rows of coefficients (batch, rows) on a tensor of per-sample shape (channels, *spatial).

    values: (batch, rows, channels, *window). places: (batch, rows), int64, the positions of the
    neurons that the rows began with, which lay on a grid of the shape `grid`, flattened. extent: of
    their windows, which may leave the tensor: coefficients there stand for padding, count for
    nothing, and need not be zero. inner: whether they are.
    """

    values: Tensor
    places: Tensor
    grid: Shape
    extent: Extent
    shape: Shape
    inner: bool = False

    @property
    def window(self) -> Shape:
        return self.extent.window

    def within(self, extent: Extent) -> Patches:
        """The same coefficients in windows that hold these."""
        ends: list[int] = []
        for first, end, new_first, new_end in zip(
            self.extent.first, self.extent.end, extent.first, extent.end, strict=True
        ):
            ends = [first - new_first, new_end - end, *ends]
        return replace(self, values=F.pad(self.values, ends), extent=extent) if any(ends) else self

    def plus(self, other: Patches) -> Patches:
        """The sum of both, of rows that began with the same neurons."""
        extent = self.extent.union(other.extent)
        assert extent is not None
        wider = self.within(extent)
        return replace(
            wider,
            values=wider.values + other.within(extent).values,
            inner=self.inner and other.inner,
        )

    def windows(self, numbers: Tensor) -> Tensor:
        """What each row's window shows of `numbers`, (batch, *shape) or (1, *shape), with zeros
        where it leaves the tensor; (batch, rows, channels, *window). One channel stands for all."""
        shown = _fitted(numbers, self._padding)
        if math.prod(self.grid) > 2 * self.places.shape[1] and len(numbers[0]) == self.shape[0]:
            flat = shown.flatten(1).expand(len(self.places), -1)
            return flat.gather(1, self._entries.flatten(1)).reshape(self.values.shape)
        # Most of the grid's windows are wanted, and moved whole rather than number by number.
        for axis, (size, step) in enumerate(zip(self.window, self.extent.step, strict=True)):
            shown = shown.unfold(2 + axis, size, step)
        axes = len(self.grid)
        channels_last = (0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes))
        shown = shown.permute(channels_last).flatten(0, axes)
        places = self.places
        if len(numbers) > 1:
            images = torch.arange(len(numbers), device=places.device).unsqueeze(1)
            places = places + math.prod(self.grid) * images
        chosen = shown.flatten(1).index_select(0, places.flatten())
        return chosen.reshape(*self.places.shape, *shown.shape[1:])

    def adjoint(self, operation: Convolution, matrices: Matrices) -> Patches:
        """The coefficients on what `operation` reads, of which these are on the result."""
        local = window_convolution(operation, self.window)
        reads, results = math.prod(local.input_shape), math.prod(local.output_shape)
        if reads <= FILL * local.fan_in and reads * results <= ENTRIES:
            matrix = matrices.of(operation, self.window)
            values = (self.values.flatten(2) @ matrix).unflatten(2, local.input_shape)
        else:
            values = per_row(local.adjoint, self.values)
        extent = self.extent.read_by(operation)
        return Patches(values, self.places, self.grid, extent, operation.input_shape)

    def times(self, numbers: Tensor) -> Patches:
        """Products with numbers of the tensor, as for `windows`, and zeros outside."""
        return replace(self, values=self.values * self.windows(numbers), inner=True)

    def inside(self) -> Patches:
        """The same, with zeros where the windows leave the tensor."""
        if self.inner or max(self._padding) <= 0:
            return self
        return self.times(self.values.new_ones(1, 1, *self.shape[1:]))

    def dense(self) -> Tensor:
        """The coefficients on the whole tensor; (batch, rows, *shape)."""
        channels, padded = self.shape[0], self._padded
        flat = self.values.new_zeros(*self.places.shape, channels * math.prod(padded))
        spread = flat.scatter(2, self._entries, self.values.flatten(2))
        spread = spread.unflatten(2, (channels, *padded))
        return _fitted(spread, tuple(-p for p in self._padding)).contiguous()

    @cached_property
    def _entries(self) -> Tensor:
        """The positions of each window's numbers in the flattened extent of all windows; (batch,
        rows, numbers)."""
        left = self.places
        entries = torch.arange(self.shape[0], device=left.device)
        for size, room in zip(self.window, self._padded, strict=True):
            entries = entries.unsqueeze(-1) * room + torch.arange(size, device=left.device)
        begins, stride = torch.zeros_like(left), 1
        for count, step, room in zip(
            reversed(self.grid), reversed(self.extent.step), reversed(self._padded), strict=True
        ):
            begins = begins + left % count * step * stride
            left = left // count
            stride *= room
        return begins.unsqueeze(2) + entries.flatten()

    @property
    def _padded(self) -> Shape:
        """The extent of all windows together."""
        return tuple(
            step * (count - 1) + size
            for step, count, size in zip(self.extent.step, self.grid, self.window, strict=True)
        )

    @property
    def _padding(self) -> tuple[int, ...]:
        """What `F.pad` needs to make of the tensor the extent of all windows; negative: it cuts."""
        ends: list[int] = []
        for first, room, size in zip(self.extent.first, self._padded, self.shape[1:], strict=True):
            ends = [-first, first + room - size, *ends]
        return tuple(ends)


def _fitted(tensor: Tensor, padding: Sequence[int]) -> Tensor:
    """As `F.pad`, which copies where there is nothing to add, and fails where it cuts too much:
    windows may lie outside the tensor altogether."""
    if max(padding) > 0:
        tensor = F.pad(tensor, tuple(max(p, 0) for p in padding))
    for axis, ends in enumerate(zip(padding[::2], padding[1::2], strict=True)):
        begin, end = (max(-p, 0) for p in ends)
        if begin or end:
            size = tensor.shape[-1 - axis]
            tensor = tensor.narrow(-1 - axis, begin, size - begin - end)
    return tensor


def neuron_patches(
    operation: Convolution, neurons: Tensor, sign: float, matrices: Matrices
) -> Patches:
    """The coefficients on what `operation` reads that sign · its results have, for single neurons.

    neurons: (batch, rows), int64, positions in the flattened result.
    """
    grid = operation.output_shape[1:]
    places, alone = math.prod(grid), Extent.of_neurons(len(grid))
    local = window_convolution(operation, alone.window)
    rows = matrices.of(operation, alone.window)
    values = (sign * rows).index_select(0, (neurons // places).flatten())
    return Patches(
        values.reshape(*neurons.shape, *local.input_shape),
        neurons % places,
        grid,
        alone.read_by(operation),
        operation.input_shape,
    )


def one_hot_patches(shape: Shape, neurons: Tensor, sign: float, like: Tensor) -> Patches:
    """The coefficients `sign` at single neurons (batch, rows) of a tensor of that shape."""
    channels, *grid = shape
    places, axes = math.prod(grid), len(grid)
    values = torch.zeros(*neurons.shape, channels, dtype=like.dtype, device=like.device)
    values = values.scatter(2, (neurons // places).unsqueeze(2), sign)
    values = values.reshape(*values.shape, *[1] * axes)
    return Patches(values, neurons % places, tuple(grid), Extent.of_neurons(axes), shape)


class Matrices:
    """Those of convolutions on windows, for as many passes as go through them."""

    def __init__(self) -> None:
        self._known: dict[tuple[Convolution, Shape], Tensor] = {}

    def of(self, operation: Convolution, window: Shape) -> Tensor:
        """W of the part that computes such a window of the result."""
        if (operation, window) not in self._known:
            local = window_convolution(operation, window)
            self._known[operation, window] = window_matrix(local)
        return self._known[operation, window]


def window_convolution(operation: Convolution, window: Shape) -> Convolution:
    """The part of `operation` that computes a window of its result, from the window that reads."""
    axes = len(window)
    reads = Extent(window, (1,) * axes, (0,) * axes).read_by(operation)
    return replace(
        operation,
        input_shape=(operation.input_shape[0], *reads.window),
        output_shape=(operation.output_shape[0], *window),
        bias=None,
        padding=(0,) * axes,
    )


def window_matrix(local: Convolution) -> Tensor:
    """W of a convolution, as a matrix."""
    outputs, weight = math.prod(local.output_shape), local.weight
    rows = torch.eye(outputs, dtype=weight.dtype, device=weight.device)
    return local.adjoint(rows.unflatten(1, local.output_shape)).flatten(1)
