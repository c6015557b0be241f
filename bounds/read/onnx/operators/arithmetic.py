"""Operators that act on each number by itself, or on numbers along axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from bounds.network.build.builder import NetworkBuilder, Symbol
from bounds.read.onnx.operators.constants import arrays, constants
from bounds.read.onnx.tensors import Axes, Tensor, Tensors, Variable, given

Layer = Callable[[Symbol, Any], Symbol]
Reduce = Callable[[NetworkBuilder, Symbol, Sequence[int]], Symbol]


def with_constant(
    t: Tensors,
    layer: Layer,
    x: Variable,
    value: Tensor,
    role: str,
    computed_in: type[np.floating] | None = None,
) -> Variable:
    """layer(x, value), the constant and x broadcast to one shape."""
    constant = t.numbers(value, x, role, computed_in)
    x = t.repeat(x, t.broadcast(x.shape, constant.shape))
    symbol, _ = t.frame(x)
    return t.like(layer(symbol, t.parameter(constant)), x)


def binary(t: Tensors, layer: Layer, compute: Callable[..., Any], x: Tensor, y: Tensor) -> Tensor:
    """A function that does not mind the order of its operands."""
    if isinstance(x, np.ndarray):
        x, y = y, x
    if isinstance(x, np.ndarray):
        return constants(t, compute, x, y)
    if isinstance(y, np.ndarray):
        return with_constant(t, layer, x, y, "second operand")
    if x.dtype != y.dtype:
        raise t.damaged(f"mixes {x.dtype} and {y.dtype}")
    shape = t.broadcast(x.shape, y.shape)
    (first, _), (second, _) = (t.frame(t.repeat(value, shape)) for value in (x, y))
    return t.variable(layer(first, second), shape, x.dtype)


def add(t: Tensors, *terms: Tensor) -> Tensor:
    def layer(x: Symbol, y: Any) -> Symbol:
        return t.build.sum(x, y) if isinstance(y, Symbol) else t.build.shift(x, y)

    return reduce(lambda x, y: binary(t, layer, np.add, x, y), terms)


def sub(t: Tensors, x: Tensor, y: Tensor) -> Tensor:
    return add(t, x, neg(t, y))


def mul(t: Tensors, x: Tensor, y: Tensor) -> Tensor:
    if isinstance(x, Variable) and isinstance(y, Variable):
        raise t.refuse("both its factors depend on the input, so it is not affine", "use constants")
    return binary(t, t.build.scale, np.multiply, x, y)


def div(t: Tensors, x: Tensor, y: Tensor) -> Tensor:
    if isinstance(x, np.ndarray):
        if isinstance(y, np.ndarray) and y.dtype.kind == "i" and 0 in y:
            raise t.damaged("divides integers by 0")
        return constants(t, _quotient, x, y)
    return with_constant(t, t.build.quotient, x, y, "divisor")


def _quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return x / y
    return np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))  # as in C, towards 0


def maximum(t: Tensors, *values: Tensor) -> Tensor:
    return reduce(lambda x, y: binary(t, t.build.maximum, np.maximum, x, y), values)


def minimum(t: Tensors, *values: Tensor) -> Tensor:
    return reduce(lambda x, y: binary(t, t.build.minimum, np.minimum, x, y), values)


# -- elementwise


def neg(t: Tensors, x: Tensor) -> Tensor:
    return _elementwise(t, x, t.build.negative, np.negative)


def abs_(t: Tensors, x: Tensor) -> Tensor:
    return _elementwise(t, x, t.build.abs, np.abs)


def relu(t: Tensors, x: Tensor) -> Tensor:
    return _elementwise(t, x, t.build.relu, lambda array: np.maximum(array, 0))


def _elementwise(
    t: Tensors, x: Tensor, layer: Callable[[Symbol], Symbol], compute: Callable[..., Any]
) -> Tensor:
    if isinstance(x, np.ndarray):
        return constants(t, compute, x)
    return t.like(layer(x.symbol), x)


def leaky_relu(t: Tensors, x: Tensor, *, alpha: float = 0.01) -> Tensor:
    x = t.require_variable(x)
    return t.like(t.build.leaky_relu(x.symbol, alpha), x)


def prelu(t: Tensors, x: Tensor, slope: Tensor) -> Tensor:
    x = t.require_variable(x)
    y = with_constant(t, t.build.leaky_relu, x, slope, "slope")
    if y.shape != x.shape:
        raise t.damaged(f"has a slope of shape {slope.shape} for a tensor of {t.show(x.shape)}")
    return y


def hard_sigmoid(t: Tensors, x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    x = t.require_variable(x)
    line = t.build.shift(t.build.scale(x.symbol, alpha), beta)
    return t.like(t.build.clip(line, 0.0, 1.0), x)


def shrink(t: Tensors, x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """relu(x − λ) − relu(−x − λ)"""
    x = t.require_variable(x)
    if bias != lambd:
        raise t.refuse(f"it jumps at {lambd} by {lambd - bias}", "use one number for both")
    return t.like(t.build.soft_shrink(x.symbol, lambd), x)


def thresholded_relu(t: Tensors, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    x = t.require_variable(x)
    if alpha != 0:
        raise t.refuse(f"it jumps from 0 to {alpha}", "use Relu")
    return t.like(t.build.relu(x.symbol), x)


def softmax(t: Tensors, x: Tensor, *, axis: int | None = None) -> Tensor:
    return _softmax(t, x, axis, log=False)


def log_softmax(t: Tensors, x: Tensor, *, axis: int | None = None) -> Tensor:
    return _softmax(t, x, axis, log=True)


def _softmax(t: Tensors, x: Tensor, axis: int | None, *, log: bool) -> Tensor:
    x, rank = t.require_variable(x), len(x.shape)
    axis = t.axis(rank, (-1 if t.opset >= 13 else 1) if axis is None else axis)
    # Older ones take all axes from there on.
    if t.opset < 13 and math.prod(x.shape[axis + 1 :]) != 1:
        raise t.refuse("a softmax over several axes is not modelled", "export with opset 13")
    symbol, gone = t.frame(x, (axis,))
    return t.like(t.build.softmax(symbol, axis - gone, log=log), x)


def where(t: Tensors, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """What a constant chooses."""
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return np.asarray(np.where(*arrays(t, condition, x, y)))
    (chosen,) = arrays(t, condition)
    dtype = x.dtype
    if chosen.dtype != np.bool_ or y.dtype != dtype:
        raise t.damaged(f"chooses from {x.dtype} and {y.dtype} by {chosen.dtype}")
    sides = [
        np.asarray(np.where(*arrays(t, at, side, np.zeros((), dtype))))
        if isinstance(side, np.ndarray)
        else mul(t, side, at.astype(dtype))
        for side, at in ((x, chosen), (y, ~chosen))
    ]
    return add(t, *sides)


def mean(t: Tensors, *terms: Tensor) -> Tensor:
    total = t.require_variable(add(t, *terms))
    return t.like(t.build.quotient(total.symbol, float(len(terms))), total)


def clip(
    t: Tensors,
    x: Tensor,
    low: Tensor | None = None,
    high: Tensor | None = None,
    /,
    *,
    min: float | None = None,
    max: float | None = None,
) -> Tensor:
    x = t.require_variable(x)
    lower = min if low is None else t.number(low, x, "min")
    upper = max if high is None else t.number(high, x, "max")
    # Older opsets write the largest number where there is no bound.
    largest = float(np.finfo(x.dtype).max)
    lower = None if lower is not None and lower <= -largest else lower
    upper = None if upper is not None and upper >= largest else upper
    return t.like(t.build.clip(x.symbol, lower, upper), x)


# -- reductions


def reduction(reduce: Reduce) -> Callable[..., Tensor]:
    """The handler of a reduction over axes, which are an attribute or in later opsets an input."""

    def handler(
        t: Tensors,
        x: Tensor,
        where: Tensor | None = None,
        /,
        *,
        axes: Axes = None,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        x, chosen = t.require_variable(x), given(t, where, axes, "axes")
        if not chosen and noop_with_empty_axes:
            return x
        over = t.axes(len(x.shape), chosen or range(len(x.shape)))
        y = along(t, x, over, reduce)
        kept = [n for i, n in enumerate(x.shape) if i not in over]
        return y if keepdims else t.reshape(y, kept)

    return handler


def along(t: Tensors, x: Variable, axes: Sequence[int], reduce: Reduce) -> Variable:
    """A reduction over these axes, of which each keeps a size of 1."""
    longer = [axis for axis in axes if x.shape[axis] != 1]
    if not longer:
        return x
    symbol, gone = t.frame(x, longer)
    y = reduce(t.build, symbol, [axis - gone for axis in longer])
    return t.variable(y, [1 if i in axes else n for i, n in enumerate(x.shape)], x.dtype)


def total_of(build: NetworkBuilder, x: Symbol, axes: Sequence[int]) -> Symbol:
    return build.reduce(x, axes, mean=False, keepdim=True)


def mean_of(build: NetworkBuilder, x: Symbol, axes: Sequence[int]) -> Symbol:
    return build.reduce(x, axes, mean=True, keepdim=True)


def largest_of(build: NetworkBuilder, x: Symbol, axes: Sequence[int]) -> Symbol:
    return build.largest(x, axes, keepdim=True)


def smallest_of(build: NetworkBuilder, x: Symbol, axes: Sequence[int]) -> Symbol:
    return build.negative(build.largest(build.negative(x), axes, keepdim=True))
