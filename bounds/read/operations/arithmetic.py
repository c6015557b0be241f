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
    if isinstance(other, Symbol):
        other = mul(build, other, alpha) if alpha != 1 else other
    elif alpha not in (1, -1):
        product = torch.as_tensor(build.real(other), dtype=torch.float64) * alpha
        return build.moved(symbol(build, input, "term"), product.to(build.device))
    else:
        other = build.real(other) if alpha == 1 else -build.real(other)
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
    divisor = constant(build, other, "divisor")
    return build.quotient(symbol(build, input, "dividend"), divisor)


def rdiv(build: NetworkBuilder, input: Constant, other: Symbol) -> Symbol:
    """other / input, as a tensor's method."""
    return div(build, other, input)


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


def rmatmul(build: NetworkBuilder, input: Symbol | Tensor, other: Symbol | Tensor) -> Symbol:
    """other @ input, as a tensor's method."""
    return matmul(build, other, input)


def addmm(
    build: NetworkBuilder,
    input: Symbol | Tensor,
    mat1: Symbol | Tensor,
    other: Symbol | Tensor,
    beta: float = 1,
    alpha: float = 1,
) -> Symbol:
    """beta · input + alpha · mat1 @ other."""
    product = matmul(build, mat1, other)
    return add(build, product if alpha == 1 else build.scale(product, alpha), input, alpha=beta)


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


def rrelu(
    build: NetworkBuilder,
    input: Symbol,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Symbol:
    if training:
        raise build.refuse("RReLU in training mode is random", "call model.eval()")
    return build.leaky_relu(input, (lower + upper) / 2)


def hardsigmoid(build: NetworkBuilder, input: Symbol, inplace: bool = False) -> Symbol:
    return build.quotient(relu6(build, build.shift(input, 3.0)), 6.0)


def softshrink(build: NetworkBuilder, input: Symbol, lambd: float = 0.5) -> Symbol:
    return build.soft_shrink(symbol(build, input, "input"), lambd)


def threshold(
    build: NetworkBuilder, input: Symbol, threshold: float, value: float, inplace: bool = False
) -> Symbol:
    if threshold != value:
        raise build.refuse(
            f"it jumps from {value} to {threshold}", "use one number as threshold and value"
        )
    return build.maximum(input, threshold)


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
