"""The input set as the user writes it: a ball around an input or a batch of them, within a box."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from bounds.arguments import is_real, require_floats, shown
from bounds.errors import InvalidInputError
from bounds.network.affine import Shape
from bounds.rounding import difference_below, down_to, gamma, smallest, up
from bounds.sets.box import Box, InputSet
from bounds.sets.norm_balls import L1Ball, L2Ball, NormBall
from bounds.sets.numbers import (
    Number,
    above,
    below,
    exactly,
    require_number,
    smallest_of,
)

#: By which shares of the way to the centre a point is moved, until the ball holds it.
NEARER = 0.0, 2.0**-40, 2.0**-20, 2.0**-4, 1.0

NORM_BALLS: dict[float, type[NormBall]] = {1: L1Ball, 2: L2Ball}


@dataclass(frozen=True, eq=False, kw_only=True)
class _BallOptions:
    """The keyword-only part of `Ball`."""

    radius: Number
    norm: float = math.inf
    lower: Number | None = None
    upper: Number | None = None


@dataclass(frozen=True, eq=False)
class Ball(_BallOptions):
    """All points within `radius` of x in the ℓ1, ℓ2 or ℓ∞ norm, intersected with the box [lower,
    upper] where one is given.

    The intersection itself is what bounds hold for and are exact on, whatever the norm, and x may
    lie outside the box. Ends that are no numbers of the dtype of x are rounded outward.

    Args:
        x: the centre or centres, of shape (*input_shape) or (batch, *input_shape), floating point.
        radius: in the units of x; a number, of Python or NumPy, or a tensor of shape (batch,) (a
            radius an input); for ℓ∞ also a tensor that broadcasts to x (a radius a coordinate).
        norm: 1, 2 or float("inf").
        lower, upper: the box, such as 0 and 1 for pixels; numbers, tensors of shape (batch,), or
            tensors that broadcast to x; default: no box.

    Raises:
        InvalidInputError: NaN or infinite x, a negative or NaN radius, another norm, shapes that do
            not broadcast, a radius a coordinate for ℓ1 or ℓ2, or a box that excludes the whole
            ball; what depends on the shape of the network's input, where it is used.

    >>> import torch
    >>> Ball(torch.zeros(1, 2), radius=0.5, lower=0.0).resolve((2,)).upper.tolist()
    [[0.5, 0.5]]
    """

    x: Tensor

    def __post_init__(self) -> None:
        require_floats("Ball", "x", self.x)
        if not is_real(self.norm) or self.norm not in (1, 2, math.inf):
            raise InvalidInputError(
                f"Ball(norm={shown(self.norm)}) is not modelled: use 1, 2 or norm=float('inf'), "
                "whose ball contains that of any norm."
            )
        require_number("Ball", "radius", self.radius)
        for name, end in (("lower", self.lower), ("upper", self.upper)):
            if end is not None:
                require_number("Ball", name, end)
        if smallest_of(self.radius) < 0:
            raise InvalidInputError(
                f"Ball(radius) got {smallest_of(self.radius)}, expected a radius of at least 0."
            )

    def resolve(self, input_shape: Shape) -> InputSet:
        """The set that this ball is, batched, for a network of this input shape."""
        x = self.x
        if x.shape == input_shape:
            x = x.unsqueeze(0)
        if x.shape[1:] != input_shape:
            raise InvalidInputError(
                f"Ball(x) has shape {tuple(self.x.shape)}, expected {input_shape} or (batch, "
                f"{', '.join(map(str, input_shape))}): reshape x to the network's input."
            )
        if len(x) == 0:
            raise InvalidInputError(
                f"Ball(x) has shape {tuple(x.shape)}, an empty batch: give at least one input."
            )
        if self.norm == math.inf:
            radius = _aligned("radius", above(self.radius, x.dtype, x.device), x)
        else:
            radius = self._one_an_input(x)
        # Rounded outward: no point of the set is left out.
        lower, upper = difference_below(x, radius), -difference_below(-x, radius)
        if self.lower is not None:
            end = below(self.lower, x.dtype, x.device)
            lower = torch.maximum(lower, _aligned("lower", end, x))
        if self.upper is not None:
            end = above(self.upper, x.dtype, x.device)
            upper = torch.minimum(upper, _aligned("upper", end, x))
        empty = (lower > upper).flatten(1).any(1)
        resolved: InputSet = Box(lower, upper)
        if self.norm != math.inf:
            resolved = ball = NORM_BALLS[self.norm](lower, upper, x, radius.flatten())
            empty |= ball.distance(ball.nearest.unsqueeze(1)).squeeze(1) > 1
        if bool(empty.any()):
            raise InvalidInputError(
                f"the ball around input {int(empty.nonzero()[0])} and the box [lower, upper] have "
                "no point in common: check that x lies in the box (are the pixels scaled to it?) "
                "and that lower ≤ upper."
            )
        return resolved

    def take(self, inputs: Tensor) -> Ball:
        """The balls around these inputs of a batch, x[inputs]; a radius or a box an input goes with
        them. `inputs` holds indices, (n,)."""
        x = self.x

        def part(name: str, value: Number) -> Number:
            if not isinstance(value, Tensor):
                return value
            value = _aligned(name, value, x)
            # With all axes, or a number a coordinate could read as one an input of the part.
            value = value.reshape(*[1] * (x.dim() - value.dim()), *value.shape)
            return value[inputs.to(value.device)] if len(value) == len(x) > 1 else value

        return replace(
            self,
            x=x[inputs],
            radius=part("radius", self.radius if self.norm == math.inf else self._shaped_radius(x)),
            lower=None if self.lower is None else part("lower", self.lower),
            upper=None if self.upper is None else part("upper", self.upper),
        )

    def grown(self, dtype: torch.dtype, input_shape: Shape) -> Ball | Box:
        """A set in numbers of `dtype` that contains this one: the smallest box for ℓ∞, and for ℓ1
        and ℓ2 the ball around the rounded centres, larger by what rounding moved them."""
        if torch.finfo(dtype).eps <= torch.finfo(self.x.dtype).eps:
            return replace(self, x=self.x.to(dtype))
        if self.norm == math.inf:
            box = self.resolve(input_shape)
            return Box(down_to(box.lower, dtype), -down_to(-box.upper, dtype))
        self.resolve(input_shape)  # refuses an empty set, before it grows
        x = self.x.reshape(-1, *input_shape)
        centre = x.to(dtype)
        moved = (x.double() - centre.double()).abs().flatten(1)
        unit = moved.amax(1, keepdim=True).clamp(min=smallest(torch.float64))
        length = unit.squeeze(1) * (moved / unit).pow(self.norm).sum(1).pow(1 / self.norm)
        count = moved.shape[1]
        length = length * (1 + gamma(4 * count, torch.float64)) + count * smallest(torch.float64)
        exact = (moved == 0).all(1)
        radius = above(self._one_an_input(x), torch.float64).flatten()
        grown = torch.where(exact, radius, up(radius + length))
        return replace(self, x=centre, radius=grown)

    def holds(self, point: Tensor) -> bool:
        """Whether a point lies in this ball around a single input: exactly, in rational numbers."""
        values = point.flatten().tolist()
        if not all(map(math.isfinite, values)):
            return False
        x = self.x.unsqueeze(0) if self.x.shape == point.shape else self.x
        p = [Fraction(value) for value in values]
        for end, sign in ((self.lower, 1), (self.upper, -1)):
            if end is not None and any(
                sign * (value - limit) < 0
                for value, limit in zip(p, _everywhere("box", end, x), strict=True)
            ):
                return False
        away = [abs(value - centre) for value, centre in zip(p, exactly(x), strict=True)]
        radius = _everywhere("radius", self.radius, x)
        if self.norm == math.inf:
            return all(far <= most for far, most in zip(away, radius, strict=True))
        power = int(self.norm)
        return sum(far**power for far in away) <= radius[0] ** power

    def nearby(self, point: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
        """Points in numbers of `dtype` that this ball around a single input is likely to hold: the
        nearest to `point`, on the CPU, and others a little nearer to the centre."""
        x = self.x.cpu().reshape(point.shape).double()

        def inward(value: Number, rounded: Callable[..., Tensor]) -> Tensor:
            return rounded(value, torch.float64, "cpu").expand(1, *x.shape)[0]

        reach = inward(self.radius, below)
        low, high = -difference_below(reach, x), difference_below(x, -reach)
        if self.lower is not None:
            low = torch.maximum(low, inward(self.lower, above))
        if self.upper is not None:
            high = torch.minimum(high, inward(self.upper, below))
        start, centre = point.double().clamp(low, high), x.clamp(low, high)
        for share in NEARER:
            steps = (start - centre) * (1 - share)
            moved = (centre + steps).to(dtype)
            # Rounded towards the centre, which leaves no set.
            beyond = (moved.double() - centre).abs() > steps.abs()
            yield torch.where(beyond, torch.nextafter(moved, centre.to(dtype)), moved)

    def _one_an_input(self, x: Tensor) -> Tensor:
        """The radius, rounded up, as a tensor of shape (batch, 1, …, 1)."""
        radius = above(self._shaped_radius(x), x.dtype, x.device)
        return radius.expand(len(x), *[1] * (x.dim() - 1))

    def _shaped_radius(self, x: Tensor) -> Number:
        """The radius of an ℓ1 or ℓ2 ball as it was given; a tensor with all axes of x."""
        radius = self.radius
        if not isinstance(radius, Tensor):
            return radius
        if radius.numel() != 1 and radius.shape not in ((len(x),), (len(x), *[1] * (x.dim() - 1))):
            raise InvalidInputError(
                f"Ball(radius) has shape {tuple(radius.shape)}, expected a number or ({len(x)},) "
                f"for norm={self.norm!r}: a radius a coordinate is for norm=float('inf')."
            )
        return radius.reshape(-1, *[1] * (x.dim() - 1))


def _aligned(name: str, tensor: Tensor, x: Tensor) -> Tensor:
    """The tensor, with its one axis first if it is one number an input, so that it broadcasts to x
    (batch, *input_shape)."""
    per_input = tensor.dim() == 1 and len(tensor) == len(x)
    per_coordinate = _broadcasts(tensor, x)
    if per_input and per_coordinate and len(x) > 1:
        raise InvalidInputError(
            f"Ball({name}) of shape {tuple(tensor.shape)} could be one number an input or one "
            f"a coordinate: reshape it to {(len(x), *[1] * (x.dim() - 1))} or expand it to "
            f"{tuple(x.shape)}."
        )
    if per_input:
        return tensor.reshape(-1, *[1] * (x.dim() - 1))
    if not per_coordinate:
        raise InvalidInputError(
            f"Ball({name}) has shape {tuple(tensor.shape)}, expected a number, ({len(x)},) or "
            f"something that broadcasts to {tuple(x.shape)}."
        )
    return tensor


def _everywhere(name: str, value: Number, x: Tensor) -> list[Fraction]:
    """The number of each coordinate, for the one input of x."""
    if isinstance(value, Tensor):
        value = _aligned(name, value, x).expand_as(x)
        return exactly(value)
    return exactly(value) * x.numel()


def _broadcasts(tensor: Tensor, x: Tensor) -> bool:
    try:
        return np.broadcast_shapes(tensor.shape, x.shape) == x.shape  # torch's imports sympy
    except ValueError:
        return False
