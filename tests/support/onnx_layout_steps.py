"""ONNX operators that move numbers about, as steps of a drawn graph."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from onnx import TensorProto

from tests.support.onnx_compute_steps import axes_form, reshaped, scalars
from tests.support.onnx_graphs import Draft, Normal, Whole

INT_MAX = 2**63 - 1


def flatten(d: Draft) -> None:
    lowest = 1 if d.batched else 0
    axis = d.draw(st.sampled_from([1, 1, *range(lowest, 2 if d.batched else len(d.shape) + 1)]))
    d.add("Flatten", d.last, axis=min(axis, len(d.shape)))


def reshape(d: Draft) -> None:
    """By literal sizes, copied ones, an inferred one, or the way exporters write view(n, -1)."""
    x, size = d.last, d.size
    factor = d.draw(st.sampled_from([f for f in range(1, size + 1) if size % f == 0]))
    lead: tuple[int, ...] = (0,) if d.batched else d.draw(st.sampled_from([(), (1,)]))
    kind = d.draw(st.sampled_from(["inferred", "literal", "inferred batch", "copied", "chain"]))
    if kind == "chain":
        if not d.batched:
            reshaped(d, (size,))
        x = d.last
        d.add("Shape", x)
        if d.draw(st.booleans()):
            d.add("Cast", d.last, to=TensorProto.INT64)
        if d.opset >= 10 and d.draw(st.booleans()):
            d.add("Slice", d.last, Whole((0,)), Whole((1,)))
        else:
            d.add("Gather", d.last, Whole(0), axis=0)
            axes_form(d, "Unsqueeze", 13, [0])
        d.add("Concat", d.last, Whole((-1, factor)), axis=0)
        d.add("Reshape", x, d.last)
    elif kind == "copied":
        d.add("Reshape", x, Whole((*[0] * (len(d.shape) - 1), d.shape[-1], 1)))
    elif kind == "inferred batch" and d.batched:
        d.add("Reshape", x, Whole((-1, factor, size // factor)))
    elif kind == "literal":
        allowzero = {"allowzero": 1} if d.opset >= 14 and not d.batched else {}
        d.add("Reshape", x, Whole((*lead, factor, size // factor)), **allowzero)
    else:
        d.add("Reshape", x, Whole((*lead, factor, -1)))


def transpose(d: Draft) -> None:
    order = d.draw(st.permutations(range(d.first, len(d.shape))))
    if not d.batched and d.draw(st.booleans()):
        d.add("Transpose", d.last)
    else:
        d.add("Transpose", d.last, perm=[*range(d.first), *order])


def squeeze(d: Draft) -> None:
    ones = [i for i in range(d.first, len(d.shape)) if d.shape[i] == 1]
    if not ones:
        unsqueeze(d)
        ones = [i for i in range(d.first, len(d.shape)) if d.shape[i] == 1]
    if len(d.shape) > 1:
        # Where it has no axes, it takes the axis of an open batch as well, for a batch of one.
        every = d.draw(st.booleans()) and not d.batched
        axes_form(d, "Squeeze", 13, None if every else ones[: d.draw(st.integers(1, len(ones)))])


def unsqueeze(d: Draft) -> None:
    axes = d.draw(st.lists(st.integers(d.first, len(d.shape)), unique=True, min_size=1, max_size=2))
    axes_form(d, "Unsqueeze", 13, axes)


def concat(d: Draft) -> None:
    x, axis = d.last, d.axis()
    other = d.add("Neg", x) if d.draw(st.booleans()) else x
    d.add("Concat", x, other, axis=axis if d.opset >= 11 else axis % len(d.shape))


def split(d: Draft) -> None:
    axis = d.draw(st.integers(d.first, len(d.shape) - 1))
    whole = d.shape[axis]
    first = d.draw(st.integers(1, max(1, whole - 1)))
    sizes = [first, whole - first] if whole > 1 else [1]
    equal = len(set(sizes)) == 1 and d.draw(st.booleans())
    if equal and d.opset < 18:
        d.add("Split", d.last, axis=axis, outputs=len(sizes))
    elif d.opset >= 18 and d.draw(st.booleans()):
        d.add("Split", d.last, axis=axis, num_outputs=len(sizes), outputs=len(sizes))
    elif d.opset < 13:
        d.add("Split", d.last, axis=axis, split=sizes, outputs=len(sizes))
    else:
        d.add("Split", d.last, Whole(tuple(sizes)), axis=axis, outputs=len(sizes))
    if len(sizes) == 2 and d.draw(st.booleans()):
        d.add("Concat", d.last, d.last - 1, axis=axis)


def slice_(d: Draft) -> None:
    axis = d.draw(st.integers(d.first, len(d.shape) - 1))
    size = d.shape[axis]
    start = d.draw(st.integers(0, size - 1))
    stop = d.draw(st.sampled_from([start + 1, size, INT_MAX]))
    if d.opset < 10:
        d.add("Slice", d.last, starts=[start], ends=[stop], axes=[axis])
        return
    step = d.draw(st.sampled_from([1, 2, -1, -2]))
    ends = (start, stop) if step > 0 else (d.draw(st.sampled_from([start, -1, INT_MAX])), -INT_MAX)
    bounds = [Whole((ends[0],)), Whole((ends[1],)), Whole((axis - len(d.shape),)), Whole((step,))]
    if axis == 0 and step == 1:
        bounds = bounds[:2]
    d.add("Slice", d.last, *bounds)


def gather(d: Draft) -> None:
    axis = d.axis(signed=d.opset >= 11)
    size = d.shape[axis]
    entries = st.integers(-size if d.opset >= 11 else 0, size - 1)
    index: Any = d.draw(st.one_of(st.lists(entries, min_size=1, max_size=4).map(tuple), entries))
    if len(d.shape) == 1 and isinstance(index, int):
        index = (index,)
    d.add("Gather", d.last, Whole(index), axis=axis)


def pad(d: Draft) -> None:
    rank = len(d.shape)
    x, axis = d.last, d.draw(st.integers(d.first, rank - 1))
    sizes = [0] * (2 * rank)
    sizes[axis] = d.draw(st.integers(-1 if d.shape[axis] > 2 else 0, 2))
    sizes[rank + axis] = d.draw(st.integers(-1 if d.shape[axis] > 2 else 0, 2))
    if d.opset < 11:
        d.add("Pad", x, pads=sizes, value=d.draw(scalars))
    elif d.opset >= 18 and d.draw(st.booleans()):
        both = Whole((sizes[axis], sizes[rank + axis]))
        d.add("Pad", x, both, Normal(()), Whole((axis - rank,)))
    else:
        fill = (Normal(()),) if d.draw(st.booleans()) else ()
        d.add("Pad", x, Whole(tuple(sizes)), *fill)


def expand(d: Draft) -> None:
    if d.opset < 8:
        return
    x = d.last
    shape = [1 if d.draw(st.booleans()) else size for size in d.shape]
    if d.size <= 12:
        shape = [s if size > 1 else 2 for s, size in zip(shape, d.shape, strict=True)]
    shape[: d.first] = [1] * d.first
    if not d.batched and d.draw(st.booleans()):
        shape.insert(0, 2)
    d.add("Expand", x, Whole(tuple(shape)))
