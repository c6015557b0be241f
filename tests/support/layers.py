"""The layers that drawn networks are made of: descriptions, which build torch modules.

What a description leaves open comes from dice, so that a failure prints as a reproducer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, ...]


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
class ConvTranspose:
    """Over one or two axes: as many as `kernel` has entries."""

    channels: int
    kernel: Shape
    stride: Shape
    padding: Shape
    output_padding: Shape
    dilation: Shape
    groups: int

    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        kind: Any = nn.ConvTranspose1d if len(self.kernel) == 1 else nn.ConvTranspose2d
        layer = kind(
            shape[0],
            self.channels,
            self.kernel,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        with torch.no_grad():
            layer.weight.copy_(dice.normal(*layer.weight.shape) / 2)
            layer.bias.copy_(dice.normal(*layer.bias.shape) / 4)
        return layer


@dataclass(frozen=True)
class MaxPool:
    """Over one or two axes: as many as `kernel` has entries."""

    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    ceil_mode: bool

    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        kind: Any = nn.MaxPool1d if len(self.kernel) == 1 else nn.MaxPool2d
        return kind(self.kernel, self.stride, self.padding, self.dilation, False, self.ceil_mode)


@dataclass(frozen=True)
class Leaky:
    """LeakyReLU of this slope, or PReLU with a slope of its own for each channel."""

    slope: float | None

    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        if self.slope is not None:
            return nn.LeakyReLU(self.slope)
        layer = nn.PReLU(shape[0])
        with torch.no_grad():
            layer.weight.copy_(dice.normal(shape[0]))
        return layer


@dataclass(frozen=True)
class Clip:
    low: float
    high: float

    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        return nn.Hardtanh(self.low, self.high)


@dataclass(frozen=True)
class Apply:
    """A function of the tensor alone, out of `FUNCTIONS`."""

    function: str

    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        return _Apply(FUNCTIONS[self.function])


class _Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "maximum": lambda x: torch.maximum(x, x.flip(-1)),
    "minimum": lambda x: torch.minimum(x, x.flip(1)),
    "mean": lambda x: x.mean(1, keepdim=True),
    "sum": lambda x: x.sum(-1, keepdim=True),
    "transpose": lambda x: x.transpose(1, -1),
    "repeat": lambda x: x[..., [0, -1, 0]],
    "stack": lambda x: torch.stack((x, -x), 1).flatten(1, 2),
    "parts": lambda x: torch.cat((x[:, :1], x), 1),
    "pad": lambda x: F.pad(x, (1, 0), value=0.25),
}
#: Those that are made of ReLUs.
BENT = ("abs", "maximum", "minimum")


@dataclass(frozen=True)
class Concat:
    """The branches side by side; one without layers is the input itself."""

    branches: tuple[tuple[Layer, ...], ...]

    def build(self, shape: Shape, dice: Dice) -> nn.Module:
        return _Concat([stack(branch, shape, dice) for branch in self.branches])


class _Concat(nn.Module):
    def __init__(self, branches: list[nn.Sequential]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


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


Layer = (
    Dense
    | Conv
    | ConvTranspose
    | Relu
    | Leaky
    | Clip
    | Apply
    | Flatten
    | BatchNorm
    | Pool
    | MaxPool
    | ScaleShift
    | Residual
    | Concat
)


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
