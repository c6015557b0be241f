"""Selection as an affine operation: it moves, repeats and leaves out numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bounds.network.affine import Affine, Convert


@dataclass(frozen=True, eq=False)
class Select(Affine):
    """y = x.flatten()[index]: each output is one of the inputs.

    index has dtype int64 and shape output_shape. It is no parameter: `convert` leaves it alone, and
    it follows its operand to whatever device that is on.
    """

    index: Tensor

    def __post_init__(self) -> None:
        assert self.index.dtype == torch.int64
        assert self.index.shape == self.output_shape

    fan_in = 0

    @cached_property
    def fan_out(self) -> int:
        copies = int(torch.bincount(self.index.flatten()).max())
        return copies if copies > 1 else 0

    @property
    def elementwise(self) -> bool:
        return self.fan_out == 0

    @cached_property
    def _copies(self) -> dict[torch.device, Tensor]:
        return {}

    def _index(self, like: Tensor) -> Tensor:
        """The index for every sample of a batch, on the batch's device."""
        if like.device not in self._copies:
            self._copies[like.device] = self.index.flatten().to(like.device)
        return self._copies[like.device].expand(len(like), -1)

    def linear(self, x: Tensor) -> Tensor:
        return x.flatten(1).gather(1, self._index(x)).unflatten(1, self.output_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), math.prod(self.input_shape))
        return x.scatter_add(1, self._index(y), y.flatten(1)).unflatten(1, self.input_shape)

    def absolute(self) -> Select:
        return self

    @property
    def offset(self) -> None:
        return None

    def convert(self, convert: Convert) -> Select:
        return self
