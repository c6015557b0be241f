"""Functions that give a sample another shape, or its axes another order.

torch counts the batch as axis 0; here it has to stay where it is, one row a sample.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from bounds.network.build.builder import NetworkBuilder, Symbol
from bounds.read.operations.common import (
    BATCH,
    Handler,
    mentions_batch,
    sample_axes,
    sample_axis,
    symbol,
)


def variadic(handler: Handler) -> Handler:
    """The method that takes its sizes or axes one by one as well as in a sequence."""

    @functools.wraps(handler)
    def method(build: NetworkBuilder, input: Symbol, *sizes: Any, **named: Any) -> Any:
        if sizes and not isinstance(sizes[0], Sequence):
            sizes = (sizes,)
        return handler(build, input, *sizes, **named)

    return method


def _rows_kept(build: NetworkBuilder, name: str, shape: Sequence[Any], kept: bool) -> list[int]:
    """A shape without the batch at its head, where that is what stands there."""
    if not kept or mentions_batch(shape[1:]):
        raise build.refuse(
            f"{name} to {tuple(shape)} does not keep one row a sample",
            "begin the shape with x.size(0), or use x.flatten(1)",
        )
    return list(shape[1:])


# -- shapes ----------------------------------------------------------------------------------------


def size(build: NetworkBuilder, input: Symbol, dim: int | None = None) -> Any:
    shape = (BATCH, *input.shape)
    return shape if dim is None else shape[dim]


def reshape(build: NetworkBuilder, input: Symbol, shape: Sequence[Any]) -> Symbol:
    """view and reshape: -1 is the batch where the other sizes settle the sample."""
    x, sample = symbol(build, input, "input"), list(shape[1:])
    settled = not mentions_batch(sample) and -1 not in sample
    settled = settled and math.prod(sample) == math.prod(x.shape)
    kept = shape[0] is BATCH or (shape[0] == -1 and settled)
    return build.reshape(x, _rows_kept(build, "reshape", shape, kept))


def reshape_as(build: NetworkBuilder, input: Symbol, other: Symbol) -> Symbol:
    return build.reshape(input, symbol(build, other, "shape").shape)


def flatten(build: NetworkBuilder, input: Symbol, start_dim: int = 0, end_dim: int = -1) -> Symbol:
    x = symbol(build, input, "input")
    start, end = sample_axis(build, x, start_dim), sample_axis(build, x, end_dim)
    if start > end:
        raise build.misfit(x, f"axis {start_dim} not to come behind axis {end_dim}")
    return build.reshape(x, (*x.shape[:start], -1, *x.shape[end + 1 :]))


def unflatten(build: NetworkBuilder, input: Symbol, dim: int, sizes: Sequence[int]) -> Symbol:
    axis = sample_axis(build, input, dim)
    return build.reshape(input, (*input.shape[:axis], *sizes, *input.shape[axis + 1 :]))


def squeeze(build: NetworkBuilder, input: Symbol, dim: int | Sequence[int] | None = None) -> Symbol:
    if dim is None:
        raise build.refuse(
            "squeeze() without an axis drops a batch of one sample", "name the axes to drop"
        )
    axes = sample_axes(build, input, dim)
    kept = [s for axis, s in enumerate(input.shape) if s != 1 or axis not in axes]
    build.require_shape(kept)
    return build.reshape(input, kept)


def unsqueeze(build: NetworkBuilder, input: Symbol, dim: int) -> Symbol:
    axis = sample_axis(build, input, dim, new=1)
    return build.reshape(input, (*input.shape[:axis], 1, *input.shape[axis:]))


def expand(
    build: NetworkBuilder, input: Symbol, shape: Sequence[Any], implicit: bool = False
) -> Symbol:
    kept = shape[0] is BATCH or shape[0] == -1
    sample = _rows_kept(build, "expand", shape, kept)
    if len(sample) != len(input.shape):
        raise build.misfit(input, f"{len(sample)} axes, as expand to {tuple(shape)} needs")
    sizes = zip(sample, input.shape, strict=True)
    return build.expand(input, [s if wanted == -1 else wanted for wanted, s in sizes])


def repeat(build: NetworkBuilder, input: Symbol, repeats: Sequence[int]) -> Symbol:
    if len(repeats) != len(input.shape) + 1 or repeats[0] is BATCH or repeats[0] != 1:
        raise build.refuse(
            f"repeat by {tuple(repeats)} does not keep one row a sample",
            "give one number an axis, and 1 for the batch",
        )
    build.require_shape([r * s for r, s in zip(repeats[1:], input.shape, strict=True)])
    return build.select(input, build.places(input).repeat(*repeats[1:]))


# -- order -----------------------------------------------------------------------------------------


def permute(build: NetworkBuilder, input: Symbol, dims: Sequence[int]) -> Symbol:
    rank = len(input.shape) + 1
    if dims[0] % rank != 0:
        raise build.refuse(f"permute to {tuple(dims)} moves the batch axis", "keep it first")
    return build.transpose(input, sample_axes(build, input, dims[1:]))


def transpose(build: NetworkBuilder, input: Symbol, dim0: int, dim1: int) -> Symbol:
    order = list(range(len(input.shape)))
    one, other = sample_axes(build, input, (dim0, dim1))
    order[one], order[other] = other, one
    return build.transpose(input, order)


def swapaxes(build: NetworkBuilder, input: Symbol, axis0: int, axis1: int) -> Symbol:
    return transpose(build, input, axis0, axis1)


def move_axes(
    build: NetworkBuilder,
    input: Symbol,
    source: int | Sequence[int],
    destination: int | Sequence[int],
) -> Symbol:
    """torch.movedim"""
    order = list(range(len(input.shape)))
    ends = (sample_axes(build, input, dims) for dims in (destination, source))
    moved = dict(zip(*ends, strict=True))
    for axis in moved.values():
        order.remove(axis)
    for place in sorted(moved):
        order.insert(place, moved[place])
    return build.transpose(input, order)


def matrix_transpose(build: NetworkBuilder, input: Symbol) -> Symbol:
    """x.mT"""
    return transpose(build, input, -2, -1)


def flip(build: NetworkBuilder, input: Symbol, dims: Sequence[int]) -> Symbol:
    return build.select(input, build.places(input).flip(sample_axes(build, input, dims)))
