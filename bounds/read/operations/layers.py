"""Layers with weights or windows, as functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bounds.network.build.builder import NetworkBuilder, Sizes, Symbol
from bounds.read.operations.common import Handler, constant, sample_axis, symbol


def identity(build: NetworkBuilder, input: Symbol, *_: Any, **__: Any) -> Symbol:
    return input


def clone(build: NetworkBuilder, input: Symbol, **_: Any) -> Symbol:
    return input


def convert(build: NetworkBuilder, input: Symbol, *args: Any, **kwargs: Any) -> Symbol:
    """A cast to the dtype of the model, or to a wider one, which changes no number."""
    for value in (*args, *kwargs.values()):
        kind = getattr(value, "dtype", value)
        if isinstance(kind, torch.dtype) and kind not in (build.model_dtype, torch.float64):
            raise build.refuse(
                f"it turns its numbers from {build.model_dtype} into {kind}",
                "keep the model in one dtype, float32 or float64",
            )
    return input


def convert_to_float(build: NetworkBuilder, input: Symbol, **_: Any) -> Symbol:
    return convert(build, input, torch.float32)


def convert_to_double(build: NetworkBuilder, input: Symbol, **_: Any) -> Symbol:
    return convert(build, input, torch.float64)


def convert_to_other(build: NetworkBuilder, input: Symbol, *_: Any, **__: Any) -> Symbol:
    raise build.refuse(
        "it turns its numbers into integers, or others of less precision than float32",
        "keep the model in float32 or float64",
    )


def softmax(*, log: bool) -> Handler:
    """softmax or log_softmax."""

    def handler(
        build: NetworkBuilder,
        input: Symbol,
        dim: int | None = None,
        _stacklevel: int = 3,
        dtype: torch.dtype | None = None,
        half_to_float: bool = False,
    ) -> Symbol:
        if dim is None:
            raise build.refuse("it names no axis", "give dim=1")
        x = input if dtype is None else convert(build, input, dtype)
        return build.softmax(x, sample_axis(build, x, dim), log=log)

    return handler


def dropout(
    build: NetworkBuilder,
    input: Symbol,
    p: float = 0.5,
    train: bool = True,
    inplace: bool = False,
    training: bool | None = None,
) -> Symbol:
    if (train if training is None else training) and p > 0:
        raise build.refuse("Dropout in training mode is random", "call model.eval()")
    return input


def linear(
    build: NetworkBuilder, input: Symbol, weight: Tensor, bias: Tensor | None = None
) -> Symbol:
    weight, bias = constant(build, weight, "weight"), constant(build, bias, "bias")
    return build.linear(symbol(build, input, "input"), weight, bias)


def convolution(
    build: NetworkBuilder,
    input: Symbol,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Symbol:
    weight, bias = constant(build, weight, "weight"), constant(build, bias, "bias")
    return build.convolution(
        symbol(build, input, "input"),
        weight,
        bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def convolution_transpose(
    build: NetworkBuilder,
    input: Symbol,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Symbol:
    weight, bias = constant(build, weight, "weight"), constant(build, bias, "bias")
    return build.convolution_transpose(
        symbol(build, input, "input"),
        weight,
        bias,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )


def batch_norm(
    build: NetworkBuilder,
    input: Symbol,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Symbol:
    return build.batch_norm(
        symbol(build, input, "input"),
        running_mean,
        running_var,
        weight,
        bias,
        eps,
        training=training,
    )


def aten_batch_norm(
    build: NetworkBuilder,
    input: Symbol,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Symbol:
    return batch_norm(
        build, input, running_mean, running_var, weight, bias, training, momentum, eps
    )


def aten_batch_norm_no_training(
    build: NetworkBuilder,
    input: Symbol,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Symbol, None, None]:
    """With the batch's own statistics, which are empty."""
    y = batch_norm(build, input, running_mean, running_var, weight, bias, eps=eps)
    return y, None, None


def aten_convolution(
    build: NetworkBuilder,
    input: Symbol,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> Symbol:
    """A convolution either way, which has its attributes for one axis or for all."""
    if transposed:
        extra = output_padding
        return convolution_transpose(
            build, input, weight, bias, stride, padding, extra, groups, dilation
        )
    return convolution(build, input, weight, bias, stride, padding, dilation, groups)


def aten_max_pool(
    build: NetworkBuilder, input: Symbol, *sizes: Any, **named: Any
) -> tuple[Symbol, None]:
    """With the places of the maxima, which are not modelled."""
    return max_pool(2)(build, input, *sizes, **named), None


def max_pool(axes: int) -> Handler:
    """max_pool1d or max_pool2d."""

    def handler(
        build: NetworkBuilder,
        input: Symbol,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Symbol:
        if return_indices:
            raise build.refuse("return_indices=True is not modelled", "use return_indices=False")
        return build.max_pool(
            symbol(build, input, "input"),
            build.per_axis(kernel_size, axes),
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
        )

    return handler


def average_pool(axes: int) -> Handler:
    """avg_pool1d, which has no divisor_override, or avg_pool2d."""

    def handler(
        build: NetworkBuilder,
        input: Symbol,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Symbol:
        return build.average_pool(
            symbol(build, input, "input"),
            build.per_axis(kernel_size, axes),
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor=divisor_override,
        )

    return handler


def adaptive_average_pool(axes: int) -> Handler:
    """adaptive_avg_pool1d or adaptive_avg_pool2d."""

    def handler(
        build: NetworkBuilder, input: Symbol, output_size: int | Sequence[int | None] | None
    ) -> Symbol:
        listed = (
            [output_size] if output_size is None or isinstance(output_size, int) else output_size
        )
        sizes = [*listed] * axes if len(listed) == 1 else [*listed]
        return build.adaptive_average_pool(symbol(build, input, "input"), sizes)

    return handler
