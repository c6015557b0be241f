"""The modules that drawn networks are made of, over the rationals: arrays of `Fraction`.

Everything is computed from the numbers that a module stores, and from attributes as torch rounds
them to the module's dtype. Only the roots of a batch normalisation are cut off, after 60 digits.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from decimal import Context
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from tests.support import layers

DIGITS = Context(prec=60)


@dataclass(frozen=True)
class Divide:
    """By constants, one a channel, most of which have no float for a reciprocal."""

    def build(self, shape: layers.Shape, dice: layers.Dice) -> nn.Module:
        return _Divide(dice.normal(shape[0], *[1] * (len(shape) - 1)).abs() + 0.1)


class _Divide(nn.Module):
    divisor: Tensor

    def __init__(self, divisor: Tensor) -> None:
        super().__init__()
        self.register_buffer("divisor", divisor)

    def forward(self, x: Tensor) -> Tensor:
        return x / self.divisor


def exact(tensor: Tensor) -> np.ndarray:
    """Its numbers as fractions, in its shape."""
    flat = [Fraction(number) for number in tensor.detach().flatten().tolist()]
    return np.array(flat, dtype=object).reshape(tuple(tensor.shape))


def values(module: nn.Module, x: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The module of arrays (batch, *shape); dtype: that of its network."""

    def attribute(number: object) -> Fraction:
        return Fraction(torch.tensor(number, dtype=dtype).item())

    match module:
        case nn.Sequential():
            for layer in module:
                x = values(layer, x, dtype)
            return x
        case nn.Linear():
            return x @ exact(module.weight).T + exact(module.bias)
        case nn.Conv1d() | nn.Conv2d() | nn.ConvTranspose1d() | nn.ConvTranspose2d():
            return linear(module, x, bias=None) + channels(exact(module.bias), x)
        case nn.AvgPool2d():
            return linear(module, x, divisor_override=1) / math.prod(module.kernel_size)
        case nn.MaxPool1d() | nn.MaxPool2d():
            return largest(module, x)
        case nn.ReLU():
            return np.maximum(x, Fraction(0))
        case nn.LeakyReLU():
            return np.where(x > 0, x, attribute(module.negative_slope) * x)
        case nn.PReLU():
            return np.where(x > 0, x, channels(exact(module.weight), x) * x)
        case nn.Hardtanh():
            return np.minimum(np.maximum(x, attribute(module.min_val)), attribute(module.max_val))
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            variance = exact(module.running_var) + Fraction(module.eps)
            factor = exact(module.weight) / np.array([root(v) for v in variance], dtype=object)
            centred = x - channels(exact(module.running_mean), x)
            return centred * channels(factor, x) + channels(exact(module.bias), x)
        case nn.Flatten():
            return x.reshape(len(x), -1)
        case layers._ScaleShift():
            return exact(module.scale) * x + exact(module.shift)
        case _Divide():
            return x / exact(module.divisor)
        case layers._Residual():
            return values(module.skip, x, dtype) + values(module.body, x, dtype)
    raise TypeError(f"nothing exact is known of {type(module).__name__}")


def root(number: Fraction) -> Fraction:
    quotient = DIGITS.divide(number.numerator, number.denominator)
    return Fraction(DIGITS.sqrt(quotient))


def channels(numbers: np.ndarray, x: np.ndarray) -> np.ndarray:
    """One number a channel of (batch, channels, *spatial)."""
    return numbers.reshape(-1, *[1] * (x.ndim - 2))


def linear(module: nn.Module, x: np.ndarray, **changes: object) -> np.ndarray:
    """A linear map with these attributes changed. Of unit vectors every output is a single one of
    the stored numbers, which float64 holds."""
    changed = copy.deepcopy(module).double()
    for name, value in changes.items():
        setattr(changed, name, value)
    size = math.prod(x.shape[1:])
    with torch.no_grad():
        columns = changed(torch.eye(size, dtype=torch.float64).reshape(size, *x.shape[1:]))
    found = x.reshape(len(x), -1) @ exact(columns.flatten(1))
    return found.reshape(len(x), *columns.shape[1:])


def largest(module: nn.MaxPool1d | nn.MaxPool2d, x: np.ndarray) -> np.ndarray:
    """By the ranks of the numbers, which floats hold."""
    order = np.argsort(x.ravel(), kind="stable")
    ranks = np.empty(x.size)
    ranks[order] = np.arange(x.size)
    chosen = module(torch.from_numpy(ranks.reshape(x.shape))).long().numpy()
    return x.ravel()[order][chosen]
