"""Affine operations: forward against torch, and adjoint and absolute against the dense matrix."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bounds.network.affine import Affine, Linear, Reshape, Scale, Transposed, per_row, transposed
from bounds.network.convolution import Convolution
from bounds.network.indexing import Select
from tests.support.networks import Conv, Dice, conv_shape, convolutions, seeds

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
#: Spatial sizes up to 7, so that strides leave rows and columns over.
conv_inputs = st.one_of(
    st.tuples(st.integers(1, 4), st.integers(1, 7)),
    st.tuples(st.sampled_from([1, 2, 3, 4, 6]), st.integers(1, 7), st.integers(1, 7)),
)


@st.composite
def linears(draw: st.DrawFn) -> Linear:
    shape, out, dice = draw(shapes), draw(st.integers(1, 5)), Dice(draw(seeds))
    bias = dice.normal(out) if draw(st.booleans()) else None
    return Linear(shape, (*shape[:-1], out), dice.normal(out, shape[-1]), bias)


@st.composite
def convolution_operations(draw: st.DrawFn) -> Convolution:
    shape = draw(conv_inputs)
    layer: Conv = draw(convolutions(shape))
    dice = Dice(draw(seeds))
    return Convolution(
        shape,
        conv_shape(layer, shape),
        dice.normal(layer.channels, shape[0] // layer.groups, *layer.kernel),
        dice.normal(layer.channels) if draw(st.booleans()) else None,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
    )


@st.composite
def scales(draw: st.DrawFn) -> Scale:
    shape, dice = draw(shapes), Dice(draw(seeds))
    small = tuple(draw(st.sampled_from([1, size])) for size in shape)
    small = small[draw(st.integers(0, len(small))) :]
    return Scale(
        shape, shape, dice.normal(*small), dice.normal(*small) if draw(st.booleans()) else None
    )


@st.composite
def reshapes(draw: st.DrawFn) -> Reshape:
    shape = draw(shapes)
    size = math.prod(shape)
    first = draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
    return Reshape(shape, draw(st.sampled_from([(size,), (first, size // first)])))


@st.composite
def selects(draw: st.DrawFn) -> Select:
    """Permutations, parts, and choices in which inputs come several times or never."""
    shape, index_shape, dice = draw(shapes), draw(shapes), Dice(draw(seeds))
    kind = draw(st.sampled_from(["permutation", "part", "any"]))
    size = math.prod(shape)
    if kind == "any":
        return Select(shape, index_shape, dice.below(size, *index_shape))
    index = torch.argsort(dice.uniform(size))
    if kind == "part":
        index = index[: draw(st.integers(1, size))]
    return Select(shape, (len(index),), index)


@st.composite
def transposes(draw: st.DrawFn) -> Transposed:
    """With a bias of the shape of the output, or one that broadcasts to it, or none."""
    operation = draw(st.one_of(linears(), convolution_operations(), selects(), scales()))
    shape, dice = operation.input_shape, Dice(draw(seeds))
    biases = (None, dice.normal(*shape), dice.normal(shape[0], *[1] * (len(shape) - 1)))
    return transposed(operation, draw(st.sampled_from(biases)))


KINDS: dict[str, st.SearchStrategy[Affine]] = {
    "linear": linears(),
    "convolution": convolution_operations(),
    "scale": scales(),
    "reshape": reshapes(),
    "select": selects(),
    "transposed": transposes(),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def identity(shape: tuple[int, ...]) -> Tensor:
    size = math.prod(shape)
    return torch.eye(size, dtype=torch.float64).reshape(size, *shape)


def dense(operation: Affine) -> Tensor:
    """W as a matrix: (outputs, inputs)."""
    return operation.linear(identity(operation.input_shape)).flatten(1).mT


def sample(operation: Affine, seed: int, count: int = 2) -> Tensor:
    return Dice(seed + 1).normal(count, *operation.input_shape)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)


@given(linears(), seeds)
def test_linear_is_torchs(operation: Linear, seed: int) -> None:
    layer = nn.Linear(operation.weight.shape[1], operation.weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(operation.weight)
        layer.bias.copy_(torch.zeros(()) if operation.bias is None else operation.bias)
        close(operation.forward(sample(operation, seed)), layer(sample(operation, seed)))


@given(convolution_operations(), seeds)
def test_convolution_is_torchs(operation: Convolution, seed: int) -> None:
    x = sample(operation, seed)
    convolve = F.conv1d if len(operation.stride) == 1 else F.conv2d
    expected = convolve(
        x,
        operation.weight,
        operation.bias,
        stride=operation.stride,
        padding=operation.padding,
        dilation=operation.dilation,
        groups=operation.groups,
    )
    assert operation.output_shape == expected.shape[1:]
    close(operation.forward(x), expected)


@given(scales(), seeds)
def test_scale_is_elementwise(operation: Scale, seed: int) -> None:
    x = sample(operation, seed)
    expected = x * operation.scale.expand(x.shape)
    if operation.shift is not None:
        expected = expected + operation.shift.expand(x.shape)
    close(operation.forward(x), expected)


@given(reshapes(), seeds)
def test_reshape_keeps_order(operation: Reshape, seed: int) -> None:
    x = sample(operation, seed)
    y = operation.forward(x)
    assert y.shape == (len(x), *operation.output_shape)
    assert torch.equal(y.flatten(1), x.flatten(1))


@given(selects(), seeds)
def test_select_is_indexing(operation: Select, seed: int) -> None:
    x = sample(operation, seed)
    assert torch.equal(operation.forward(x), x.flatten(1)[:, operation.index])


@given(transposes(), seeds)
def test_transposed_is_the_transpose(operation: Transposed, seed: int) -> None:
    y = sample(operation, seed)
    expected = (y.flatten(1) @ dense(operation.operation)).unflatten(1, operation.output_shape)
    if operation.bias is not None:
        expected = expected + operation.bias.expand(operation.output_shape)
    close(operation.forward(y), expected)


def test_transposed_adds_the_bias_that_it_is_given() -> None:
    scale, bias = Scale((2,), (2,), torch.ones(2).double()), torch.tensor([1.0, 2.0]).double()
    close(transposed(scale, bias).forward(torch.zeros(1, 2).double()), bias.unsqueeze(0))


@every_kind
@given(data=st.data())
def test_adjoint_is_the_transpose(kind: str, data: st.DataObject) -> None:
    operation = data.draw(KINDS[kind])
    rows = operation.adjoint(identity(operation.output_shape))
    assert rows.shape[1:] == operation.input_shape
    close(rows.flatten(1), dense(operation))


@every_kind
@given(data=st.data(), seed=seeds)
def test_adjoint_identity(kind: str, data: st.DataObject, seed: int) -> None:
    operation = data.draw(KINDS[kind])
    x, y = sample(operation, seed), Dice(seed + 2).normal(2, *operation.output_shape)
    left = (operation.linear(x) * y).flatten(1).sum(1)
    right = (x * operation.adjoint(y)).flatten(1).sum(1)
    terms = (operation.absolute().linear(x.abs()) * y.abs()).flatten(1).sum(1)
    assert ((left - right).abs() <= 1e-14 * terms).all()


@every_kind
@given(data=st.data())
def test_absolute_is_the_absolute_matrix(kind: str, data: st.DataObject) -> None:
    operation = data.draw(KINDS[kind])
    absolute = operation.absolute()
    assert absolute.offset is None
    assert absolute.input_shape == operation.input_shape
    assert absolute.output_shape == operation.output_shape
    assert torch.equal(dense(absolute), dense(operation).abs())


@every_kind
@given(data=st.data(), seed=seeds)
def test_forward_is_linear_plus_offset(kind: str, data: st.DataObject, seed: int) -> None:
    operation = data.draw(KINDS[kind])
    x = sample(operation, seed)
    offset = operation.forward(torch.zeros_like(x[:1]))
    close(operation.forward(x), operation.linear(x) + offset)
    close(
        operation.linear(2 * x[:1] - x[1:]), 2 * operation.linear(x[:1]) - operation.linear(x[1:])
    )


@every_kind
@given(data=st.data(), seed=seeds)
def test_per_row_is_each_row(kind: str, data: st.DataObject, seed: int) -> None:
    operation = data.draw(KINDS[kind])
    rows = Dice(seed).normal(2, 3, *operation.output_shape)
    together = per_row(operation.adjoint, rows)
    assert together.shape == (2, 3, *operation.input_shape)
    for image in range(2):
        close(together[image], operation.adjoint(rows[image]))


@every_kind
@given(data=st.data())
def test_elementwise_operations_have_one_entry_a_row_and_a_column(
    kind: str, data: st.DataObject
) -> None:
    operation = data.draw(KINDS[kind])
    entries = dense(operation) != 0
    single = bool((entries.sum(0) <= 1).all() and (entries.sum(1) <= 1).all())
    assert single or not operation.elementwise
    if kind in ("scale", "reshape", "select"):
        assert operation.elementwise == single


@every_kind
@given(data=st.data())
def test_convert_reaches_every_tensor(kind: str, data: st.DataObject) -> None:
    operation = data.draw(KINDS[kind])
    seen: list[Tensor] = []

    def halve(tensor: Tensor) -> Tensor:
        seen.append(tensor)
        return tensor.float()

    converted = operation.convert(halve)
    assert type(converted) is type(operation)
    inner = operation.operation if isinstance(operation, Transposed) else operation
    biases = sum(part.offset is not None for part in {inner, operation})
    assert len(seen) == biases + (not isinstance(inner, Reshape | Select))
    assert all(tensor.is_floating_point() for tensor in seen)
    x = sample(operation, 0)
    actual = converted.forward(x.float())
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, operation.forward(x).float(), rtol=1e-4, atol=1e-4)


def test_adjoint_of_a_stride_that_leaves_rows_over() -> None:
    """Six columns, kernel two, stride three: the third and the last are never reached."""
    weight = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    operation = Convolution((1, 1, 6), (1, 1, 2), weight, None, (1, 3), (0, 0), (1, 1), 1)
    y = torch.tensor([[[[1.0, 10.0]]]], dtype=torch.float64)
    assert operation.adjoint(y).flatten().tolist() == [1, 1, 0, 10, 10, 0]


def test_operations_are_frozen() -> None:
    operation = Scale((1,), (1,), torch.ones(1))
    with pytest.raises(AttributeError, match="cannot assign"):
        operation.scale = torch.zeros(1)  # type: ignore[misc]
