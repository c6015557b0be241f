"""Networks over the rationals: what is true of them, whatever rounding does."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor, nn

DTYPES = (torch.float32, torch.float64)


def fractions(tensor: Tensor) -> list[Fraction]:
    return [Fraction(number) for number in tensor.detach().flatten().tolist()]


def evaluate(model: nn.Sequential, x: list[Fraction]) -> list[Fraction]:
    """An MLP over the rationals."""
    for layer in model:
        if isinstance(layer, nn.Linear):
            rows = [fractions(row) for row in layer.weight]
            offsets = fractions(layer.bias)
            x = [
                sum(map(Fraction.__mul__, row, x), b) for row, b in zip(rows, offsets, strict=True)
            ]
        elif isinstance(layer, nn.ReLU):
            x = [max(number, Fraction(0)) for number in x]
    return x


def linear(weight: list[list[float]], bias: list[float], dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), dtype=dtype)
    layer.weight.data, layer.bias.data = (torch.tensor(n, dtype=dtype) for n in (weight, bias))
    return layer
