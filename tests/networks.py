"""Hypothesis strategies for tiny networks, in float64 and eval mode.

What is drawn is a description and a seed, never a tensor, so that a failure prints as a reproducer:
paste the `Architecture(...)` and call its `build()`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from bounds.affine import convolution_output_shape
from bounds.network import Network

Shape = tuple[int, ...]

#: Neurons of a hidden layer at most, and coordinates of an input.
NEURONS, INPUTS = 16, 12


class Dice:
    """Random tensors from one seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, dtype=torch.float64)

    def below(self, limit: int, *shape: int) -> Tensor:
        return torch.randint(limit, shape, generator=self.generator)


# -- layers


@dataclass(frozen=True)
class Dense:
    width: int

    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        return varied(nn.Linear(shape[-1], self.width), dice)


@dataclass(frozen=True)
class Conv:
    """Over one or two axes: as many as `kernel` has entries."""

    channels: int
    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int

    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        kind: Any = nn.Conv1d if len(self.kernel) == 1 else nn.Conv2d
        layer = kind(
            shape[0],
            self.channels,
            self.kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return varied(layer, dice)


@dataclass(frozen=True)
class Relu:
    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        return nn.ReLU()


@dataclass(frozen=True)
class Flatten:
    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        return nn.Flatten()


@dataclass(frozen=True)
class BatchNorm:
    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        layer = (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[0])
        assert layer.running_mean is not None
        assert layer.running_var is not None
        with torch.no_grad():
            layer.running_mean.copy_(dice.normal(shape[0]) / 2)
            layer.running_var.copy_(dice.uniform(shape[0]) * 2 + 0.1)
            layer.weight.copy_(dice.normal(shape[0]))
            layer.bias.copy_(dice.normal(shape[0]) / 2)
        return layer


@dataclass(frozen=True)
class Pool:
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        return nn.AvgPool2d(self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class ScaleShift:
    """x · scale + shift with constants, a number each or one a channel."""

    per_channel: bool

    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        size = (shape[0], *[1] * (len(shape) - 1)) if self.per_channel else ()
        return _ScaleShift(dice.normal(*size), dice.normal(*size) / 2)


class _ScaleShift(nn.Module):
    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.shift


@dataclass(frozen=True)
class Residual:
    """x + body(x), or skip(x) + body(x), where an empty part is the identity: x + x among them."""

    body: tuple[Layer, ...]
    skip: tuple[Layer, ...] = ()

    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        return _Residual(stack(self.body, shape, dice), stack(self.skip, shape, dice))


class _Residual(nn.Module):
    def __init__(self, body: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.body, self.skip = body, skip

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


Layer = Dense | Conv | Relu | Flatten | BatchNorm | Pool | ScaleShift | Residual


def varied(layer: nn.Linear | nn.Conv1d | nn.Conv2d, dice: Dice) -> nn.Module:
    """Neurons of every kind: unstable, active, dead, and l = u at 0 or elsewhere."""
    weight = dice.normal(*layer.weight.shape) * math.sqrt(2 / layer.weight[0].numel())
    bias = dice.normal(len(weight)) / 4
    kind = dice.below(12, len(weight))
    bias[kind == 5] += 3  # active
    bias[kind == 6] -= 3  # dead
    weight[(kind == 7) | (kind == 8)] = 0.0  # l = u
    bias[(kind == 8) | (kind == 9)] = 0.0  # and there, l = u = 0
    with torch.no_grad():
        layer.weight.copy_(weight)
        assert layer.bias is not None
        layer.bias.copy_(bias)
    return layer


def stack(layers: tuple[Layer, ...], shape: Shape, dice: Dice) -> nn.Sequential:
    """The layers one after the other, for a sample of this shape."""
    modules: list[nn.Module] = []
    for layer in layers:
        modules.append(layer.build(shape, dice).double().eval())
        shape = output_shape(modules[-1], shape)
    return nn.Sequential(*modules)


def output_shape(module: nn.Module, shape: Shape) -> Shape:
    with torch.no_grad():
        return tuple(module(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:])


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
        return Network.from_torch(self.build(), self.input_shape)


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
def blocks(draw: st.DrawFn, shape: Shape) -> tuple[Layer, ...]:
    """One affine layer or residual block, with what may stand after it, mostly a ReLU."""
    kinds: list[st.SearchStrategy[Any]] = [residuals(shape)]
    if len(shape) == 1:
        kinds.append(st.sampled_from([3, 1, 2, 5, 8, 12, NEURONS]).map(Dense))
    else:
        kinds += [convolutions(shape), convolutions(shape)]
    if len(shape) == 3 and math.prod(shape) <= NEURONS:
        kinds.append(pools(shape))
    layers = [draw(st.one_of(*reversed(kinds)))]
    after = draw(st.sampled_from(["", "", "norm", "scale", "scales"]))
    if after == "norm":
        layers.append(BatchNorm())
    elif after:
        layers.append(ScaleShift(per_channel=after == "scales"))
    if draw(st.sampled_from([True] * 8 + [False])):
        layers.append(Relu())
    return tuple(layers)


INPUT_SHAPES = {
    "vector": st.integers(1, INPUTS).map(lambda n: (n,)),
    "signal": st.sampled_from([(1, 4), (1, 9), (2, 5), (3, 4)]),
    "image": st.sampled_from([(1, 2, 3), (1, 3, 3), (1, 3, 4), (2, 2, 3), (3, 2, 2)]),
}


@st.composite
def architectures(
    draw: st.DrawFn, *, kinds: tuple[str, ...] = ("vector", "signal", "image"), depth: int = 5
) -> Architecture:
    """Networks of one to `depth` affine layers or residual blocks; the last is dense."""
    input_shape = shape = draw(st.one_of(*[INPUT_SHAPES[kind] for kind in kinds]))
    layers: tuple[Layer, ...] = ()
    for _ in range(draw(st.sampled_from([*range(1, depth)] * 3 + [0]))):
        if len(shape) > 1 and draw(st.sampled_from([False, False, True])):
            layers, shape = (*layers, Flatten()), (math.prod(shape),)
        block = draw(blocks(shape))
        shape = output_shape(stack(block, shape, Dice(0)), shape)
        layers += block
    if len(shape) > 1:
        layers += (Flatten(),)
    layers += (Dense(draw(st.integers(2, 4))),)
    return Architecture(input_shape, layers, draw(seeds), draw(scales), draw(st.integers(-1, 1)))
