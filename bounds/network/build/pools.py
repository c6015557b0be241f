"""Layers that reduce: pooling by average and by maximum, sums and means over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.network.affine import Shape, transposed
from bounds.network.build.base import MAX_NUMBERS, Padding, Pairs, Sizes, Symbol
from bounds.network.build.weights import Weights
from bounds.network.indexing import Select


def _exact_share(count: int) -> float | None:
    """1 / count, where that is a floating-point number."""
    return 1 / count if count & (count - 1) == 0 else None


class Pools(Weights):
    """Pooling of (channels, *spatial) samples over all their spatial axes, and reductions."""

    def average_pool(
        self,
        x: Symbol,
        kernel: Sizes,
        *,
        stride: Sizes | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor: int | None = None,
    ) -> Symbol:
        """AvgPool1d and AvgPool2d: the convolution of each channel with a constant kernel.

        Where windows differ in how many numbers they count, their sums are scaled one by one.
        """
        kernel, stride, pairs, shape = self._windows(x, kernel, stride, padding, 1, ceil_mode)
        counts, covered = torch.ones((), dtype=torch.int64), []
        for n, k, s, (before, after), out in zip(
            x.shape[1:], kernel, stride, pairs, shape, strict=True
        ):
            start = torch.arange(out) * s - before
            low, high = (-before, n + after) if count_include_pad else (0, n)
            counts = counts.unsqueeze(-1) * ((start + k).clamp(max=high) - start.clamp(min=low))
            # With ceil_mode the last window may end behind the padding.
            end = int(start[-1]) + k - n
            covered.append((before, after if end <= after < end + s else max(end, 0)))
        if divisor is not None:
            counts = torch.full_like(counts, divisor)
        if counts.min() < 1:
            raise self.refuse(
                f"it divides by {int(counts.min())}", "use less padding or a divisor of at least 1"
            )
        share = _exact_share(int(counts.max())) if counts.min() == counts.max() else None
        weight = torch.full((x.shape[0], 1, *kernel), share or 1, dtype=self.dtype)
        weight = weight.to(self.device)
        sums = self.convolution(x, weight, None, stride=stride, padding=covered, groups=x.shape[0])
        return sums if share else self.multiple(sums, counts.to(self.device).double().reciprocal())

    def adaptive_average_pool(self, x: Symbol, output: Sequence[int | None]) -> Symbol:
        """AdaptiveAvgPool1d and 2d: window i of o over n entries: ⌊i n / o⌋ to ⌈(i + 1) n / o⌉."""
        self._require_spatial(x, len(output))
        sizes = x.shape[1:]
        counts = [size if o is None else o for o, size in zip(output, sizes, strict=True)]
        self.require_shape((x.shape[0], *counts))
        if not any(size % count for size, count in zip(sizes, counts, strict=True)):
            kernel = [size // count for size, count in zip(sizes, counts, strict=True)]
            return self.average_pool(x, kernel)
        for axis, (size, count) in enumerate(zip(sizes, counts, strict=True), start=1):
            place = torch.arange(count).unsqueeze(1)
            first, last = place * size // count, -(-(place + 1) * size // count)
            at = torch.arange(size)
            inside = ((at >= first) & (at < last)).to(self.dtype)
            shares = (last - first).to(self.device).double().reciprocal()
            x = self._along(x, axis, inside)
            x = self.multiple(x, shares.reshape(-1, *[1] * (len(x.shape) - 1 - axis)))
        return x

    def max_pool(
        self,
        x: Symbol,
        kernel: Sizes,
        *,
        stride: Sizes | None = None,
        padding: Padding = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
    ) -> Symbol:
        """MaxPool1d and MaxPool2d, one axis after the other, the last first.

        Windows leave out what is padding. Along an axis they are a tournament of pairs, in which a
        pair that several windows have plays once: max(a, b) = b + relu(a − b).
        """
        kernel, stride, pairs, shape = self._windows(
            x, kernel, stride, padding, dilation, ceil_mode
        )
        dilation = self.per_axis(dilation, len(kernel))
        for axis in range(len(kernel), 0, -1):
            i, size = axis - 1, x.shape[axis]
            self.require_shape((shape[i], kernel[i]))
            start = torch.arange(shape[i]) * stride[i] - pairs[i][0]
            windows = start.unsqueeze(1) + torch.arange(kernel[i]) * dilation[i]
            x = self._maximum_of(x, axis, windows.where((windows >= 0) & (windows < size), -1))
        return x

    def reduce(self, x: Symbol, axes: Sequence[int], *, mean: bool, keepdim: bool) -> Symbol:
        """The sum or the mean over these axes."""
        count = math.prod(self.size(x, axis) for axis in axes)
        kept = [axis for axis in range(len(x.shape)) if axis not in axes]
        shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        if not keepdim:
            shape = [x.shape[axis] for axis in kept]
        self.require_shape(shape)
        x = self.transpose(x, [*kept, *sorted(axes)])
        x = self.reshape(x, (-1, count))
        share = _exact_share(count) if mean else 1.0
        weight = torch.full((1, count), share or 1, dtype=self.dtype)
        x = self.linear(x, weight.to(self.device), None)
        if share is None:
            x = self.multiple(x, torch.tensor(1 / count, dtype=torch.float64, device=self.device))
        return self.reshape(x, shape)

    def largest(self, x: Symbol, axes: Sequence[int], *, keepdim: bool) -> Symbol:
        """The maximum over these axes."""
        for axis in axes:
            everything = torch.arange(self.size(x, axis)).unsqueeze(0)
            x = self._maximum_of(x, axis, everything)
        kept = [size for axis, size in enumerate(x.shape) if keepdim or axis not in axes]
        self.require_shape(kept)
        return self.reshape(x, kept)

    def _along(self, x: Symbol, axis: int, weight: Tensor) -> Symbol:
        """weight, of shape (m, size), times x along one axis."""
        last = len(x.shape) - 1
        swap = list(range(last + 1))
        swap[axis], swap[last] = last, axis
        y = self.linear(self.transpose(x, swap), weight.to(self.device), None)
        return self.transpose(y, swap)

    def _maximum_of(self, x: Symbol, axis: int, windows: Tensor) -> Symbol:
        """The maximum of each row of `windows`, which holds places along an axis; -1: none."""
        if (windows < 0).all(1).any():
            raise self.refuse(
                "a window of it lies in the padding alone, and has no maximum", "use less padding"
            )
        # What is there first.
        windows = windows.gather(1, torch.argsort((windows < 0).int(), dim=1, stable=True))
        while windows.shape[1] > 1:
            windows = F.pad(windows, (0, windows.shape[1] % 2), value=-1)
            size = x.shape[axis]
            first, second = windows[:, ::2], windows[:, 1::2]
            there = first >= 0
            # A number without a partner plays against itself.
            second = second.where(second >= 0, first)
            played, place = (first * size + second)[there].unique(return_inverse=True)
            x = self._maximum_of_pairs(x, axis, played // size, played % size)
            windows = torch.full_like(first, -1).masked_scatter(there, place)
        return self.gather(x, axis, windows[:, 0])

    def _maximum_of_pairs(self, x: Symbol, axis: int, first: Tensor, second: Tensor) -> Symbol:
        """b + relu(a − b) for the places (a, b) along an axis, and b alone where a is b."""
        b = self.gather(x, axis, second)
        pairs = (first != second).nonzero().flatten()
        if not len(pairs):
            return b
        one, other = (self.gather(x, axis, side[pairs]) for side in (first, second))
        gain = self.relu(self.sum(one, self.negative(other)))
        if len(pairs) < len(first):
            everywhere = self.places(b).index_select(axis, pairs.to(self.device))
            gain = self._affine(gain, transposed(Select(b.shape, gain.shape, everywhere)))
        return self.sum(b, gain)

    def _windows(
        self,
        x: Symbol,
        kernel: Sizes,
        stride: Sizes | None,
        padding: Padding,
        dilation: Sizes,
        ceil_mode: bool,
    ) -> tuple[Shape, Shape, Pairs, Shape]:
        """Kernel, stride and padding for each spatial axis, and how many windows each has."""
        axes = len(x.shape) - 1 if isinstance(kernel, int) else len(kernel)
        self._require_spatial(x, axes)
        kernel = self.per_axis(kernel, axes)
        stride = kernel if stride is None or stride == [] else self.per_axis(stride, axes)
        dilation, pairs = self.per_axis(dilation, axes), self.per_side(padding, axes)
        self._require_windows(stride, dilation, pairs)
        counts = []
        for n, k, s, d, (before, after) in zip(
            x.shape[1:], kernel, stride, dilation, pairs, strict=True
        ):
            room = n + before + after - d * (k - 1) - 1
            count = (-(-room // s) if ceil_mode else room // s) + 1
            # The last window has to start before the padding at the far end.
            counts.append(count - (ceil_mode and (count - 1) * s >= n + before))
            if counts[-1] < 1:
                raise self.misfit(x, f"at least the kernel's extent {kernel}")
        self.require_shape((x.shape[0], *counts))
        # With ceil_mode a kernel of any size has a window.
        if min(kernel) < 1 or x.shape[0] * math.prod(kernel) > MAX_NUMBERS:
            raise self.refuse(f"its kernel is {kernel}", "use sizes from 1 to those of the input")
        return kernel, stride, pairs, tuple(counts)

    def _require_spatial(self, x: Symbol, axes: int) -> None:
        if axes not in (1, 2) or len(x.shape) != axes + 1:
            raise self.misfit(x, "(channels, length)" if axes == 1 else "(channels, height, width)")
