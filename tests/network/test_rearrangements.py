"""Layers that move numbers: the builder against torch and numpy."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from bounds.network.build.builder import NetworkBuilder, Symbol
from tests.support.building import agrees, built, shapes
from tests.support.layers import Dice, Shape
from tests.support.networks import seeds


@given(st.data(), shapes, seeds)
def test_transpose_and_reshape(data: st.DataObject, shape: Shape, seed: int) -> None:
    axes = data.draw(st.permutations(range(len(shape))))
    agrees(
        shape,
        lambda build, x: build.reshape(build.transpose(x, axes), (-1, shape[0])),
        lambda x: x.permute(0, *(axis + 1 for axis in axes)).reshape(len(x), -1, shape[0]),
        seed,
    )


@given(st.data(), shapes)
def test_slice_is_numpys(data: st.DataObject, shape: Shape) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    start, stop = (data.draw(st.one_of(st.none(), st.integers(-6, 6))) for _ in range(2))
    step = data.draw(st.sampled_from([None, 1, 2, 3, -1, -2, -3]))
    entries = (slice(None),) * (axis + 1) + (slice(start, stop, step),)
    assume(np.empty((1, *shape))[entries].size > 0)
    agrees(
        shape,
        lambda build, x: build.slice(x, axis, start, stop, step),
        lambda x: torch.from_numpy(x.numpy()[entries].copy()),
    )


@given(st.data(), shapes, seeds)
def test_gather_is_numpys_take(data: st.DataObject, shape: Shape, seed: int) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    index_shape = data.draw(st.lists(st.integers(1, 3), max_size=2 if len(shape) > 1 else 1))
    assume(len(shape) - 1 + len(index_shape) > 0)
    size = shape[axis]
    index = Dice(seed).below(2 * size, *index_shape) - size
    agrees(
        shape,
        lambda build, x: build.gather(x, axis, index),
        lambda x: torch.from_numpy(np.take(x.numpy(), index.numpy(), axis + 1)),
    )


@given(shapes, shapes, seeds)
def test_select_reads_the_flat_sample(shape: Shape, index_shape: Shape, seed: int) -> None:
    index = Dice(seed).below(math.prod(shape), *index_shape)
    agrees(shape, lambda build, x: build.select(x, index), lambda x: x.flatten(1)[:, index])


@given(shapes, st.data())
def test_expand_broadcasts(shape: Shape, data: st.DataObject) -> None:
    small = tuple(data.draw(st.sampled_from([1, size])) for size in shape)
    small = small[data.draw(st.integers(0, len(small) - 1)) :]
    filled = (1,) * (len(shape) - len(small)) + small
    agrees(
        small,
        lambda build, x: build.expand(x, shape),
        lambda x: x.reshape(len(x), *filled).expand(-1, *shape),
    )


@given(shapes, st.data())
def test_concat(shape: Shape, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    stops = data.draw(st.lists(st.integers(1, shape[axis]), min_size=1, max_size=3))
    agrees(
        shape,
        lambda build, x: build.concat([build.slice(x, axis, 0, stop) for stop in stops], axis),
        lambda x: torch.cat([x.narrow(axis + 1, 0, stop) for stop in stops], axis + 1),
    )


@given(shapes, st.data(), st.sampled_from([0.0, 1.5]))
def test_pad_and_crop(shape: Shape, data: st.DataObject, value: float) -> None:
    sides = [(data.draw(st.integers(-size + 1, 2)), data.draw(st.integers(0, 2))) for size in shape]
    if data.draw(st.booleans()):
        sides = [(after, before) for before, after in sides]
    agrees(
        shape,
        lambda build, x: build.pad(x, *zip(*sides, strict=True), value),
        lambda x: F.pad(x, [side for pair in reversed(sides) for side in pair], value=value),
    )


def test_padding_may_be_all_that_is_left() -> None:
    agrees(
        (2, 1),
        lambda build, x: build.pad(x, (0, -1), (0, 2), 7.0),
        lambda x: torch.full((len(x), 2, 2), 7.0, dtype=x.dtype),
    )


def test_layers_that_move_nothing_add_no_node() -> None:
    def idle(build: NetworkBuilder, x: Symbol) -> Symbol:
        x = build.transpose(x, (0, 1))
        x = build.slice(build.pad(x, (0, 0), (0, 0)), 1, 0, None)
        x = build.expand(build.concat([x], 0), (2, 3))
        return build.clip(build.shift(build.reshape(x, (2, -1)), 0), None, math.inf)

    assert len(built((2, 3), idle).nodes) == 1
