"""Operators that are read where their inputs are constants, such as shapes and packed weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bounds.read.onnx.tensors import Tensor, Tensors


def arrays(t: Tensors, *values: Tensor) -> list[np.ndarray]:
    """The values, none of which may depend on the input; what they broadcast to is counted."""
    found = [value for value in values if isinstance(value, np.ndarray)]
    if len(found) < len(values):
        raise t.refuse("it is not affine in what depends on the input", "use it on constants only")
    t.file.claim(math.prod(t.broadcast(*[array.shape for array in found])))
    return found


def constants(t: Tensors, compute: Callable[..., Any], *values: Tensor) -> np.ndarray:
    """A numpy function of constants of one type, which is the type of its result."""
    found = arrays(t, *values)
    if len({array.dtype for array in found}) > 1:
        raise t.damaged(f"mixes {' and '.join(str(array.dtype) for array in found)}")
    with np.errstate(all="ignore"):  # what is not finite is refused where the input meets it
        return np.asarray(compute(*found)).astype(found[0].dtype, copy=False)


def of_constants(compute: Callable[..., Any], *, floats: bool = False) -> Callable[..., Tensor]:
    """The handler of a function of constants."""

    def handler(t: Tensors, *values: Tensor) -> Tensor:
        if floats and any(value.dtype.kind != "f" for value in values):
            raise t.damaged(f"takes {values[0].dtype}, expected floating-point numbers")
        return constants(t, compute, *values)

    return handler


def asked(compute: Callable[..., Any]) -> Callable[..., Tensor]:
    """The handler of a question about constants, whose answers are bools."""

    def handler(t: Tensors, *values: Tensor) -> Tensor:
        return np.asarray(compute(*arrays(t, *values)), np.bool_)

    return handler


def range_(t: Tensors, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, step = (array.item() for array in arrays(t, start, limit, delta))
    if step == 0:
        raise t.damaged("counts by 0")
    count = max(math.ceil((last - first) / step), 0)
    t.file.claim(count)
    return np.asarray(first + np.arange(count) * step, start.dtype)


def dequantize(
    t: Tensors, x: Tensor, scale: Tensor, zero: Tensor | None = None, /, *, axis: int = 1
) -> Tensor:
    """(x − zero) · scale, one scale for all or one an entry of the axis."""
    numbers, factor = arrays(t, x, np.zeros(()))[:1] + arrays(t, scale)
    zeros = np.zeros((), numbers.dtype) if zero is None else arrays(t, zero)[0]
    if numbers.dtype.kind not in "iu" or zeros.dtype != numbers.dtype or factor.ndim > 1:
        raise t.refuse(
            f"it unpacks {numbers.dtype} by scales of shape {factor.shape}",
            "use integers with one scale, or one scale a channel",
        )
    along = [1] * numbers.ndim
    if factor.ndim and factor.size > 1:
        along[t.axis(numbers.ndim, axis)] = -1
    zeros, factor = (v.reshape(along if v.size > 1 else ()) for v in (zeros, factor))
    return np.asarray((numbers.astype(np.int64) - zeros).astype(factor.dtype) * factor)
