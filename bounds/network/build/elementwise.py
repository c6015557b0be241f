"""Layers that act on each number by itself: constants, sums, and what ReLUs are made into."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bounds.network.affine import Scale, Shape
from bounds.network.build.base import Constant, Symbol
from bounds.network.build.rearrange import Rearrangements


class Elementwise(Rearrangements):
    """Constant factors and terms, sums, and the piecewise linear functions of one or two numbers.

    Constants and second operands broadcast as in torch. A constant has no more axes than the
    sample, or one more, of size 1, where the sample's batch is.
    """

    def scale(self, x: Symbol, factor: Constant) -> Symbol:
        """x times a constant."""
        x, factor = self._broadcast(x, factor)
        return self._affine(x, Scale(x.shape, x.shape, factor))

    def shift(self, x: Symbol, amount: Constant) -> Symbol:
        """x plus a constant."""
        if isinstance(amount, int | float) and amount == 0:
            return x
        x, shift = self._broadcast(x, amount)
        return self._affine(x, Scale(x.shape, x.shape, torch.ones_like(shift), shift))

    def sum(self, x: Symbol, y: Symbol) -> Symbol:
        """A residual sum."""
        return self.total(self._same_shape(x, y))

    def negative(self, x: Symbol) -> Symbol:
        return self.scale(x, -1.0)

    def maximum(self, x: Symbol, y: Symbol | Constant) -> Symbol:
        """max(x, y) = y + relu(x − y)."""
        if isinstance(y, Symbol):
            x, y = self._same_shape(x, y)
            return self.sum(y, self.relu(self.sum(x, self.negative(y))))
        y = self.real(y)
        return self.shift(self.relu(self.shift(x, -y)), y)

    def minimum(self, x: Symbol, y: Symbol | Constant) -> Symbol:
        """min(x, y) = −max(−x, −y)."""
        other = self.negative(y) if isinstance(y, Symbol) else -self.real(y)
        return self.negative(self.maximum(self.negative(x), other))

    def clip(
        self, x: Symbol, low: Symbol | Constant | None, high: Symbol | Constant | None
    ) -> Symbol:
        """min(max(x, low), high), where a bound that is None or infinite is absent.

        One ReLU in the other, rather than low + relu(x − low) − relu(x − high): its relaxation is
        tighter, and where low > high the result is high, as in torch and ONNX.
        """
        if low is not None and not (isinstance(low, float) and low == -math.inf):
            x = self.maximum(x, low)
        if high is not None and not (isinstance(high, float) and high == math.inf):
            x = self.minimum(x, high)
        return x

    def leaky_relu(self, x: Symbol, slope: Constant) -> Symbol:
        """x where x ≥ 0 and slope · x elsewhere: slope · x + (1 − slope) · relu(x).

        1 − slope is seldom a number of the dtype: what its rounding leaves is one (Knuth's TwoSum).
        """
        slope = self.tensor(torch.as_tensor(slope, dtype=self.dtype, device=self.device))
        rest, positive = 1 - slope, self.relu(x)
        with torch.no_grad():
            part = rest - 1
            lost = (1 - (rest - part)) - (slope + part)
        terms = [self.scale(x, slope), self.scale(positive, rest)]
        if lost.any():
            terms.append(self.scale(positive, lost))
        return self.total(terms)

    def quotient(self, x: Symbol, divisor: Constant) -> Symbol:
        """x divided by a constant."""
        if not isinstance(divisor, Tensor):
            divisor = torch.as_tensor(divisor, dtype=self.dtype, device=self.device)
        return self.multiple(x, self.tensor(divisor).double().reciprocal())

    def multiple(self, x: Symbol, factors: Tensor) -> Symbol:
        """x times computed numbers in float64, exactly in a network of less precision too.

        A computed number is off by its own rounding in float64, for which every charge for a pass
        in float64 has room (`bounds.rounding.gamma`).
        """
        return self.total([self.scale(x, part) for part in self._parts(factors)])

    def moved(self, x: Symbol, amounts: Tensor) -> Symbol:
        """x plus computed numbers in float64, like `multiple`."""
        for part in self._parts(amounts):
            x = self.shift(x, part)
        return x

    def _parts(self, numbers: Tensor) -> list[Tensor]:
        """Numbers in the network's dtype, whose sum these are; gradients go to the first."""
        parts = [self.tensor(numbers)]
        rest = numbers.detach() - parts[0].detach()
        # The next is half a unit of the last at most: two suffice, or what is left underflows.
        while (part := rest.to(self.dtype)).any():
            parts.append(part)
            rest = rest - part
        return parts

    def soft_shrink(self, x: Symbol, amount: float) -> Symbol:
        """relu(x − amount) − relu(−x − amount)"""
        above, below = (self.relu(self.shift(side, -amount)) for side in (x, self.negative(x)))
        return self.sum(above, self.negative(below))

    def abs(self, x: Symbol) -> Symbol:
        """|x| = relu(x) + relu(−x)."""
        return self.sum(self.relu(x), self.relu(self.negative(x)))

    def _broadcast(self, x: Symbol, value: Constant) -> tuple[Symbol, Tensor]:
        """x, expanded to what it and the constant broadcast to, and the constant."""
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value, dtype=self.dtype)
        constant = self.tensor(value.to(self.device))
        if constant.dim() == len(x.shape) + 1 and constant.shape[0] == 1:
            constant = constant.squeeze(0)
        shape = _common(constant.shape, x.shape)
        if shape is None or len(shape) > len(x.shape):
            raise self.misfit(
                x, f"a sample that the constant {tuple(constant.shape)} broadcasts with"
            )
        return self.expand(x, shape) if shape != x.shape else x, constant

    def _same_shape(self, x: Symbol, y: Symbol) -> tuple[Symbol, Symbol]:
        """Both, expanded to what they broadcast to."""
        if x.shape == y.shape:
            return x, y
        shape = _common(x.shape, y.shape)
        # With fewer axes, a sample would meet the other's batch.
        if shape is None or len(x.shape) != len(y.shape):
            raise self.misfit(x, f"a sample that broadcasts with the other's shape {y.shape}")
        return self.expand(x, shape), self.expand(y, shape)


def _common(*shapes: Shape) -> Shape | None:
    """What the shapes broadcast to, if they do."""
    try:
        return np.broadcast_shapes(*shapes)  # torch's imports sympy, for half a second
    except ValueError:
        return None
