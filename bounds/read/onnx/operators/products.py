"""Dense layers and batch normalisation."""

from __future__ import annotations

import math

import numpy as np

from bounds.read.onnx.operators.arithmetic import add, with_constant
from bounds.read.onnx.tensors import Tensor, Tensors, Variable


def _times(t: Tensors, x: Variable, weight: np.ndarray, bias: np.ndarray | None = None) -> Variable:
    """x @ weight + bias, along the last axis of x; weight has shape (in, out)."""
    symbol, _ = t.frame(x, (len(x.shape) - 1,))
    offset = None if bias is None else t.parameter(bias)
    y = t.build.linear(symbol, t.parameter(weight.T), offset)
    return t.variable(y, (*x.shape[:-1], weight.shape[1]), x.dtype)


def _times_left(t: Tensors, weight: np.ndarray, x: Variable) -> Variable:
    """weight @ x, along the last axis but one of x."""
    rank = len(x.shape)
    symbol, _ = t.frame(x, (rank - 2, rank - 1))
    y = t.build.matmul_left(t.parameter(weight), symbol)
    return t.variable(y, (*x.shape[:-2], weight.shape[0], x.shape[-1]), x.dtype)


def matmul(t: Tensors, x: Tensor, y: Tensor) -> Tensor:
    if not x.shape or not y.shape:
        raise t.damaged("multiplies by a number")
    left = isinstance(x, np.ndarray)
    factor, operand = (x, t.require_variable(y)) if left else (y, t.require_variable(x))
    weight = t.numbers(factor, operand, "second factor")
    if math.prod(weight.shape[:-2]) != 1:
        raise t.refuse(
            f"a product with a stack of matrices, of shape {weight.shape}, is not modelled",
            "use one matrix a product",
        )
    lead = (1,) * (max(weight.ndim, 2) - max(len(operand.shape), 2))
    matrix = weight.reshape(weight.shape[-2:])
    if matrix.ndim == 1:
        matrix = matrix[None] if left else matrix[:, None]
    if not left:
        product = _times(t, operand, matrix)
    elif len(operand.shape) == 1:
        product = _times(t, operand, matrix.T)
    else:
        product = _times_left(t, matrix, operand)
    shape = [*product.shape]
    if weight.ndim == 1:
        # Where numpy leaves out the axis that stood for the vector's own.
        del shape[-2 if left and len(operand.shape) > 1 else -1]
        return t.reshape(product, shape)
    return t.reshape(product, (*lead, *shape))


def gemm(
    t: Tensors,
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    /,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise t.damaged(f"multiplies shapes {t.show(a.shape)} and {t.show(b.shape)}")
    a = t.transpose(a, (1, 0)) if transA else a
    b = t.transpose(b, (1, 0)) if transB else b
    left = isinstance(a, np.ndarray)
    weight, x = (a, t.require_variable(b)) if left else (b, t.require_variable(a))
    matrix = t.numbers(weight, x, "second factor")
    if isinstance(c, np.ndarray):
        c = t.numbers(c, x, "bias")
    elif c is not None and beta != 1:
        c = t.like(t.build.scale(c.symbol, beta), c)
    columns = matrix.shape[1]
    plain, bias = alpha == 1 and beta == 1, None
    fits = isinstance(c, np.ndarray) and c.shape in ((columns,), (1, columns))
    if plain and not left and isinstance(c, np.ndarray) and fits:
        bias, c = c.reshape(columns), None
    product = _times_left(t, matrix, x) if left else _times(t, x, matrix, bias)
    if alpha != 1:
        product = t.like(t.build.scale(product.symbol, alpha), product)
    if c is None:
        return product
    if isinstance(c, np.ndarray) and beta != 1:
        # The product of two numbers may have more digits than either.
        wide = c.astype(np.float64) * beta
        total: Tensor = with_constant(t, t.build.moved, product, wide, "bias", np.float64)
    else:
        total = add(t, product, c)
    if total.shape != product.shape:
        raise t.damaged(f"adds shape {t.show(c.shape)} to a product of {t.show(product.shape)}")
    return total


def batch_norm(
    t: Tensors,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    /,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    spatial: int = 1,
) -> Tensor:
    x, symbol = t.images(x)
    if t.outputs > 1:  # in older opsets, what stands for training_mode
        raise t.refuse(
            "BatchNormalization with its statistics as outputs is in training mode",
            "export the model in eval mode",
        )
    if not spatial:
        raise t.refuse("spatial=0 is not modelled", "export the model with opset 9 or later")
    statistics = {"mean": mean, "var": variance, "scale": scale, "bias": bias}
    arrays = [t.numbers(value, x, role) for role, value in statistics.items()]
    if any(array.shape != x.shape[1:2] for array in arrays):
        raise t.damaged(f"has other statistics than {x.shape[1]} channels need")
    centre, spread, weight, offset = map(t.parameter, arrays)
    training = bool(training_mode)
    y = t.build.batch_norm(symbol, centre, spread, weight, offset, epsilon, training=training)
    return t.like(y, x)
