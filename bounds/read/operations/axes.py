"""Functions that take parts of a sample, put samples together, or reduce along axes.

torch counts the batch as axis 0; here it has to stay where it is, one row a sample.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.network.build.builder import NetworkBuilder, Symbol
from bounds.read.operations import arithmetic
from bounds.read.operations.common import Handler, constant, sample_axes, sample_axis, symbol
from bounds.read.operations.shapes import unsqueeze

#: Parts that one tensor may be taken apart into: each becomes a node.
MAX_PARTS = 1024

# -- parts -----------------------------------------------------------------------------------------


def getitem(build: NetworkBuilder, input: Symbol, item: Any) -> Symbol:
    """x[item] by torch's own rules, where the batch axis is left whole."""
    entries = item if isinstance(item, tuple) else (item,)
    if entries[0] is Ellipsis:
        entries = (slice(None), *entries)
    places, size = build.places(input), math.prod(input.shape)
    if isinstance(entries[0], slice) and entries[0] == slice(None):
        # Two samples show whether the batch comes out first, as it may not with several tensors.
        found = torch.stack((places, places + size))[entries]
        if len(found) == 2 and torch.equal(found[1], found[0] + size):
            return build.select(input, found[0])
    raise build.refuse("its index does not keep one row a sample", "index as x[:, …]")


def aten_index(build: NetworkBuilder, input: Symbol, indices: Sequence[Tensor | None]) -> Symbol:
    return getitem(build, input, tuple(slice(None) if i is None else i for i in indices))


def aten_slice(
    build: NetworkBuilder,
    input: Symbol,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Symbol:
    if dim == 0 and not start and step == 1 and (end is None or end == 2**63 - 1):
        return input
    return build.slice(input, sample_axis(build, input, dim), start, end, step)


def select(build: NetworkBuilder, input: Symbol, dim: int, index: int) -> Symbol:
    return build.gather(input, sample_axis(build, input, dim), torch.tensor(index))


def index_select(build: NetworkBuilder, input: Symbol, dim: int, index: Tensor) -> Symbol:
    index = constant(build, index, "index")
    return build.gather(input, sample_axis(build, input, dim), index.reshape(-1))


def narrow(build: NetworkBuilder, input: Symbol, dim: int, start: int, length: int) -> Symbol:
    axis = sample_axis(build, input, dim)
    start += input.shape[axis] if start < 0 else 0
    if not 0 <= start < start + length <= input.shape[axis]:
        raise build.misfit(input, f"{start + length} entries along axis {dim}")
    return build.slice(input, axis, start, start + length)


def split(
    build: NetworkBuilder, input: Symbol, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[Symbol, ...]:
    axis = sample_axis(build, input, dim)
    size, sections = input.shape[axis], split_size_or_sections
    if isinstance(sections, int):
        _require_few(build, -(-size // sections))
        sections = [min(sections, size - at) for at in range(0, size, sections)]
    if min(sections) < 1 or sum(sections) != size:
        raise build.misfit(input, f"an axis of parts of {tuple(sections)}")
    ends = itertools.accumulate(sections)
    return tuple(
        build.slice(input, axis, end - length, end)
        for end, length in zip(ends, sections, strict=True)
    )


def chunk(build: NetworkBuilder, input: Symbol, chunks: int, dim: int = 0) -> tuple[Symbol, ...]:
    return split(build, input, -(-input.shape[sample_axis(build, input, dim)] // chunks), dim)


def unbind(build: NetworkBuilder, input: Symbol, dim: int = 0) -> tuple[Symbol, ...]:
    count = input.shape[sample_axis(build, input, dim)]
    _require_few(build, count)
    return tuple(select(build, input, dim, index) for index in range(count))


def _require_few(build: NetworkBuilder, parts: int) -> None:
    if parts > MAX_PARTS:
        raise build.refuse(f"it makes {parts} parts", f"use at most {MAX_PARTS}")


# -- wholes ----------------------------------------------------------------------------------------


def cat(build: NetworkBuilder, tensors: Sequence[Symbol], dim: int = 0) -> Symbol:
    parts = [symbol(build, part, "part") for part in tensors]
    return build.concat(parts, sample_axis(build, parts[0], dim))


def stack(build: NetworkBuilder, tensors: Sequence[Symbol], dim: int = 0) -> Symbol:
    parts = [symbol(build, part, "part") for part in tensors]
    axis = sample_axis(build, parts[0], dim, new=1)
    return build.concat([unsqueeze(build, part, axis + 1) for part in parts], axis)


def pad(
    build: NetworkBuilder,
    input: Symbol,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Symbol:
    """Pairs (before, after) from the last axis on; other modes repeat numbers of the input."""
    if mode != "constant":
        return _rearranged(build, input, lambda places: F.pad(places, pad, mode))
    before, after = ([0] * len(input.shape) for _ in range(2))
    if len(pad) > 2 * len(input.shape):
        raise build.refuse("it pads the batch axis", "keep one row a sample")
    for axis, (b, a) in enumerate(zip(pad[::2], pad[1::2], strict=True), start=1):
        before[-axis], after[-axis] = b, a
    return build.pad(input, before, after, value or 0.0)


def interpolate(
    build: NetworkBuilder,
    input: Symbol,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Symbol:
    if mode not in ("nearest", "nearest-exact") or antialias:
        raise build.refuse(f"interpolation of mode {mode!r} is not modelled", "use mode='nearest'")

    def nearest(numbers: Tensor) -> Tensor:
        return F.interpolate(
            numbers, size, scale_factor, mode, recompute_scale_factor=recompute_scale_factor
        )

    # torch computes where to read in the dtype of what it reads: so places go by their coordinates,
    # which the model's dtype holds exactly.
    sizes = input.shape[1:]
    _require_shape_of(build, input, nearest)
    axes = [torch.arange(n, dtype=build.model_dtype, device=build.device) for n in sizes]
    read = nearest(torch.stack(torch.meshgrid(*axes, indexing="ij")).unsqueeze(0))[0].long()
    index = torch.zeros_like(read[0])
    for size, coordinate in zip(sizes, read, strict=True):
        index = index * size + coordinate
    channels = build.places(input).flatten(1)
    return build.select(input, channels[:, index.flatten()].unflatten(1, index.shape))


def aten_upsample(
    build: NetworkBuilder,
    input: Symbol,
    output_size: Sequence[int] | None,
    scale_factors: Sequence[float] | None,
) -> Symbol:
    return interpolate(build, input, output_size, scale_factors)


def _rearranged(build: NetworkBuilder, x: Symbol, function: Callable[[Tensor], Tensor]) -> Symbol:
    """A torch function that only moves and repeats numbers, by what it does to their places."""
    _require_shape_of(build, x, function)
    return build.select(x, function(build.places(x).double().unsqueeze(0))[0].long())


def _require_shape_of(
    build: NetworkBuilder, x: Symbol, function: Callable[[Tensor], Tensor]
) -> None:
    """Without numbers first: what comes out can be far larger than what goes in."""
    trial = function(torch.empty(1, *x.shape, dtype=torch.float64, device="meta"))
    build.require_shape(trial.shape[1:])


def pixel_shuffle(build: NetworkBuilder, input: Symbol, upscale_factor: int) -> Symbol:
    return _rearranged(build, input, lambda places: F.pixel_shuffle(places, upscale_factor))


def pixel_unshuffle(build: NetworkBuilder, input: Symbol, downscale_factor: int) -> Symbol:
    return _rearranged(build, input, lambda places: F.pixel_unshuffle(places, downscale_factor))


# -- reductions ------------------------------------------------------------------------------------


def reduction(*, mean: bool) -> Handler:
    """torch.mean or torch.sum."""

    def handler(
        build: NetworkBuilder,
        input: Symbol,
        dim: int | Sequence[int] | None = None,
        keepdim: bool = False,
        dtype: None = None,
    ) -> Symbol:
        if dtype is not None:
            raise build.refuse(f"it turns its numbers into {dtype}", "keep the model in one dtype")
        axes = sample_axes(build, input, _named(build, dim))
        return build.reduce(input, axes, mean=mean, keepdim=keepdim)

    return handler


class Extremes(NamedTuple):
    """What torch.max and min along an axis return; where the extremes are is not modelled."""

    values: Symbol
    indices: None


def extreme(along: Handler, of_two: Handler) -> Handler:
    """torch.max or torch.min, along an axis or of two tensors."""

    def handler(
        build: NetworkBuilder,
        input: Symbol | Tensor,
        dim: int | Symbol | Tensor | None = None,
        keepdim: bool = False,
        *,
        other: Symbol | Tensor | None = None,
    ) -> Symbol | Extremes:
        second = dim if other is None else other
        if isinstance(second, Symbol | Tensor):
            result: Symbol = of_two(build, input, second)
            return result
        x = symbol(build, input, "input")
        return Extremes(along(build, x, _named(build, second), keepdim), None)

    return handler


def largest(
    build: NetworkBuilder, input: Symbol, dim: int | Sequence[int] = (), keepdim: bool = False
) -> Symbol:
    """torch.amax"""
    return build.largest(input, sample_axes(build, input, _named(build, dim)), keepdim=keepdim)


def smallest(
    build: NetworkBuilder, input: Symbol, dim: int | Sequence[int] = (), keepdim: bool = False
) -> Symbol:
    """torch.amin"""
    return build.negative(largest(build, build.negative(input), dim, keepdim))


def _named(build: NetworkBuilder, dim: int | Sequence[int] | None) -> int | Sequence[int]:
    if dim is None or (not isinstance(dim, int) and not len(dim)):
        raise build.refuse("it reduces over the batch too", "name the axes, from 1 on")
    return dim


maximum = extreme(largest, arithmetic.maximum)
minimum = extreme(smallest, arithmetic.minimum)
