"""ONNX operators that compute, as steps of a drawn graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from onnx import TensorProto

from tests.support.onnx_graphs import DTYPE, Draft, Normal, Operand, Shape, Whole

Draw = Callable[[Draft], None]
scalars = st.sampled_from([-1.5, -0.5, 0.25, 0.5, 2.0])


def axes_form(d: Draft, op: str, since: int, axes: list[int] | None, **attributes: Any) -> None:
    """An operator whose axes became an input with the opset `since`."""
    if axes is None:
        d.add(op, d.last, **attributes)
    elif d.opset < since:
        d.add(op, d.last, axes=axes, **attributes)
    else:
        d.add(op, d.last, Whole(tuple(axes)), **attributes)


def some_axes(d: Draft) -> list[int]:
    """A few axes to work along."""
    rank = len(d.shape)
    axes = d.draw(st.lists(st.integers(d.first, rank - 1), unique=True, min_size=1, max_size=2))
    return [axis - rank if d.draw(st.booleans()) and d.opset >= 13 else axis for axis in axes]


def reshaped(d: Draft, sample: Shape) -> None:
    """A sample of this shape behind a first axis that is the batch, or has size 1."""
    wanted = (d.shape[0] if d.batched else 1, *sample)
    if d.shape != wanted:
        d.add("Reshape", d.last, Whole((-1 if d.batched else 1, *sample)))


def image(d: Draft, axes: int) -> None:
    """A sample (channels, *spatial) of at least two numbers, whatever there was."""
    if len(d.shape) == axes + 2 and (d.batched or d.shape[0] == 1):
        return
    size = d.size
    channels = d.draw(st.sampled_from([c for c in (1, 2, 3) if size % c == 0]))
    rest = size // channels
    height = d.draw(st.sampled_from([h for h in range(1, rest + 1) if rest % h == 0]))
    reshaped(d, (channels, rest) if axes == 1 else (channels, height, rest // height))


# -- elementwise


def unary(op: str, **attributes: st.SearchStrategy[Any]) -> Callable[[Draft], None]:
    def step(d: Draft) -> None:
        d.add(op, d.last, **{name: d.draw(value) for name, value in attributes.items()})

    return step


def dropout(d: Draft) -> None:
    if d.opset < 12:
        d.add("Dropout", d.last, ratio=0.5)
    else:
        x = d.last
        ratio = d.add("Constant", value_float=0.5) if d.draw(st.booleans()) else None
        d.add("Dropout", x, ratio)


def cast(d: Draft) -> None:
    double = d.add("Cast", d.last, to=TensorProto.DOUBLE)
    d.add("Cast", double, to=DTYPE)
    d.variables.discard(double)  # nothing else goes on from there


def clip(d: Draft) -> None:
    low, high = d.draw(st.sampled_from([(-0.5, 0.5), (0.0, 1.0), (-1.0, 0.25)]))
    kind = d.draw(st.sampled_from(["both", "low", "high", "none"]))
    if d.opset < 11:
        bounds = {"min": low, "max": high}
        drop = {"both": (), "low": ("max",), "high": ("min",), "none": ("min", "max")}[kind]
        d.add("Clip", d.last, **{k: v for k, v in bounds.items() if k not in drop})
        return
    x = d.last
    limits: list[Operand] = [None, None]
    if kind in ("both", "low"):
        limits[0] = d.add("Neg", d.add("Abs", Normal(())))
    if kind in ("both", "high"):
        limits[1] = d.add("Abs", Normal(()))
    d.add("Clip", x, *limits)


def prelu(d: Draft) -> None:
    d.add("PRelu", d.last, Normal(d.broadcastable()))


def binary(
    op: str, *, swap: bool = True, symbols: bool = True, since: int = 7
) -> Callable[[Draft], None]:
    """With a constant on either side, or with another tensor of the graph."""

    def step(d: Draft) -> None:
        kinds = ["constant", "grown", *["swapped"] * swap, *["tensor", "kept"] * symbols]
        kind = d.draw(st.sampled_from(kinds))
        x, shape = d.last, d.broadcastable()
        if d.opset < since:  # no broadcasting
            kind, shape = "constant", d.shape
            if d.batched:
                kind = "tensor"
        if kind == "grown" and d.size <= 12:  # the constant is the larger one
            shape = tuple(2 if size == 1 else size for size in d.shape[d.first :])
        constant = Normal(shape, "away" if op == "Div" else "")
        if kind == "tensor":
            same = [i for i in range(d.last + 1) if d.shapes[i] == d.shape and i in d.variables]
            d.add(op, x, d.draw(st.sampled_from(same)))
        elif kind == "kept":  # against its own maximum or mean along an axis
            axis = d.draw(st.integers(d.first, len(d.shape) - 1))
            axes_form(d, "ReduceMean", 18, [axis], keepdims=1)
            d.add(op, x, d.last)
        else:
            d.add(op, *((constant, x) if kind == "swapped" else (x, constant)))

    return step


# -- products


def matmul(d: Draft) -> None:
    rank, columns = len(d.shape), d.draw(st.integers(1, 3))
    if rank - 2 >= d.first and d.draw(st.booleans()):
        rows = d.shape[-2]
        d.add("MatMul", Normal(d.draw(st.sampled_from([(columns, rows), (rows,)]))), d.last)
    elif rank == 1 and d.draw(st.booleans()):
        d.add("MatMul", Normal((columns, d.shape[0])), d.last)
    else:
        size = d.shape[-1]
        forms = [(size, columns), (size,)]
        if len(d.shape) >= 3 or not d.batched:
            forms.append((1, size, columns))
        d.add("MatMul", d.last, Normal(d.draw(st.sampled_from(forms))))


def gemm(d: Draft) -> None:
    if len(d.shape) != 2:
        d.add("Flatten", d.last, axis=1)
    rows, features = d.shape
    columns = d.draw(st.integers(1, 3))
    attributes = {
        name: d.draw(strategy)
        for name, strategy in {"alpha": scalars, "beta": scalars}.items()
        if d.draw(st.booleans())
    }
    transposed = d.draw(st.integers(0, 1))
    if not d.batched and d.draw(st.booleans()):  # the constant on the left
        inner = d.draw(st.integers(0, 1))
        rows, columns = columns, d.shape[1 - inner] if not inner else rows
        k = d.shape[0] if not inner else features
        weight = Normal((k, rows) if transposed else (rows, k))
        operands: tuple[Operand, ...] = (weight, d.last)
        attributes |= {"transA": transposed, "transB": inner}
        columns = features if not inner else d.shape[0]
    else:
        flipped = not d.batched and d.draw(st.booleans())
        k = rows if flipped else features
        rows = features if flipped else rows
        weight = Normal((columns, k) if transposed else (k, columns))
        operands = (d.last, weight)
        attributes |= {"transA": int(flipped), "transB": transposed}
    biases: list[Shape] = [(), (1,), (columns,), (1, columns), (1, 1)]
    if not d.batched:
        biases += [(rows, 1), (rows, columns)]
    kind = d.draw(st.sampled_from(["none"] * (d.opset >= 11) + ["constant"] * 3 + ["tensor"]))
    if kind == "constant":
        operands += (Normal(d.draw(st.sampled_from(biases))),)
    elif kind == "tensor":
        operands += (d.add("Gemm", *operands, Normal((columns,)), **attributes),)
    d.add("Gemm", *operands, **attributes)


def batch_norm(d: Draft) -> None:
    image(d, d.draw(st.integers(1, 2)))
    per_channel = (d.shape[1],)
    statistics = (Normal(per_channel), Normal(per_channel), Normal(per_channel))
    eps = d.draw(st.sampled_from([1e-5, 0.1]))
    d.add("BatchNormalization", d.last, *statistics, Normal(per_channel, "positive"), epsilon=eps)


# -- reductions


def reduction(op: str, since: int) -> Callable[[Draft], None]:
    def step(d: Draft) -> None:
        keepdims = d.draw(st.integers(0, 1))
        every = not d.batched and d.draw(st.booleans())
        axes = None if every else some_axes(d)
        noop = {"noop_with_empty_axes": 1} if d.opset >= 18 and d.draw(st.booleans()) else {}
        axes_form(d, op, since, axes, keepdims=keepdims, **noop)

    return step
