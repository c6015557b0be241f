"""Arithmetic of single numbers: sums, constant factors, piecewise linear functions."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.network.build.builder import Constant, NetworkBuilder, Symbol
from bounds.read.operations.common import constant, symbol

# -- affine ----------------------------------------------------------------------------------------


def add(
    build: NetworkBuilder, input: Symbol | Constant, other: Symbol | Constant, alpha: float = 1
) -> Symbol:
    if alpha != 1:
        other = mul(build, other, alpha) if isinstance(other, Symbol) else build.real(other) * alpha
    if isinstance(input, Symbol) and isinstance(other, Symbol):
        return build.sum(input, other)
    if isinstance(input, Symbol):
        return build.shift(input, constant(build, other, "term"))
    return build.shift(symbol(build, other, "term"), input)


def sub(
    build: NetworkBuilder, input: Symbol | Constant, other: Symbol | Constant, alpha: float = 1
) -> Symbol:
    return add(build, input, other, alpha=-alpha)


def rsub(
    build: NetworkBuilder, input: Symbol | Constant, other: Symbol | Constant, alpha: float = 1
) -> Symbol:
    return add(build, other, input, alpha=-alpha)


def neg(build: NetworkBuilder, input: Symbol) -> Symbol:
    return build.negative(input)


def mul(build: NetworkBuilder, input: Symbol | Constant, other: Symbol | Constant) -> Symbol:
    if not isinstance(input, Symbol):
        input, other = other, input
    return build.scale(symbol(build, input, "factor"), constant(build, other, "second factor"))


def div(build: NetworkBuilder, input: Symbol, other: Constant) -> Symbol:
    divisor = torch.as_tensor(constant(build, other, "divisor"), dtype=build.dtype)
    return build.scale(symbol(build, input, "dividend"), divisor.reciprocal())


def matmul(build: NetworkBuilder, input: Symbol | Tensor, other: Symbol | Tensor) -> Symbol:
    if isinstance(input, Symbol):
        weight = constant(build, other, "second factor")
        if weight.dim() == 1:
            column = build.linear(input, weight.unsqueeze(0), None)
            build.require_shape(input.shape[:-1])
            return build.reshape(column, input.shape[:-1])
        if weight.dim() == 2:
            return build.linear(input, weight.mT, None)
    elif input.dim() == 2:
        return build.matmul_left(input, symbol(build, other, "factor"))
    raise build.refuse(
        "a product with a constant of other than two axes is not modelled", "use a matrix"
    )


# -- piecewise linear ------------------------------------------------------------------------------


def relu(build: NetworkBuilder, input: Symbol, inplace: bool = False) -> Symbol:
    return build.relu(symbol(build, input, "input"))


def leaky_relu(
    build: NetworkBuilder, input: Symbol, negative_slope: float = 0.01, inplace: bool = False
) -> Symbol:
    return build.leaky_relu(input, negative_slope)


def prelu(build: NetworkBuilder, input: Symbol, weight: Tensor) -> Symbol:
    """One slope, or one a channel."""
    slope = constant(build, weight, "weight")
    if slope.numel() not in (1, input.shape[0]):
        raise build.misfit(input, f"{slope.numel()} channels, one for each slope")
    return build.leaky_relu(input, slope.reshape(-1, *[1] * (len(input.shape) - 1)))


def clamp(
    build: NetworkBuilder,
    input: Symbol,
    min: Symbol | Constant | None = None,
    max: Symbol | Constant | None = None,
) -> Symbol:
    return build.clip(symbol(build, input, "input"), min, max)


def clamp_min(build: NetworkBuilder, input: Symbol, min: Symbol | Constant) -> Symbol:
    return clamp(build, input, min=min)


def clamp_max(build: NetworkBuilder, input: Symbol, max: Symbol | Constant) -> Symbol:
    return clamp(build, input, max=max)


def hardtanh(
    build: NetworkBuilder,
    input: Symbol,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Symbol:
    return build.clip(input, min_val, max_val)


def relu6(build: NetworkBuilder, input: Symbol, inplace: bool = False) -> Symbol:
    return build.clip(input, 0.0, 6.0)


def absolute(build: NetworkBuilder, input: Symbol) -> Symbol:
    return build.abs(input)


def maximum(build: NetworkBuilder, input: Symbol | Tensor, other: Symbol | Tensor) -> Symbol:
    if not isinstance(input, Symbol):
        input, other = other, input
    return build.maximum(symbol(build, input, "input"), other)


def minimum(build: NetworkBuilder, input: Symbol | Tensor, other: Symbol | Tensor) -> Symbol:
    if not isinstance(input, Symbol):
        input, other = other, input
    return build.minimum(symbol(build, input, "input"), other)
