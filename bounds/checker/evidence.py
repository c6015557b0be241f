"""What a file says of one input, as flat float64 arrays: claims, and the evidence for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class Rejected(Exception):
    """What the file claims does not follow from what it holds; in one sentence."""


@dataclass(frozen=True)
class InputSet:
    """The box [lower, upper], within `radius` of `centre` in the norm "l1" or "l2" if not "box".

    lower, upper and centre are (numbers,).
    """

    kind: str
    lower: np.ndarray
    upper: np.ndarray
    centre: np.ndarray
    radius: float


@dataclass(frozen=True)
class Neurons:
    """l ≤ ẑ ≤ u of one ReLU, (numbers,).

    side: of unstable neurons, 1 where ẑ ≥ 0 is kept and −1 where ẑ ≤ 0 is; else 0. None: of no
    neuron.
    """

    lower: np.ndarray
    upper: np.ndarray
    side: np.ndarray | None = None

    @property
    def active(self) -> np.ndarray:
        return (self.lower >= 0) & (self.sides == 0)

    @property
    def unstable(self) -> np.ndarray:
        return ((self.lower < 0) & (self.upper > 0)) | (self.sides != 0)

    @property
    def sides(self) -> np.ndarray:
        return np.zeros(self.lower.shape) if self.side is None else self.side

    @property
    def kept(self) -> Neurons:
        """With the vertices that are left: l or u is 0 where a side is kept."""
        return Neurons(
            np.where(self.sides > 0, 0.0, self.lower),
            np.where(self.sides < 0, 0.0, self.upper),
            self.side,
        )


@dataclass(frozen=True)
class Evidence:
    """All that the file says of one input, in float64.

    C: (rows, outputs), d: (rows,): the rows ⟨C, net(x)⟩ + d. relus: l and u of each ReLU on the
    whole set, and the sides that are kept of it.
    multipliers: ν at each ReLU, (rows, numbers), 0 where a neuron is not unstable. x: (rows,
    inputs). z: as the multipliers. lower, upper: (rows,), the claims.
    """

    input_set: InputSet
    C: np.ndarray
    d: np.ndarray
    relus: tuple[Neurons, ...]
    multipliers: tuple[np.ndarray, ...]
    x: np.ndarray
    z: tuple[np.ndarray, ...]
    lower: np.ndarray
    upper: np.ndarray

    @property
    def is_split(self) -> bool:
        """Whether it is about the inputs that are on some sides, and not about all."""
        return any(neurons.side is not None for neurons in self.relus)

    @property
    def kept(self) -> tuple[Neurons, ...]:
        """Of each ReLU, with the vertices that are left: those of the LP."""
        return tuple(neurons.kept for neurons in self.relus)
