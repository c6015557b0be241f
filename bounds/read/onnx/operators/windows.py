"""Operators that slide a window over samples (channels, *spatial): convolutions and pools."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bounds.network.build.builder import Symbol
from bounds.read.export.archive import short
from bounds.read.onnx.operators.arithmetic import along, mean_of
from bounds.read.onnx.tensors import Axes, Tensor, Tensors, Variable

Pairs = tuple[tuple[int, int], ...]


def _spatial_axes(t: Tensors, x: Variable) -> range:
    if len(x.shape) < 3:
        raise t.damaged(f"has an input of shape {t.show(x.shape)}, without spatial axes")
    return range(2, len(x.shape))


def _per_axis(t: Tensors, values: Axes, axes: int, default: int, role: str) -> tuple[int, ...]:
    found = (default,) * axes if values is None else tuple(values)
    if len(found) != axes:
        raise t.damaged(f"has {role} {short(found)} for {axes} spatial axes")
    return found


def _sides(t: Tensors, pads: Axes, axes: int, auto_pad: str) -> Pairs | None:
    """The padding in numbers; None where it follows from the sizes."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER") and not any(pads or ()):
        return None
    if auto_pad != "NOTSET" and (auto_pad != "VALID" or any(pads or ())):
        raise t.damaged(f"has auto_pad={short(auto_pad)} and pads {short(pads)}")
    found = _per_axis(t, pads, 2 * axes, 0, "pads")
    return tuple(zip(found[:axes], found[axes:], strict=True))


def _halves(total: Sequence[int], *, more_after: bool) -> Pairs:
    """Each total split in two, the odd one after or before."""
    return tuple((n // 2, n - n // 2) if more_after else (n - n // 2, n // 2) for n in total)


def _windows(
    t: Tensors,
    x: Variable,
    kernel: Sequence[int],
    strides: Axes,
    dilations: Axes,
    pads: Axes,
    auto_pad: str,
) -> dict[str, Any]:
    """Stride, dilation and padding as the builder takes them, once they are seen to be sane."""
    sizes, axes = x.shape[2:], len(_spatial_axes(t, x))
    kernel = _per_axis(t, kernel, axes, 1, "kernel")
    stride = _per_axis(t, strides, axes, 1, "strides")
    dilation = _per_axis(t, dilations, axes, 1, "dilations")
    padding = _sides(t, pads, axes, auto_pad)
    if min((*kernel, *stride, *dilation)) < 1 or min(pads or (0,)) < 0:
        raise t.damaged(
            f"has kernel {kernel}, strides {stride}, dilations {dilation} and pads {pads}"
        )
    if padding is None:  # as many windows as strides fit
        total = [
            (-(-n // s) - 1) * s + d * (k - 1) + 1 - n
            for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
        ]
        if min(total) < 0:
            raise t.refuse(
                f"auto_pad={auto_pad!r} with kernel {kernel} and strides {stride} would take "
                "entries off",
                "give the padding in numbers",
            )
        padding = _halves(total, more_after=auto_pad == "SAME_UPPER")
    padded = [n + before + after for n, (before, after) in zip(sizes, padding, strict=True)]
    t.spend(numbers=x.shape[1] * math.prod(padded) + math.prod(kernel))
    return {"stride": stride, "dilation": dilation, "padding": padding}


def conv(
    t: Tensors,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    /,
    *,
    auto_pad: str = "NOTSET",
    dilations: Axes = None,
    group: int = 1,
    kernel_shape: Axes = None,
    pads: Axes = None,
    strides: Axes = None,
) -> Tensor:
    x, symbol = t.images(x)
    kernel = t.numbers(weight, x, "weight")
    offset = None if bias is None else t.parameter(t.numbers(bias, x, "bias"))
    _check_kernel(t, kernel.shape, kernel_shape, offset, kernel.shape[0], group)
    windows = _windows(t, x, kernel.shape[2:], strides, dilations, pads, auto_pad)
    y = t.build.convolution(symbol, t.parameter(kernel), offset, groups=group, **windows)
    return t.variable(y, (x.shape[0], *y.shape), x.dtype)


def conv_transpose(
    t: Tensors,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    /,
    *,
    auto_pad: str = "NOTSET",
    dilations: Axes = None,
    group: int = 1,
    kernel_shape: Axes = None,
    output_padding: Axes = None,
    output_shape: Axes = None,
    pads: Axes = None,
    strides: Axes = None,
) -> Tensor:
    x, symbol = t.images(x)
    kernel = t.numbers(weight, x, "weight")
    offset = None if bias is None else t.parameter(t.numbers(bias, x, "bias"))
    _check_kernel(t, kernel.shape, kernel_shape, offset, kernel.shape[1] * group, group)
    axes = len(_spatial_axes(t, x))
    stride = _per_axis(t, strides, axes, 1, "strides")
    dilation = _per_axis(t, dilations, axes, 1, "dilations")
    extra = _per_axis(t, output_padding, axes, 0, "output_padding")
    padding = _sides(t, pads, axes, auto_pad)
    full = [
        (n - 1) * s + d * (k - 1) + 1 + e
        for n, s, d, k, e in zip(
            x.shape[2:], stride, dilation, kernel.shape[2:], extra, strict=True
        )
    ]
    t.spend(numbers=kernel.shape[1] * group * math.prod(full))
    if padding is None or output_shape is not None:  # what is more than the result has is cut off
        wanted = [n * s for n, s in zip(x.shape[2:], stride, strict=True)]
        if output_shape is not None:
            wanted = [*_per_axis(t, output_shape, axes, 0, "output_shape")]
        total = [f - w for f, w in zip(full, wanted, strict=True)]
        if min(total) < 0:
            raise t.refuse(
                f"its output is to have the sizes {wanted}, of which it computes {full} alone",
                "give the padding in numbers, and output_padding",
            )
        padding = _halves(total, more_after=auto_pad == "SAME_UPPER")
    y = t.build.convolution_transpose(
        symbol,
        t.parameter(kernel),
        offset,
        stride=stride,
        padding=padding,
        output_padding=extra,
        dilation=dilation,
        groups=group,
    )
    return t.variable(y, (x.shape[0], *y.shape), x.dtype)


def _check_kernel(
    t: Tensors, shape: Sequence[int], declared: Axes, bias: Any, channels: int, group: int
) -> None:
    sizes_differ = declared is not None and tuple(declared) != tuple(shape[2:])
    if len(shape) < 3 or sizes_differ or group < 1 or shape[0] % group:
        raise t.damaged(
            f"has a weight of shape {tuple(shape)} in {group} groups, and a kernel {declared}"
        )
    if bias is not None and bias.shape != (channels,):
        raise t.damaged(f"has a bias of shape {tuple(bias.shape)} for {channels} channels")


def max_pool(
    t: Tensors,
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Axes = None,
    pads: Axes = None,
    storage_order: int = 0,  # of the second output, which is not modelled
    strides: Axes = None,
) -> Tensor:
    x, symbol = t.images(x)
    windows = _windows(t, x, kernel_shape, strides, dilations, pads, auto_pad)
    return _maximum(t, x, symbol, kernel_shape, ceil_mode=bool(ceil_mode), **windows)


def global_max_pool(t: Tensors, x: Tensor) -> Tensor:
    x, symbol = t.images(x)
    return _maximum(t, x, symbol, [x.shape[axis] for axis in _spatial_axes(t, x)])


def _maximum(
    t: Tensors, x: Variable, symbol: Symbol, kernel: Sequence[int], **windows: Any
) -> Variable:
    # A tournament along each axis: log2(kernel) rounds, of some eight tensors each.
    rounds = sum((size - 1).bit_length() for size in kernel)
    t.spend(numbers=8 * rounds * math.prod(symbol.shape))
    y = t.build.max_pool(symbol, kernel, **windows)
    return t.variable(y, (x.shape[0], *y.shape), x.dtype)


def average_pool(
    t: Tensors,
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Axes = None,
    pads: Axes = None,
    strides: Axes = None,
) -> Tensor:
    x, symbol = t.images(x)
    windows = _windows(t, x, kernel_shape, strides, dilations, pads, auto_pad)
    if any(d != 1 for d in windows.pop("dilation")):
        raise t.refuse(f"dilations={dilations} are not modelled", "use a convolution")
    t.spend(numbers=symbol.shape[0] * math.prod(kernel_shape))
    y = t.build.average_pool(
        symbol,
        kernel_shape,
        ceil_mode=bool(ceil_mode),
        count_include_pad=bool(count_include_pad),
        **windows,
    )
    return t.variable(y, (x.shape[0], *y.shape), x.dtype)


def global_average_pool(t: Tensors, x: Tensor) -> Tensor:
    x = t.require_variable(x)
    return along(t, x, _spatial_axes(t, x), mean_of)
