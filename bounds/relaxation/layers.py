"""What a relaxation says of each layer of ReLUs, to be looked at rather than computed with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.network.affine import Shape
from bounds.network.graph import Network
from bounds.relaxation.triangle import ReluBounds


@dataclass(frozen=True, eq=False)
class Layer:
    """One ReLU of the model. lower, upper: of its inputs, (batch, *shape), without gradients.
    active, dead, unstable, split: how many neurons are of each kind, (batch,).

    >>> import torch, bounds
    >>> network = bounds.from_torch(torch.nn.ReLU(), (2,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.tensor([[0.0, 3.0]], dtype=torch.float64), radius=1.0)
    >>> relaxation = bounds.relax(network, ball, bounds.margins(0, classes=2))
    >>> relaxation.layers[0].to_dict()["unstable"]
    [1]
    """

    name: str
    shape: Shape
    lower: np.ndarray
    upper: np.ndarray
    active: np.ndarray
    dead: np.ndarray
    unstable: np.ndarray
    split: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Lists and numbers, as JSON has them."""
        arrays = ("lower", "upper", "active", "dead", "unstable", "split")
        found = {name: getattr(self, name).tolist() for name in arrays}
        return {"name": self.name, "shape": list(self.shape), **found}


def layers_of(network: Network, relu_bounds: Sequence[ReluBounds]) -> tuple[Layer, ...]:
    """Of every ReLU, in the order of `Network.relus`."""
    found = []
    for index, neurons in zip(network.relus, relu_bounds, strict=True):
        lower, upper = (end.detach().cpu().numpy() for end in (neurons.lower, neurons.upper))
        node, flat = network.nodes[index], (len(lower), -1)
        kept = np.zeros(lower.shape, dtype=bool)
        if neurons.split is not None:
            kept = neurons.split.detach().cpu().numpy() != 0

        def count(mask: np.ndarray, flat: tuple[int, int] = flat) -> np.ndarray:
            total: np.ndarray = mask.reshape(flat).sum(1)
            return total

        active = count((lower >= 0) & ~kept)
        dead = count((upper <= 0) & (lower < 0) & ~kept)
        unstable = count((lower < 0) & (upper > 0) & ~kept)
        found.append(
            Layer(node.name, node.shape, lower, upper, active, dead, unstable, count(kept))
        )
    return tuple(found)
