"""Operators that act on each number by itself, or on numbers along axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from bounds.network.build.builder import Symbol
from bounds.read.onnx.operators.layout import Axes, given
from bounds.read.onnx.tensors import Tensor, Tensors, Variable

Layer = Callable[[Symbol, Any], Symbol]


def constants(t: Tensors, compute: Callable[..., Any], *values: Tensor) -> np.ndarray:
    """A numpy function of constants, once the size of its result is seen to be sane."""
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    if len(arrays) < len(values):
        raise t.refuse("it is not affine in what depends on the input", "use it on constants only")
    if len({array.dtype for array in arrays}) > 1:
        raise t.damaged(f"mixes {' and '.join(str(array.dtype) for array in arrays)}")
    t.file.claim(math.prod(t.broadcast(*[array.shape for array in arrays])))
    with np.errstate(all="ignore"):  # what is not finite is refused where the input meets it
        return np.asarray(compute(*arrays)).astype(arrays[0].dtype, copy=False)


def with_constant(t: Tensors, layer: Layer, x: Variable, value: Tensor, role: str) -> Variable:
    """layer(x, value), the constant and x broadcast to one shape."""
    constant = t.numbers(value, x, role)
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
    # In float64, so that the factor is off by no more than its own rounding.
    return with_constant(t, lambda x, y: t.build.scale(x, 1 / y.double()), x, y, "divisor")


def _quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return x / y
    return np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))  # as in C, towards 0


def maximum(t: Tensors, *values: Tensor) -> Tensor:
    return reduce(lambda x, y: binary(t, t.build.maximum, np.maximum, x, y), values)


def minimum(t: Tensors, *values: Tensor) -> Tensor:
    return reduce(lambda x, y: binary(t, t.build.minimum, np.minimum, x, y), values)


# -- functions of constants


def exp(t: Tensors, x: Tensor) -> Tensor:
    return _of_floats(t, np.exp, x)


def reciprocal(t: Tensors, x: Tensor) -> Tensor:
    return _of_floats(t, np.reciprocal, x)


def sqrt(t: Tensors, x: Tensor) -> Tensor:
    return _of_floats(t, np.sqrt, x)


def _of_floats(t: Tensors, compute: Callable[..., Any], x: Tensor) -> np.ndarray:
    if x.dtype.kind != "f":
        raise t.damaged(f"takes {x.dtype}, expected floating-point numbers")
    return constants(t, compute, x)


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
    # Older opsets write the largest float32 where there is no bound.
    largest = float(np.finfo(np.float32).max)
    lower = None if lower is not None and lower <= -largest else lower
    upper = None if upper is not None and upper >= largest else upper
    return t.like(t.build.clip(x.symbol, lower, upper), x)


# -- reductions


def reduce_sum(
    t: Tensors,
    x: Tensor,
    where: Tensor | None = None,
    /,
    *,
    axes: Axes = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    chosen = given(t, where, axes, "axes")
    return _reduction(t, x, chosen, keepdims, noop_with_empty_axes, mean=False)


def reduce_mean(
    t: Tensors,
    x: Tensor,
    where: Tensor | None = None,
    /,
    *,
    axes: Axes = None,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    chosen = given(t, where, axes, "axes")
    return _reduction(t, x, chosen, keepdims, noop_with_empty_axes, mean=True)


def _reduction(
    t: Tensors, x: Tensor, chosen: Axes, keepdims: int, noop: int, *, mean: bool
) -> Tensor:
    x = t.require_variable(x)
    if not chosen and noop:
        return x
    axes = t.axes(len(x.shape), chosen or range(len(x.shape)))
    y = along(t, x, axes, mean=mean)
    return y if keepdims else t.reshape(y, [n for i, n in enumerate(x.shape) if i not in axes])


def along(t: Tensors, x: Variable, axes: Sequence[int], *, mean: bool) -> Variable:
    """The sum or the mean over these axes, of which each keeps a size of 1."""
    longer = [axis for axis in axes if x.shape[axis] != 1]
    if not longer:
        return x
    symbol, gone = t.frame(x, longer)
    y = t.build.reduce(symbol, [axis - gone for axis in longer], mean=mean, keepdim=True)
    return t.variable(y, [1 if i in axes else n for i, n in enumerate(x.shape)], x.dtype)
