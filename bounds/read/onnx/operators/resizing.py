"""Operators that repeat numbers, or take some, along each axis by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bounds.read.export.archive import short
from bounds.read.onnx.tensors import Axes, Tensor, Tensors

#: For each coordinate of the result, in float32 as runtimes compute: its place in the input, of
#: which `scale` is the share of the sizes.
PLACES: dict[str, Callable[[np.ndarray, np.float32, int, int], np.ndarray]] = {
    "asymmetric": lambda i, scale, size, new: i / scale,
    "half_pixel": lambda i, scale, size, new: (i + np.float32(0.5)) / scale - np.float32(0.5),
    "pytorch_half_pixel": lambda i, scale, size, new: (
        (i + np.float32(0.5)) / scale - np.float32(0.5) if new > 1 else 0 * i
    ),
    "align_corners": lambda i, scale, size, new: (
        i * np.float32(size - 1) / np.float32(max(new - 1, 1))
    ),
}
ROUNDED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda place: np.ceil(place - np.float32(0.5)),
    "round_prefer_ceil": lambda place: np.floor(place + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}


def resize(
    t: Tensors,
    x: Tensor,
    second: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    /,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str | None = None,
    nearest_mode: str | None = None,
    axes: Axes = None,
) -> Tensor:
    if t.opset < 11:  # where the second input has the scales
        return upsample(t, x, second, mode=mode)
    places = coordinate_transformation_mode or "half_pixel"
    rounded = nearest_mode or "round_prefer_floor"
    if mode != "nearest" or places not in PLACES or rounded not in ROUNDED:
        raise t.refuse(
            f"mode={short(mode)} with coordinates {short(places)} is not modelled",
            "use mode='nearest' with coordinates 'asymmetric' or 'half_pixel'",
        )
    chosen = t.axes(len(x.shape), range(len(x.shape)) if axes is None else axes)
    factors = _factors(t, scales, len(chosen))
    wanted = t.integers(sizes, "sizes") if sizes is not None else None
    if (factors is None) == (wanted is None) or len(wanted or chosen) != len(chosen):
        raise t.damaged("has not one scale or one size an axis")
    for i, axis in enumerate(chosen):
        size = x.shape[axis]
        if factors is not None:
            x = _resized(t, x, axis, int(np.floor(size * factors[i])), factors[i], places, rounded)
        elif wanted is not None and wanted[i] != size:
            scale = np.float32(wanted[i]) / np.float32(size)
            x = _resized(t, x, axis, wanted[i], scale, places, rounded)
    return x


def upsample(
    t: Tensors,
    x: Tensor,
    factors: Tensor | None = None,
    /,
    *,
    mode: str = "nearest",
    scales: Sequence[float] | None = None,
) -> Tensor:
    if mode != "nearest":
        raise t.refuse(f"mode={short(mode)} is not modelled", "use mode='nearest'")
    listed = None if scales is None else np.array(scales, np.float32)
    found = _factors(t, factors, len(x.shape)) if listed is None else listed
    if found is None or len(found) != len(x.shape):
        raise t.damaged("has not one scale an axis")
    for axis, factor in enumerate(found):
        new = int(np.floor(x.shape[axis] * factor))
        x = _resized(t, x, axis, new, factor, "asymmetric", "floor")
    return x


def tile(t: Tensors, x: Tensor, repeats: Tensor) -> Tensor:
    numbers = t.integers(repeats, "repeats")
    if len(numbers) != len(x.shape) or min(numbers, default=1) < 1:
        raise t.damaged(f"repeats shape {t.show(x.shape)} by {short(numbers)}")
    for axis, number in enumerate(numbers):
        if number > 1:
            x = t.take(x, axis, t.count(x.shape[axis] * number) % x.shape[axis])
    return x


def mirrored(t: Tensors, x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """An axis continued at both ends by what it has."""
    size = x.shape[axis]
    place = t.count(before + size + after) - before
    match mode:
        case "edge":
            place = place.clip(0, size - 1)
        case "wrap":
            place = place % size
        case "reflect" if max(before, after) < size:
            place = size - 1 - abs(size - 1 - abs(place))
        case _:
            raise t.refuse(
                f"mode={short(mode)} of {before} and {after} entries for {size} is not modelled",
                "use mode='constant', 'edge' or 'wrap'",
            )
    return t.take(x, axis, place)


def _factors(t: Tensors, scales: Tensor | None, axes: int) -> np.ndarray | None:
    if scales is None or (isinstance(scales, np.ndarray) and not scales.size):
        return None
    if not isinstance(scales, np.ndarray):
        raise t.refuse("its scales depend on the input", "use constants")
    if scales.dtype != np.float32 or scales.shape != (axes,) or not (scales > 0).all():
        raise t.damaged(f"has scales of type {scales.dtype} and shape {scales.shape}")
    return scales


def _resized(
    t: Tensors, x: Tensor, axis: int, new: int, scale: np.float32, places: str, rounded: str
) -> Tensor:
    size = x.shape[axis]
    if scale == 1 and new == size:
        return x
    place = PLACES[places](t.count(new).astype(np.float32), scale, size, new)
    return t.take(x, axis, ROUNDED[rounded](place).clip(0, size - 1).astype(np.int64))
