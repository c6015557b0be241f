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
    """l ≤ ẑ ≤ u of one ReLU, (numbers,)."""

    lower: np.ndarray
    upper: np.ndarray

    @property
    def active(self) -> np.ndarray:
        return self.lower >= 0

    @property
    def unstable(self) -> np.ndarray:
        return (self.lower < 0) & (self.upper > 0)


@dataclass(frozen=True)
class Evidence:
    """All that the file says of one input, in float64.

    C: (rows, outputs), d: (rows,): the rows ⟨C, net(x)⟩ + d. relus: l and u of each ReLU.
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
