"""Operators that move numbers about, look at shapes, or make constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch

from bounds.read.export.archive import short
from bounds.read.onnx.file import ELEMENTS, element_name
from bounds.read.onnx.operators.resizing import mirrored
from bounds.read.onnx.tensors import FIXED_BATCH, Axes, Tensor, Tensors, Variable, given


def identity(t: Tensors, x: Tensor) -> Tensor:
    return x


def dropout(
    t: Tensors,
    x: Tensor,
    rate: Tensor | None = None,
    training: Tensor | None = None,
    /,
    *,
    ratio: float = 0.5,
    seed: int = 0,
) -> Tensor:
    if training is not None and (isinstance(training, Variable) or training.any()):
        raise t.refuse("Dropout in training mode is random", "export the model in eval mode")
    return x


def cast(t: Tensors, x: Tensor, *, to: int, saturate: int = 1) -> Tensor:
    """A cast between float32 and float64 changes the rounding, which no reader keeps."""
    if to not in ELEMENTS:
        raise t.refuse(f"a cast to {element_name(to)} is not modelled", "use float32 throughout")
    kind = np.dtype(ELEMENTS[to][0])
    if isinstance(x, np.ndarray):
        if kind != np.int64 and t.is_batch_size(x):
            raise t.refuse("it computes with the size of an open batch", FIXED_BATCH)
        with np.errstate(invalid="ignore"):  # NaN as an integer
            return x.astype(kind)
    if kind not in (np.float32, np.float64):
        raise t.refuse(
            f"it casts what depends on the input to {element_name(to)}, which is not affine",
            "use float32 throughout",
        )
    if kind == np.float32:
        t.build.model_dtype = torch.float32
    return t.variable(x.symbol, x.shape, kind)


# -- shapes


def reshape(t: Tensors, x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    wanted = t.integers(shape, "shape")
    if not allowzero:
        if any(size == 0 and i >= len(x.shape) for i, size in enumerate(wanted)):
            raise t.damaged(f"copies axes that shape {t.show(x.shape)} has not")
        wanted = [size or x.shape[i] for i, size in enumerate(wanted)]
    if wanted.count(-1) == 1:
        known = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(x.shape) // known if known else 0
    return t.reshape(x, wanted)


def flatten(t: Tensors, x: Tensor, *, axis: int = 1) -> Tensor:
    if axis != len(x.shape):
        axis = t.axis(len(x.shape), axis)
    return t.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def squeeze(t: Tensors, x: Tensor, where: Tensor | None = None, /, *, axes: Axes = None) -> Tensor:
    chosen = given(t, where, axes, "axes")
    ones = [i for i, size in enumerate(x.shape) if size == 1]
    dropped = ones if chosen is None else t.axes(len(x.shape), chosen)
    if not {*dropped} <= {*ones}:
        raise t.damaged(f"squeezes axes {dropped} of shape {t.show(x.shape)}")
    return t.reshape(x, [size for i, size in enumerate(x.shape) if i not in dropped])


def unsqueeze(
    t: Tensors, x: Tensor, where: Tensor | None = None, /, *, axes: Axes = None
) -> Tensor:
    chosen = given(t, where, axes, "axes") or ()
    rank, sizes = len(x.shape) + len(chosen), iter(x.shape)
    new = t.axes(rank, chosen)
    return t.reshape(x, [1 if i in new else next(sizes) for i in range(rank)])


def expand(t: Tensors, x: Tensor, shape: Tensor) -> Tensor:
    return t.expand(x, t.broadcast(x.shape, tuple(t.integers(shape, "shape"))))


def shape(t: Tensors, x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return np.array(x.shape[start:end], np.int64)


def size(t: Tensors, x: Tensor) -> Tensor:
    return np.array(math.prod(x.shape), np.int64)


# -- numbers in another order


def transpose(t: Tensors, x: Tensor, *, perm: Axes = None) -> Tensor:
    rank = len(x.shape)
    axes = tuple(reversed(range(rank)) if perm is None else perm)
    if sorted(axes) != [*range(rank)]:
        raise t.damaged(f"permutes {rank} axes by {short(axes)}")
    return t.transpose(x, axes)


def concat(t: Tensors, *parts: Tensor, axis: int) -> Tensor:
    return t.concat(parts, t.axis(len(parts[0].shape), axis))


def split(
    t: Tensors,
    x: Tensor,
    sizes: Tensor | None = None,
    /,
    *,
    axis: int = 0,
    split: Axes = None,
    num_outputs: int | None = None,
) -> list[Tensor]:
    axis = t.axis(len(x.shape), axis)
    t.require_samples_apart(x, (axis,))
    parts, whole = given(t, sizes, split, "split"), x.shape[axis]
    if parts is None:
        each = -(-whole // t.outputs)
        parts = [min(each, whole - i * each) for i in range(t.outputs)]
        if num_outputs not in (None, t.outputs) or (num_outputs is None and whole % t.outputs):
            raise t.damaged(f"splits {whole} entries into {t.outputs} equal parts")
    if len(parts) != t.outputs or sum(parts) != whole or min(parts) < 1:
        raise t.damaged(f"splits {whole} entries into {t.outputs} parts of {short(parts)}")
    return [t.slice(x, axis, *ends, 1) for ends in pairwise(accumulate(parts, initial=0))]


def slice_(
    t: Tensors,
    x: Tensor,
    first: Tensor | None = None,
    last: Tensor | None = None,
    where: Tensor | None = None,
    by: Tensor | None = None,
    /,
    *,
    starts: Axes = None,
    ends: Axes = None,
    axes: Axes = None,
) -> Tensor:
    begin, stop = given(t, first, starts, "starts") or (), given(t, last, ends, "ends") or ()
    steps = given(t, by, None, "steps") or (1,) * len(begin)
    chosen = given(t, where, axes, "axes") or range(len(begin))
    if not len(begin) == len(stop) == len(steps) == len(chosen) or 0 in steps:
        raise t.damaged(
            f"slices from {short(begin)} to {short(stop)} by {short(steps)} along {short(chosen)}"
        )
    for axis, *ends_and_step in zip(t.axes(len(x.shape), chosen), begin, stop, steps, strict=True):
        x = t.slice(x, axis, *ends_and_step)
    return x


def gather(t: Tensors, x: Tensor, index: Tensor, *, axis: int = 0) -> Tensor:
    if isinstance(index, Variable):
        raise t.refuse("its indices depend on the input, so it is not affine", "use constants")
    return t.take(x, t.axis(len(x.shape), axis), index)


def gather_nd(t: Tensors, x: Tensor, index: Tensor, *, batch_dims: int = 0) -> Tensor:
    if isinstance(index, Variable):
        raise t.refuse("its indices depend on the input, so it is not affine", "use constants")
    count = index.shape[-1] if index.ndim else 0
    if batch_dims or index.dtype != np.int64 or not 1 <= count <= len(x.shape):
        raise t.damaged(f"has batch_dims={batch_dims} and indices of shape {index.shape}")
    sizes = x.shape[:count]
    t.require_samples_apart(x, (0,))
    if not bool(((-np.array(sizes) <= index) & (index < sizes)).all()):
        raise t.damaged(f"has indices beyond shape {t.show(x.shape)}")
    flat = np.ravel_multi_index(tuple(np.moveaxis(index % sizes, -1, 0)), sizes)
    return t.take(t.reshape(x, (math.prod(sizes), *x.shape[count:])), 0, np.asarray(flat, np.int64))


def depth_to_space(t: Tensors, x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    n, c, h, w = _image(t, x)
    b = blocksize
    if b < 1 or c % (b * b) or mode not in ("DCR", "CRD"):
        raise t.damaged(f"spreads {c} channels over blocks of {b}, in the order {short(mode)}")
    shape = (n, b, b, c // b**2, h, w) if mode == "DCR" else (n, c // b**2, b, b, h, w)
    order = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    return t.reshape(t.transpose(t.reshape(x, shape), order), (n, c // b**2, h * b, w * b))


def space_to_depth(t: Tensors, x: Tensor, *, blocksize: int) -> Tensor:
    n, c, h, w = _image(t, x)
    b = blocksize
    if b < 1 or h % b or w % b:
        raise t.damaged(f"gathers blocks of {b} from {h} rows and {w} columns")
    x = t.transpose(t.reshape(x, (n, c, h // b, b, w // b, b)), (0, 3, 5, 1, 2, 4))
    return t.reshape(x, (n, c * b**2, h // b, w // b))


def _image(t: Tensors, x: Tensor) -> Sequence[int]:
    if len(x.shape) != 4:
        raise t.damaged(f"has an input of shape {t.show(x.shape)}, expected four axes")
    return x.shape


def pad(
    t: Tensors,
    x: Tensor,
    amounts: Tensor | None = None,
    fill: Tensor | None = None,
    where: Tensor | None = None,
    /,
    *,
    mode: str = "constant",
    pads: Axes = None,
    value: float = 0.0,
) -> Tensor:
    sizes = given(t, amounts, pads, "pads") or ()
    axes = t.axes(len(x.shape), given(t, where, None, "axes") or range(len(x.shape)))
    if len(sizes) != 2 * len(axes):
        raise t.damaged(f"pads {len(axes)} axes by {len(sizes)} numbers")
    if fill is not None:
        value = t.number(fill, x, "constant_value")
    for axis, before, after in zip(axes, sizes, sizes[len(axes) :], strict=False):
        if mode != "constant" and (before or after):
            x = mirrored(t, x, axis, before, after, mode)
        else:
            x = t.pad(x, axis, before, after, value)
    return x


# -- constants


def constant(
    t: Tensors,
    *,
    value: np.ndarray | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
) -> Tensor:
    found: list[tuple[Any, type[np.generic]]] = [
        *((v, np.float32) for v in (value_float, value_floats) if v is not None),
        *((v, np.int64) for v in (value_int, value_ints) if v is not None),
    ]
    if value is not None:
        return value
    (only,) = found
    return np.array(*only)


def constant_of_shape(t: Tensors, shape: Tensor, *, value: np.ndarray | None = None) -> Tensor:
    fill = np.zeros(1, np.float32) if value is None else value
    if fill.size != 1:
        raise t.damaged(f"fills a tensor with {fill.size} numbers")
    return t.expand(fill.reshape(()), tuple(t.integers(shape, "shape")))
