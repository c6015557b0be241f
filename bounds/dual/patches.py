"""Coefficients on a tensor that vanish outside a small window of it, a window a row.

A neuron of a convolution reads a window of the layer below it, whose neurons read a larger window
of the one below that. As long as the windows are smaller than the tensors, a backward pass that
starts from single neurons moves and computes only what is in them.
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
#: each that is not zero: a matrix product is so much faster than sums of shifted parts.
FILL = 8


@dataclass(frozen=True, eq=False)
class Patches:
    """Rows of coefficients (batch, rows) on a tensor of per-sample shape (channels, *spatial).

    values: (batch, rows, channels, *window). places: (batch, rows), int64, the positions of the
    neurons that the rows began with, which lay on a grid of the shape `grid`, flattened. On each
    spatial axis the window of position p begins at first + step · p, outside the tensor perhaps:
    coefficients there stand for padding, count for nothing, and need not be zero.
    """

    values: Tensor
    places: Tensor
    grid: Shape
    step: Shape
    first: Shape
    shape: Shape

    @property
    def window(self) -> Shape:
        return tuple(self.values.shape[3:])

    def windows(self, numbers: Tensor) -> Tensor:
        """What each row's window shows of `numbers`, (batch, *shape) or (1, *shape), with zeros
        where it leaves the tensor; (batch, rows, channels, *window)."""
        shown = _fitted(numbers, self._padding)
        if math.prod(self.grid) > 2 * self.places.shape[1]:
            flat = shown.flatten(1).expand(len(self.places), -1)
            return flat.gather(1, self._entries.flatten(1)).reshape(self.values.shape)
        # Most of the grid's windows are wanted, and moved whole rather than number by number.
        for axis, (size, step) in enumerate(zip(self.window, self.step, strict=True)):
            shown = shown.unfold(2 + axis, size, step)
        axes = len(self.grid)
        channels_last = (0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes))
        shown = shown.permute(channels_last).flatten(0, axes)
        places = self.places
        if len(numbers) > 1:
            images = torch.arange(len(numbers), device=places.device).unsqueeze(1)
            places = places + math.prod(self.grid) * images
        chosen = shown.flatten(1).index_select(0, places.flatten())
        return chosen.reshape(self.values.shape)

    def adjoint(self, operation: Convolution) -> Patches:
        """The coefficients on what `operation` reads, of which these are on the result."""
        local = window_convolution(operation, self.window)
        if math.prod(local.input_shape) <= FILL * local.fan_in:
            values = (self.values.flatten(2) @ window_matrix(local, self.values)).unflatten(
                2, local.input_shape
            )
        else:
            values = per_row(local.adjoint, self.values)
        return Patches(
            values,
            self.places,
            self.grid,
            tuple(step * s for step, s in zip(self.step, operation.stride, strict=True)),
            tuple(
                first * s - p
                for first, s, p in zip(self.first, operation.stride, operation.padding, strict=True)
            ),
            operation.input_shape,
        )

    def inside(self) -> Patches:
        """The same, with zeros where the windows leave the tensor."""
        ones = self.values.new_ones(1, *self.shape)
        return replace(self, values=self.values * self.windows(ones))

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
            reversed(self.grid), reversed(self.step), reversed(self._padded), strict=True
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
            for step, count, size in zip(self.step, self.grid, self.window, strict=True)
        )

    @property
    def _padding(self) -> tuple[int, ...]:
        """What `F.pad` needs to make of the tensor the extent of all windows; negative: it cuts."""
        ends: list[int] = []
        for first, room, size in zip(self.first, self._padded, self.shape[1:], strict=True):
            ends = [-first, first + room - size, *ends]
        return tuple(ends)


def _fitted(tensor: Tensor, padding: Sequence[int]) -> Tensor:
    """As `F.pad`, which cuts before it adds, and fails where that leaves less than nothing: windows
    may lie outside the tensor altogether."""
    tensor = F.pad(tensor, tuple(max(p, 0) for p in padding))
    return F.pad(tensor, tuple(min(p, 0) for p in padding))


def neuron_patches(operation: Convolution, neurons: Tensor, sign: float) -> Patches:
    """The coefficients on what `operation` reads that sign · its results have, for single neurons.

    neurons: (batch, rows), int64, positions in the flattened result.
    """
    grid = operation.output_shape[1:]
    places = math.prod(grid)
    local = window_convolution(operation, (1,) * len(grid))
    rows = window_matrix(local, operation.weight)
    values = (sign * rows).index_select(0, (neurons // places).flatten())
    return Patches(
        values.reshape(*neurons.shape, *local.input_shape),
        neurons % places,
        grid,
        operation.stride,
        tuple(-p for p in operation.padding),
        operation.input_shape,
    )


def window_convolution(operation: Convolution, window: Shape) -> Convolution:
    """The part of `operation` that computes a window of its result, from the window that reads."""
    reads = tuple(
        (size - 1) * stride + dilation * (kernel - 1) + 1
        for size, stride, dilation, kernel in zip(
            window,
            operation.stride,
            operation.dilation,
            operation.weight.shape[2:],
            strict=True,
        )
    )
    return replace(
        operation,
        input_shape=(operation.input_shape[0], *reads),
        output_shape=(operation.output_shape[0], *window),
        bias=None,
        padding=(0,) * len(window),
    )


def window_matrix(local: Convolution, like: Tensor) -> Tensor:
    """W of a convolution, as a matrix."""
    outputs = math.prod(local.output_shape)
    rows = torch.eye(outputs, dtype=like.dtype, device=like.device)
    return local.adjoint(rows.unflatten(1, local.output_shape)).flatten(1)
