"""Layers with weights: dense, convolutions either way, batch normalisation."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from bounds.network.affine import Scale, transposed
from bounds.network.build.base import MAX_IN_ALL, Padding, Pairs, Sizes, Symbol
from bounds.network.build.elementwise import Elementwise
from bounds.network.convolution import Convolution, convolution_output_shape
from bounds.network.sparse import linear


class Weights(Elementwise):
    """Products with constant matrices and kernels."""

    def linear(self, x: Symbol, weight: Tensor, bias: Tensor | None) -> Symbol:
        """weight · x + bias along the last axis; weight has shape (out, in)."""
        if weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
            raise self.refuse(
                f"its weight has shape {tuple(weight.shape)} and its bias another than one number "
                "an output",
                "use a weight of shape (out, in) and a bias of shape (out,)",
            )
        if x.shape[-1] != weight.shape[1]:
            raise self.misfit(x, f"{weight.shape[1]} features along the last axis")
        shape = (*x.shape[:-1], weight.shape[0])
        return self._affine(x, linear(x.shape, shape, self.tensor(weight), self._optional(bias)))

    def matmul_left(self, weight: Tensor, x: Symbol) -> Symbol:
        """weight @ x along the last axis but one; weight has shape (m, k), x (…, k, n)."""
        if len(x.shape) < 2:
            raise self.misfit(x, "at least two axes, the first factor being constant")
        swap = [*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2]
        return self.transpose(self.linear(self.transpose(x, swap), weight, None), swap)

    def convolution(
        self,
        x: Symbol,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: Sizes = 1,
        padding: Padding | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
    ) -> Symbol:
        """conv1d or conv2d with zero padding; weight has shape (out, in / groups, *kernel)."""
        axes = self._spatial_axes(weight)
        self._require_channels(x, weight.shape[1] * groups, axes)
        self._require_groups(weight, bias, weight.shape[0], groups)
        stride, dilation = self.per_axis(stride, axes), self.per_axis(dilation, axes)
        if isinstance(padding, str):
            padding = self._named_padding(padding, weight.shape[2:], dilation)
        pairs = self.per_side(padding, axes)
        self._require_windows(stride, dilation, pairs)
        # What both sides have in common stays in the convolution.
        common = tuple(min(pair) for pair in pairs)
        x = self.pad(
            x,
            (0, *(before - c for (before, _), c in zip(pairs, common, strict=True))),
            (0, *(after - c for (_, after), c in zip(pairs, common, strict=True))),
        )
        shape = convolution_output_shape(x.shape, weight, stride, common, dilation)
        if min(shape) < 1:
            raise self.misfit(x, f"at least the kernel's extent {tuple(weight.shape[2:])}")
        self._require_columns(x.shape[0], weight, shape)
        operation = Convolution(
            x.shape,
            shape,
            self.tensor(weight),
            self._optional(bias),
            stride,
            common,
            dilation,
            groups,
        )
        return self._affine(x, operation)

    def convolution_transpose(
        self,
        x: Symbol,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: Sizes = 1,
        padding: Padding = 0,
        output_padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
    ) -> Symbol:
        """conv_transpose1d or 2d; weight has shape (in, out / groups, *kernel).

        It is the transpose of the convolution that has this weight. Padding takes entries off the
        result's ends, and output_padding puts entries on at the far one.
        """
        axes = self._spatial_axes(weight)
        self._require_channels(x, weight.shape[0], axes)
        channels = weight.shape[1] * groups
        self._require_groups(weight, bias, channels, groups)
        stride, dilation = self.per_axis(stride, axes), self.per_axis(dilation, axes)
        extra = self.per_axis(output_padding, axes)
        pairs = self.per_side(padding, axes)
        self._require_windows(stride, dilation, pairs)
        if min(extra) < 0 or any(map(operator.ge, extra, map(max, stride, dilation))):
            raise self.refuse(
                f"output_padding {extra} does not fit stride {stride} and dilation {dilation}",
                "use output_padding below the stride or the dilation",
            )
        full = tuple(
            (size - 1) * s + d * (k - 1) + 1
            for size, s, d, k in zip(x.shape[1:], stride, dilation, weight.shape[2:], strict=True)
        )
        before = tuple(b for b, _ in pairs)
        after = tuple(a - e for (_, a), e in zip(pairs, extra, strict=True))
        shape = tuple(f - b - a for f, b, a in zip(full, before, after, strict=True))
        if min(shape) < 1:
            raise self.misfit(x, f"a result larger than the padding {pairs} taken off it")
        self._require_columns(channels, weight, x.shape)
        offset = None if bias is None else self.tensor(bias).reshape(-1, *[1] * axes)
        # A convolution pads both sides alike, and may leave less than a stride at the far one.
        inside = all(0 <= b - a < s for b, a, s in zip(before, after, stride, strict=True))
        padding = before if inside else (0,) * axes
        convolution = Convolution(
            (channels, *(shape if inside else full)),
            x.shape,
            self.tensor(weight),
            None,
            stride,
            padding,
            dilation,
            groups,
        )
        if inside:
            return self._affine(x, transposed(convolution, offset))
        y = self._affine(x, transposed(convolution))
        y = self.pad(y, (0, *(-b for b in before)), (0, *(-a for a in after)))
        return y if offset is None else self.shift(y, offset)

    def batch_norm(
        self,
        x: Symbol,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        *,
        training: bool,
    ) -> Symbol:
        """Batch normalisation with its stored statistics: one scale and one shift a channel."""
        if training or mean is None or variance is None:
            raise self.refuse(
                "BatchNorm normalises by the batch at hand, so a sample's output depends on the "
                "others",
                "call model.eval() and keep track_running_stats=True",
            )
        if x.shape[0] != mean.shape[0]:
            raise self.misfit(x, f"{mean.shape[0]} channels")
        # In float64, so that the numbers are off by no more than their own rounding: there is room
        # for that in float64, and it is charged in a network of less precision.
        scale = torch.rsqrt(variance.double() + eps)
        if weight is not None:
            scale = scale * weight.double()
        shift = -mean.double() * scale
        if bias is not None:
            shift = shift + bias.double()
        per_channel = (-1, *[1] * (len(x.shape) - 1))
        scale, shift = scale.reshape(per_channel), shift.reshape(per_channel)
        # Finite statistics can still give NaN or infinity: a negative variance, or one near 0.
        scale, shift = self.tensor(scale), self.tensor(shift)
        inexact = 0.0 if self.dtype == torch.float64 else torch.finfo(self.dtype).eps
        return self._affine(x, Scale(x.shape, x.shape, scale, shift, inexact))

    def _spatial_axes(self, weight: Tensor) -> int:
        axes = weight.dim() - 2
        if axes not in (1, 2):
            raise self.refuse(
                f"convolution over {axes} axes is not modelled", "use one or two spatial axes"
            )
        return axes

    def _require_channels(self, x: Symbol, channels: int, axes: int) -> None:
        if len(x.shape) != axes + 1 or x.shape[0] != channels:
            raise self.misfit(x, f"({channels} channels, then {axes} spatial axes)")

    def _require_columns(self, channels: int, weight: Tensor, windows: Sequence[int]) -> None:
        """What torch may lay out for a convolution: every window's numbers, one after the other."""
        numbers = channels * math.prod(weight.shape[2:]) * math.prod(windows[1:])
        if numbers > MAX_IN_ALL:
            raise self.refuse(
                f"its windows have {numbers} numbers, expected at most {MAX_IN_ALL}",
                "use smaller kernels or images",
            )

    def _require_groups(
        self, weight: Tensor, bias: Tensor | None, channels: int, groups: int
    ) -> None:
        """Whether weight and bias fit `channels` outputs in groups."""
        if groups < 1 or weight.shape[0] % groups:
            raise self.refuse(
                f"its weight of shape {tuple(weight.shape)} does not split into {groups} groups",
                "use groups that divide the channels",
            )
        if bias is not None and bias.shape != (channels,):
            raise self.refuse(
                f"its bias has shape {tuple(bias.shape)} for {channels} channels",
                "use one number a channel",
            )

    def _require_windows(
        self, stride: Sequence[int], dilation: Sequence[int], padding: Pairs
    ) -> None:
        if min(stride) < 1 or min(dilation) < 1 or min(map(min, padding)) < 0:
            raise self.refuse(
                f"stride {stride}, dilation {dilation} and padding {padding} describe no windows",
                "use positive strides and dilations and padding of at least 0",
            )

    def _named_padding(self, name: str, kernel: Sequence[int], dilation: Sequence[int]) -> Pairs:
        if name not in ("same", "valid"):
            raise self.refuse(f"padding={name!r} is not modelled", "use 'same', 'valid' or numbers")
        total = [
            d * (k - 1) if name == "same" else 0 for d, k in zip(dilation, kernel, strict=True)
        ]
        return tuple((t // 2, t - t // 2) for t in total)
