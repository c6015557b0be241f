"""The functions a model may call, translated into nodes.

One handler an operation, with the argument names and defaults of the torch function (and so of the
ATen operator) it stands for; `from_torch` and `from_export` look their targets up here. A handler
gets the builder and, for each tensor, either a `Symbol` (it depends on the input) or a plain tensor
or number (a constant).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bounds.builder import NetworkBuilder, Sizes, Symbol
from bounds.errors import UnsupportedLayerError

Constant = Tensor | float | int
Handler = Callable[..., Any]


class _Batch:
    """Stands for the number of samples wherever a model asks for it."""

    def __repr__(self) -> str:
        return "batch size"


BATCH = _Batch()


def _symbol(build: NetworkBuilder, value: Any, role: str) -> Symbol:
    if not isinstance(value, Symbol):
        raise build.refuse(f"its {role} is a constant", "compute constants before the network")
    return value


def _constant(build: NetworkBuilder, value: Any, role: str) -> Any:
    if isinstance(value, Symbol):
        raise build.refuse(
            f"its {role} depends on the input, so it is not affine", "use constant parameters"
        )
    return value


def relu(build: NetworkBuilder, input: Symbol, inplace: bool = False) -> Symbol:
    return build.relu(_symbol(build, input, "input"))


def identity(build: NetworkBuilder, input: Symbol, *_: Any, **__: Any) -> Symbol:
    return input


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
    weight, bias = _constant(build, weight, "weight"), _constant(build, bias, "bias")
    return build.linear(_symbol(build, input, "input"), weight, bias)


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
    weight, bias = _constant(build, weight, "weight"), _constant(build, bias, "bias")
    return build.convolution(
        _symbol(build, input, "input"),
        weight,
        bias,
        stride=stride,
        padding=padding,
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
        _symbol(build, input, "input"),
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


def average_pool(
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
        _symbol(build, input, "input"),
        kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor=divisor_override,
    )


def flatten(build: NetworkBuilder, input: Symbol, start_dim: int = 0, end_dim: int = -1) -> Symbol:
    return build.flatten(_symbol(build, input, "input"), start_dim, end_dim)


def reshape(build: NetworkBuilder, input: Symbol, *shape: Any) -> Symbol:
    """view and reshape: the first entry is the batch, or -1 where the others settle the sample."""
    input = _symbol(build, input, "input")
    wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    sample = wanted[1:]
    keeps_batch = wanted[0] is BATCH or (
        wanted[0] == -1 and -1 not in sample and math.prod(sample) == math.prod(input.shape)
    )
    if not keeps_batch or any(not isinstance(size, int) for size in sample):
        raise build.refuse(
            f"reshape to {wanted} does not keep one row a sample",
            "use x.flatten(1) or nn.Flatten()",
        )
    return build.reshape(input, sample)


def add(
    build: NetworkBuilder, input: Symbol | Constant, other: Symbol | Constant, alpha: float = 1
) -> Symbol:
    if alpha != 1:
        other = mul(build, other, alpha) if isinstance(other, Symbol) else other * alpha
    if isinstance(input, Symbol) and isinstance(other, Symbol):
        return build.sum(input, other)
    if isinstance(input, Symbol):
        return build.shift(input, other)  # type: ignore[arg-type]
    return build.shift(_symbol(build, other, "term"), input)


def sub(
    build: NetworkBuilder, input: Symbol | Constant, other: Symbol | Constant, alpha: float = 1
) -> Symbol:
    return add(build, input, other, alpha=-alpha)


def rsub(
    build: NetworkBuilder, input: Symbol | Constant, other: Symbol | Constant, alpha: float = 1
) -> Symbol:
    return add(build, other, input, alpha=-alpha)


def neg(build: NetworkBuilder, input: Symbol) -> Symbol:
    return build.scale(input, -1.0)


def mul(build: NetworkBuilder, input: Symbol | Constant, other: Symbol | Constant) -> Symbol:
    if not isinstance(input, Symbol):
        input, other = other, input
    return build.scale(_symbol(build, input, "factor"), _constant(build, other, "second factor"))


def div(build: NetworkBuilder, input: Symbol, other: Constant) -> Symbol:
    divisor = torch.as_tensor(_constant(build, other, "divisor"), dtype=build.dtype)
    return build.scale(_symbol(build, input, "dividend"), divisor.reciprocal())


def size(build: NetworkBuilder, input: Symbol, dim: int | None = None) -> Any:
    shape = (BATCH, *input.shape)
    return shape if dim is None else shape[dim]


def unsupported(build: NetworkBuilder, what: str) -> UnsupportedLayerError:
    """The refusal of an operation that has no handler."""
    return build.refuse(
        f"{what} is not modelled",
        "rewrite it with Linear, Conv1d/2d, ReLU, BatchNorm, AvgPool2d, reshapes, sums and "
        "constant factors",
    )
