"""Products, convolutions, pools and reductions: the builder against torch."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from bounds.network.graph import Network
from tests.support.building import Call, agrees, built, images, shapes
from tests.support.layers import Dice, Shape
from tests.support.networks import seeds

# -- products


@given(shapes, st.integers(1, 4), seeds)
def test_matmul_left(shape: Shape, rows: int, seed: int) -> None:
    shape = (*shape, 3)
    weight = Dice(seed).normal(rows, shape[-2])
    agrees(shape, lambda build, x: build.matmul_left(weight, x), lambda x: weight @ x, seed)


@given(images, st.data(), seeds)
def test_convolution_pads_each_side_by_itself(shape: Shape, data: st.DataObject, seed: int) -> None:
    axes = range(len(shape) - 1)
    pairs = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in axes]
    kernel = [data.draw(st.integers(1, size)) for size in shape[1:]]
    stride = [data.draw(st.integers(1, 2)) for _ in axes]
    weight, bias = Dice(seed).normal(2, shape[0], *kernel), Dice(seed + 1).normal(2)
    convolve = F.conv1d if len(kernel) == 1 else F.conv2d
    agrees(
        shape,
        lambda build, x: build.convolution(x, weight, bias, stride=stride, padding=pairs),
        lambda x: convolve(
            F.pad(x, [p for pair in reversed(pairs) for p in pair]), weight, bias, stride
        ),
        seed,
    )


@given(images, st.data(), st.booleans(), seeds)
def test_convolution_transpose(shape: Shape, data: st.DataObject, bias: bool, seed: int) -> None:
    kernel, stride, dilation, padding, extra = [], [], [], [], []
    for size in shape[1:]:
        for numbers in (kernel, stride, dilation):
            numbers.append(data.draw(st.integers(1, 3)))
        extra.append(data.draw(st.integers(0, max(stride[-1], dilation[-1]) - 1)))
        reach = (size - 1) * stride[-1] + dilation[-1] * (kernel[-1] - 1)
        padding.append(data.draw(st.integers(0, min(3, reach // 2))))
    groups = data.draw(st.sampled_from([g for g in (1, shape[0]) if shape[0] % g == 0]))
    dice = Dice(seed)
    weight = dice.normal(shape[0], 2, *kernel)
    offset = dice.normal(2 * groups) if bias else None
    transpose: Any = F.conv_transpose1d if len(kernel) == 1 else F.conv_transpose2d

    def expected(x: Tensor) -> Tensor:
        return transpose(x, weight, offset, stride, padding, extra, groups, dilation)

    agrees(
        shape,
        lambda build, x: build.convolution_transpose(
            x,
            weight,
            offset,
            stride=stride,
            padding=padding,
            output_padding=extra,
            dilation=dilation,
            groups=groups,
        ),
        expected,
        seed,
    )


@given(images, st.data(), seeds)
def test_convolution_transpose_crops_each_side_by_itself(
    shape: Shape, data: st.DataObject, seed: int
) -> None:
    axes = range(len(shape) - 1)
    stride = [data.draw(st.integers(1, 3)) for _ in axes]
    pairs = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in axes]
    weight, bias = Dice(seed).normal(shape[0], 2, *[5 for _ in axes]), Dice(seed).normal(2)
    transpose: Any = F.conv_transpose1d if len(pairs) == 1 else F.conv_transpose2d
    crops = [-p for pair in reversed(pairs) for p in pair]
    agrees(
        shape,
        lambda build, x: build.convolution_transpose(x, weight, bias, stride=stride, padding=pairs),
        lambda x: F.pad(transpose(x, weight, bias, stride), crops),
        seed,
    )


# -- pools and reductions


@given(images, st.data(), st.booleans(), st.booleans(), seeds)
def test_pools(
    shape: Shape, data: st.DataObject, ceil_mode: bool, include: bool, seed: int
) -> None:
    axes = len(shape) - 1
    kernel, stride, padding, dilation = [], [], [], []
    for size in shape[1:]:
        kernel.append(data.draw(st.integers(1, min(4, size + ceil_mode))))
        stride.append(data.draw(st.integers(1 + ceil_mode, 3)))
        padding.append(data.draw(st.integers(0, kernel[-1] // 2)))
        room = size + 2 * padding[-1]
        # Windows of a single number can step over it.
        wide = size > 1 and 2 * (kernel[-1] - 1) < room
        dilation.append(data.draw(st.integers(1, 1 + wide)))
    maximum: Any = F.max_pool1d if axes == 1 else F.max_pool2d
    average: Any = F.avg_pool1d if axes == 1 else F.avg_pool2d
    agrees(
        shape,
        lambda build, x: build.max_pool(
            x, kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
        ),
        lambda x: maximum(x, kernel, stride, padding, dilation, ceil_mode),
        seed,
    )
    agrees(
        shape,
        lambda build, x: build.average_pool(
            x,
            kernel,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=include,
        ),
        lambda x: average(x, kernel, stride, padding, ceil_mode, include),
        seed,
    )


@given(images, st.data(), seeds)
def test_pools_pad_each_side_by_itself(shape: Shape, data: st.DataObject, seed: int) -> None:
    kernel = [data.draw(st.integers(1, size)) for size in shape[1:]]
    pairs = [(data.draw(st.integers(0, k - 1)), data.draw(st.integers(0, k - 1))) for k in kernel]
    sides = [side for pair in reversed(pairs) for side in pair]
    maximum: Any = F.max_pool1d if len(kernel) == 1 else F.max_pool2d
    average: Any = F.avg_pool1d if len(kernel) == 1 else F.avg_pool2d
    agrees(
        shape,
        lambda build, x: build.max_pool(x, kernel, stride=1, padding=pairs),
        lambda x: maximum(F.pad(x, sides, value=-math.inf), kernel, 1),
        seed,
    )
    agrees(
        shape,
        lambda build, x: build.average_pool(x, kernel, stride=1, padding=pairs),
        lambda x: average(F.pad(x, sides), kernel, 1),
        seed,
    )
    agrees(
        shape,
        lambda build, x: build.average_pool(
            x, kernel, stride=1, padding=pairs, count_include_pad=False
        ),
        lambda x: (
            average(F.pad(x, sides), kernel, 1)
            / average(F.pad(torch.ones_like(x), sides), kernel, 1)
        ),
        seed,
    )


@given(images, st.data())
def test_adaptive_average_pool(shape: Shape, data: st.DataObject) -> None:
    output = [data.draw(st.one_of(st.none(), st.integers(1, 8))) for _ in shape[1:]]
    pool: Any = F.adaptive_avg_pool1d if len(output) == 1 else F.adaptive_avg_pool2d
    sizes = [size if o is None else o for size, o in zip(shape[1:], output, strict=True)]
    agrees(shape, lambda build, x: build.adaptive_average_pool(x, output), lambda x: pool(x, sizes))


@given(shapes, st.data(), st.booleans(), st.booleans())
def test_reduce(shape: Shape, data: st.DataObject, mean: bool, keepdim: bool) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    assume(keepdim or len(axes) < len(shape))
    agrees(
        shape,
        lambda build, x: build.reduce(x, axes, mean=mean, keepdim=keepdim),
        lambda x: (x.mean if mean else x.sum)([axis + 1 for axis in axes], keepdim=keepdim),
    )


def neurons(network: Network) -> int:
    return sum(math.prod(network.nodes[index].shape) for index in network.relus)


def test_average_pool_with_even_padding_is_one_convolution() -> None:
    for sizes in ((5, 6), (4, 7)):
        network = built((2, *sizes), lambda build, x: build.average_pool(x, 2, padding=1))
        assert len(network.nodes) == 2


def test_max_pool_plays_no_pair_twice_and_no_number_against_itself() -> None:
    """Of overlapping windows, and of windows with padding."""
    call: Call = lambda build, x: build.max_pool(x, 4, stride=1)  # noqa: E731
    assert neurons(built((1, 7), call)) == 6 + 4  # x[i] and x[i + 1], then pairs of those
    call = lambda build, x: build.max_pool(x, 3, stride=3, padding=1)  # noqa: E731
    assert neurons(built((1, 2), call)) == 1
    call = lambda build, x: build.max_pool(x, 2)  # noqa: E731
    network = built((1, 4, 4), call)
    assert neurons(network) == 8 + 4
    assert len(network.relus) == 2
