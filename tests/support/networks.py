"""Hypothesis strategies for tiny networks, in float64 and eval mode.

What is drawn is a description and a seed, never a tensor, so that a failure prints as a reproducer:
paste the `Architecture(...)` and call its `build()`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from bounds import from_torch
from bounds.network.convolution import convolution_output_shape
from bounds.network.graph import Network
from tests.support.layers import (
    BENT,
    FUNCTIONS,
    Apply,
    BatchNorm,
    Clip,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Dice,
    Flatten,
    Layer,
    Leaky,
    MaxPool,
    Pool,
    Relu,
    Residual,
    ScaleShift,
    Shape,
    output_shape,
    stack,
)

#: Neurons of a hidden layer at most, and coordinates of an input.
NEURONS, INPUTS = 16, 12


@dataclass(frozen=True)
class Architecture:
    """A network: its layers, the seed of its numbers, and a factor on one of its weights."""

    input_shape: Shape
    layers: tuple[Layer, ...]
    seed: int
    scale: float = 1.0
    scaled: int = -1

    def build(self) -> nn.Sequential:
        """The module, in float64 and eval mode, without gradients."""
        model = stack(self.layers, self.input_shape, Dice(self.seed)).requires_grad_(False)
        weighted = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
        chosen = weighted[self.scaled % len(weighted)]
        chosen.weight *= self.scale
        assert chosen.bias is not None
        chosen.bias *= self.scale
        return model

    def network(self) -> Network:
        return from_torch(self.build(), self.input_shape)


# -- strategies for networks

seeds = st.integers(0, 2**16)
scales = st.sampled_from([1.0, 1e-3, 1e-1, 10.0, 1e3])


@st.composite
def convolutions(draw: st.DrawFn, shape: Shape) -> Conv:
    """Any convolution of a (channels, *spatial) sample with at most NEURONS outputs."""
    padding, kernel, dilation, stride = [], [], [], []
    for size in shape[1:]:
        padding.append(draw(st.integers(0, 1)))
        dilation.append(draw(st.integers(1, 2)))
        room = size + 2 * padding[-1]
        kernel.append(draw(st.integers(1, min(3, 1 + (room - 1) // dilation[-1]))))
        stride.append(draw(st.integers(1, 3)))
    layer = Conv(1, tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), 1)
    spatial = math.prod(conv_shape(layer, shape)[1:])
    most = max(1, NEURONS // spatial)
    groups = draw(st.sampled_from([g for g in divisors(shape[0]) if g <= most]))
    channels = groups * draw(st.integers(1, min(3, most // groups)))
    return replace(layer, channels=channels, groups=groups)


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def conv_shape(layer: Conv, shape: Shape) -> Shape:
    weight = torch.empty(layer.channels, 1, *layer.kernel)
    return convolution_output_shape(shape, weight, layer.stride, layer.padding, layer.dilation)


@st.composite
def pools(draw: st.DrawFn, shape: Shape) -> Pool:
    padding = [draw(st.integers(0, 1)) for _ in range(2)]
    rooms = [size + 2 * p for size, p in zip(shape[1:], padding, strict=True)]
    # torch allows padding of at most half the kernel.
    kernel = [
        draw(st.integers(1 + p, max(1 + p, min(3, r)))) for p, r in zip(padding, rooms, strict=True)
    ]
    stride = [draw(st.integers(1, 2)) for _ in range(2)]
    return Pool((kernel[0], kernel[1]), (stride[0], stride[1]), (padding[0], padding[1]))


@st.composite
def max_pools(draw: st.DrawFn, shape: Shape) -> MaxPool:
    axes = []
    for size in shape[1:]:
        kernel = draw(st.integers(1, 3))
        padding = draw(st.integers(0, kernel // 2))
        room = size + 2 * padding
        # Not with one number, which windows could step over.
        dilation = draw(st.integers(1, 2 if size > 1 and 2 * (kernel - 1) < room else 1))
        if dilation * (kernel - 1) >= room:
            kernel, padding = 1, 0
        axes.append((kernel, draw(st.integers(1, 3)), padding, dilation))
    return MaxPool(*zip(*axes, strict=True), ceil_mode=draw(st.booleans()))


@st.composite
def transposed_convolutions(draw: st.DrawFn, shape: Shape) -> ConvTranspose:
    """With at most NEURONS outputs a channel, or as many as there are inputs."""
    axes, places = [], math.prod(shape[1:])
    for size in shape[1:]:
        room = max(1, NEURONS // places) * size
        options = []
        for kernel, stride, padding, extra, dilation in itertools.product(
            (1, 2, 3), (1, 2, 3), (0, 1), (0, 1), (1, 2)
        ):
            out = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
            if extra < max(stride, dilation) and 1 <= out <= room:
                options.append((kernel, stride, padding, extra, dilation))
        axes.append(draw(st.sampled_from(options)))
        places = places // size * room
    groups = draw(st.sampled_from(divisors(shape[0])))
    return ConvTranspose(groups, *zip(*axes, strict=True), groups=groups)


def bends(shape: Shape) -> st.SearchStrategy[Layer]:
    """Piecewise linear layers that are made of several nodes."""
    kinds: list[st.SearchStrategy[Any]] = [
        st.sampled_from([0.1, None, -0.5, 1.5]).map(Leaky),
        st.sampled_from([Clip(0.0, 0.5), Clip(-0.5, 0.25), Clip(0.1, 6.0)]),
        st.sampled_from(BENT).map(Apply),
    ]
    if len(shape) > 1:
        kinds.append(max_pools(shape))
    return st.one_of(kinds)


def moves(shape: Shape) -> st.SearchStrategy[Layer]:
    """Layers that move numbers, take parts and put them together."""
    names = [name for name in FUNCTIONS if name not in BENT]
    kinds: list[st.SearchStrategy[Any]] = [st.sampled_from(names).map(Apply)]
    if math.prod(shape) <= NEURONS // 2:
        kinds.append(st.just(Concat(((same_size(shape, shape[0]),), ()))))
    if len(shape) > 1:
        kinds.append(transposed_convolutions(shape))
    return st.one_of(kinds)


def same_size(shape: Shape, channels: int) -> Layer:
    """A layer that changes nothing but the number of channels or features."""
    axes = len(shape) - 1
    if axes == 0:
        return Dense(channels)
    kernel = tuple(3 if size > 1 else 1 for size in shape[1:])
    padding = tuple(k // 2 for k in kernel)
    return Conv(channels, kernel, (1,) * axes, padding, (1,) * axes, 1)


@st.composite
def residuals(draw: st.DrawFn, shape: Shape) -> Residual:
    spatial = math.prod(shape[1:])
    inner = draw(st.integers(1, max(1, min(4, NEURONS // spatial))))
    outer = shape[0]
    skip: tuple[Layer, ...] = ()
    if draw(st.booleans()):
        outer = draw(st.integers(1, max(1, min(4, NEURONS // spatial))))
        skip = (same_size(shape, outer),)
    body: tuple[Layer, ...] = (same_size(shape, inner), Relu(), same_size(shape, outer))
    if not skip and draw(st.sampled_from([False] * 4 + [True])):
        body = ()
    return Residual(body, skip)


@st.composite
def blocks(draw: st.DrawFn, shape: Shape, *, plain: bool) -> tuple[Layer, ...]:
    """One affine layer or residual block, with what may stand after it, mostly a ReLU."""
    kinds: list[st.SearchStrategy[Any]] = [residuals(shape)]
    if len(shape) == 1:
        kinds.append(st.sampled_from([3, 1, 2, 5, 8, 12, NEURONS]).map(Dense))
    else:
        kinds += [convolutions(shape), convolutions(shape)]
    if len(shape) == 3 and math.prod(shape) <= NEURONS:
        kinds.append(pools(shape))
    if len(shape) > 1 and math.prod(shape) <= NEURONS and not plain:
        kinds.append(max_pools(shape))
    layers = [draw(st.one_of(*reversed(kinds)))]
    moved = output_shape(stack(tuple(layers), shape, Dice(0)), shape)
    if math.prod(moved) <= NEURONS and draw(st.sampled_from([False] * 3 + [True])):
        layers.append(draw(moves(moved)))
        moved = output_shape(stack(tuple(layers), shape, Dice(0)), shape)
    after = draw(st.sampled_from(["", "", "norm", "scale", "scales"]))
    if after == "norm":
        layers.append(BatchNorm())
    elif after:
        layers.append(ScaleShift(per_channel=after == "scales"))
    bent = not plain and math.prod(moved) <= NEURONS
    last = draw(st.sampled_from(["relu"] * 7 + ["bend"] * (2 * bent) + [""]))
    if last == "relu":
        layers.append(Relu())
    elif last:
        layers.append(draw(bends(moved)))
    return tuple(layers)


INPUT_SHAPES = {
    "vector": st.integers(1, INPUTS).map(lambda n: (n,)),
    "signal": st.sampled_from([(1, 4), (1, 9), (2, 5), (3, 4)]),
    "image": st.sampled_from([(1, 2, 3), (1, 3, 3), (1, 3, 4), (2, 2, 3), (3, 2, 2)]),
}


@st.composite
def architectures(
    draw: st.DrawFn,
    *,
    kinds: tuple[str, ...] = ("vector", "signal", "image"),
    depth: int = 5,
    plain: bool = False,
) -> Architecture:
    """Networks of one to `depth` affine layers or residual blocks; the last is dense.

    plain: every ReLU of the network is an nn.ReLU of the module, and the other way round.
    """
    input_shape = shape = draw(st.one_of(*[INPUT_SHAPES[kind] for kind in kinds]))
    layers: tuple[Layer, ...] = ()
    for _ in range(draw(st.sampled_from([*range(1, depth)] * 3 + [0]))):
        if len(shape) > 1 and draw(st.sampled_from([False, False, True])):
            layers, shape = (*layers, Flatten()), (math.prod(shape),)
        block = draw(blocks(shape, plain=plain))
        shape = output_shape(stack(block, shape, Dice(0)), shape)
        layers += block
    if len(shape) > 1:
        layers += (Flatten(),)
    layers += (Dense(draw(st.integers(2, 4))),)
    return Architecture(input_shape, layers, draw(seeds), draw(scales), draw(st.integers(-1, 1)))
