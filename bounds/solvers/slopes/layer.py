"""The unstable neurons of a ReLU side by side, whatever their places in the layer."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bounds.relaxation.triangle import ReluBounds


@dataclass(frozen=True, eq=False)
class Layer:
    """The unstable neurons of one ReLU: n of them in the input that has most.

    index: their flat positions (B, 1, n); other inputs fill up with stable neurons, for which
    real (B, 1, n) is 0 instead of 1. slope, intercept: of the triangle's upper face, 0 for fillers.
    side: 1 where a neuron is kept at ẑ ≥ 0, −1 where at ẑ ≤ 0, else 0. active: 1 at active neurons,
    (B, 1, *shape).
    """

    index: Tensor
    real: Tensor
    slope: Tensor
    intercept: Tensor
    side: Tensor
    active: Tensor

    @staticmethod
    def of(neurons: ReluBounds) -> Layer:
        unstable = neurons.unstable.flatten(1)
        order = torch.argsort(unstable, dim=1, descending=True, stable=True)
        index = order[:, : int(unstable.sum(1).max())]

        def pick(values: Tensor) -> Tensor:
            return values.to(neurons.lower).flatten(1).gather(1, index).unsqueeze(1)

        return Layer(
            index.unsqueeze(1),
            pick(neurons.unstable),
            pick(neurons.slope),
            pick(-neurons.slope * neurons.lower),
            pick(neurons.side),
            neurons.active.to(neurons.lower).unsqueeze(1),
        )

    def gather(self, values: Tensor) -> Tensor:
        """From (B, S, *shape) to (B, S, n), with 0 for fillers."""
        flat = values.flatten(2)
        return flat.gather(2, self.index.expand(-1, flat.shape[1], -1)) * self.real

    def merge(self, values: Tensor, unstable: Tensor) -> Tensor:
        """(B, S, *shape): `values` at active neurons, `unstable` (B, S, n) at those, 0 at dead."""
        flat = (values * self.active).flatten(2)
        index = self.index.expand(-1, flat.shape[1], -1)
        # Fillers share their positions with stable neurons, and add 0 there.
        return flat.scatter_add_(2, index, unstable).unflatten(2, values.shape[2:])

    def kept(self, side: Tensor, lower: Tensor, upper: Tensor) -> Layer:
        """Of the only input here, with these phases (B, 1, n), and l and u where there is none."""
        active = (side > 0).to(side)
        batch, slope = side.shape[0], upper / (upper - lower)
        return Layer(
            self.index.expand(batch, -1, -1),
            self.real.expand(batch, -1, -1),
            torch.where(side == 0, slope, active),
            torch.where(side == 0, -slope * lower, 0.0),
            side,
            self.active.expand(batch, *self.active.shape[1:]),
        )

    def take(self, images: Tensor) -> Layer:
        return Layer(*(getattr(self, field.name)[images] for field in fields(self)))
