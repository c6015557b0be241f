"""The sets of inputs that a bound holds for, as the relaxation keeps them: one an input.

Every method needs of such a set its support function, a point where that is attained, and the
nearest point of it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.arguments import require_floats
from bounds.errors import InvalidInputError
from bounds.network.affine import Convert, Shape, row_sums
from bounds.network.followed import followed
from bounds.network.memory import on_cpu
from bounds.rounding import down, floor, gamma, smallest


@dataclass(frozen=True, eq=False)
class InputSet(ABC):
    """A compact convex set for each input of a batch, within the box [lower, upper].

    lower, upper: (batch, *input_shape). Coefficients and points, with rows of their own, have shape
    (batch, rows, *input_shape).
    """

    lower: Tensor
    upper: Tensor

    @abstractmethod
    def minimum(self, coefficients: Tensor) -> Tensor:
        """min ⟨c, x⟩ over the set, of shape (batch, rows); differentiable."""

    @abstractmethod
    def minimum_below(self, coefficients: Tensor) -> Tensor:
        """The same, rounded to a number that is no larger than the true minimum."""

    @abstractmethod
    def argmin(self, coefficients: Tensor) -> Tensor:
        """A point of the set where ⟨c, x⟩ is smallest, for each row."""

    @abstractmethod
    def project(self, points: Tensor) -> Tensor:
        """The nearest point of the set in the Euclidean norm, for each row."""

    @abstractmethod
    def contains(self, points: Tensor) -> Tensor:
        """Whether each point lies in the set, of shape (batch, rows)."""

    @abstractmethod
    def inside(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Points of the set as close to `points` as can be proved; and whether `points` are in it
        up to rounding, and these are proved to be, (batch, rows)."""

    @abstractmethod
    def convert(self, convert: Convert) -> InputSet:
        """The same set with `convert` applied to every tensor, all of which start with the batch
        axis."""

    @property
    def magnitude(self) -> Tensor:
        """The largest |x| of each coordinate; (batch, *input_shape)."""
        return torch.maximum(-self.lower, self.upper).detach()

    def __len__(self) -> int:
        return self.lower.shape[0]


@dataclass(frozen=True, eq=False)
class Box(InputSet):
    """{x : lower ≤ x ≤ upper}, one box an input; both tensors have shape (batch, *input_shape), or
    (*input_shape) for one.

    What is no pair of finite floating-point tensors, or is empty, is refused where the box is used,
    with an InvalidInputError.

    >>> import torch
    >>> len(Box(torch.zeros(3, 2), torch.ones(2)).resolve((2,)))
    3
    """

    def minimum(self, coefficients: Tensor) -> Tensor:
        return (coefficients * self.argmin(coefficients)).flatten(2).sum(2)

    def minimum_below(self, coefficients: Tensor) -> Tensor:
        middle, reach, underflow = self.halves(coefficients.shape[2:].numel())
        spread = row_sums(coefficients.abs(), reach.unsqueeze(1)) + underflow
        return down(row_sums(coefficients, middle.unsqueeze(1)) - spread)

    def halves(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """m, r (batch, *input_shape) and η (batch, 1): over the box, ⟨c, x⟩ lies within Σ |c| r + η
        of ⟨c, m⟩, rounding of either sum of `count` products and of their difference included."""
        dtype, size = self.lower.dtype, self.magnitude
        rounding = gamma(count, dtype) * (size + floor(dtype))
        underflow = count * smallest(dtype) * (3 + size.flatten(1).amax(1, keepdim=True))
        lower, upper = self.lower / 2, self.upper / 2
        return lower + upper, upper - lower + rounding, underflow

    def argmin(self, coefficients: Tensor) -> Tensor:
        lower, upper = self.lower.unsqueeze(1), self.upper.unsqueeze(1)
        if not (on_cpu(lower) and coefficients.dtype == lower.dtype) or (
            lower.requires_grad or upper.requires_grad or followed(coefficients)
        ):
            return torch.where(coefficients > 0, lower, upper)
        # On a CPU `where` branches at every number, and signs cannot be predicted: 8 times as slow.
        side = coefficients.detach().sign().sub_(0.5).mul_(-math.inf)
        return torch.clamp(side, lower, upper)

    def project(self, points: Tensor) -> Tensor:
        return torch.minimum(
            torch.maximum(points, self.lower.unsqueeze(1)), self.upper.unsqueeze(1)
        )

    def contains(self, points: Tensor) -> Tensor:
        inside = (points >= self.lower.unsqueeze(1)) & (points <= self.upper.unsqueeze(1))
        return inside.flatten(2).all(2)

    def inside(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return points, self.contains(points)

    def convert(self, convert: Convert) -> Box:
        return Box(convert(self.lower), convert(self.upper))

    def resolve(self, input_shape: Shape) -> Box:
        """This box, batched and checked, for a network of this input shape."""
        ends = {"lower": self.lower, "upper": self.upper}
        for name, end in ends.items():
            require_floats("Box", name, end)
            if len(end) == 0 and end.shape[1:] == input_shape:
                raise InvalidInputError(
                    f"Box({name}) has shape {tuple(end.shape)}, an empty batch: give at least one "
                    "input."
                )
            if (end.shape != input_shape and end.shape[1:] != input_shape) or 0 in end.shape:
                raise InvalidInputError(
                    f"Box({name}) has shape {tuple(end.shape)}, expected {input_shape} or (batch, "
                    f"{', '.join(map(str, input_shape))}): reshape it to the network's input."
                )
        lower, upper = (end.reshape(-1, *input_shape) for end in ends.values())
        if lower.dtype != upper.dtype or lower.device != upper.device:
            raise InvalidInputError(
                f"Box got lower in {lower.dtype} on {lower.device} and upper in {upper.dtype} on "
                f"{upper.device}: convert one with .to(...)."
            )
        if len(lower) != len(upper) and 1 not in (len(lower), len(upper)):
            raise InvalidInputError(
                f"Box got lower ends for {len(lower)} inputs and upper ends for {len(upper)}: give "
                "as many of both, or one for all."
            )
        lower, upper = torch.broadcast_tensors(lower, upper)
        crossed = (lower > upper).flatten(1).any(1)
        if bool(crossed.any()):
            raise InvalidInputError(
                f"the box of input {int(crossed.nonzero()[0])} is empty: its lower end lies above "
                "its upper end somewhere, swap them."
            )
        return Box(lower, upper)
