"""The input set as the user writes it: a ball around an input or a batch of them, within a box."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bounds.errors import InvalidInputError
from bounds.network.affine import Shape
from bounds.rounding import difference_below, down_to
from bounds.sets.box import Box, InputSet
from bounds.sets.norm_balls import L1Ball, L2Ball, NormBall

Number = Tensor | float

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
        radius: in the units of x; a number or a tensor of shape (batch,) (a radius an input); for
            ℓ∞ also a tensor that broadcasts to x (a radius a coordinate).
        norm: 1, 2 or float("inf").
        lower, upper: the box, such as 0 and 1 for pixels; numbers, tensors of shape (batch,), or
            tensors that broadcast to x; default: no box.

    Raises:
        InvalidInputError: NaN or infinite x, a negative or NaN radius, another norm, shapes that do
            not broadcast, a radius a coordinate for ℓ1 or ℓ2, or a box that excludes the whole
            ball.
    """

    x: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.x, Tensor) or not self.x.is_floating_point():
            kind = self.x.dtype if isinstance(self.x, Tensor) else type(self.x).__name__
            raise InvalidInputError(
                f"Ball(x) got x of type {kind}, expected a floating-point tensor: convert it with "
                "x.float() or x.double()."
            )
        known = isinstance(self.norm, (int, float)) and not isinstance(self.norm, bool)
        if not known or self.norm not in (1, 2, math.inf):
            raise InvalidInputError(
                f"Ball(norm={self.norm!r}) is not modelled: use 1, 2 or norm=float('inf'), whose "
                "ball contains that of any norm."
            )
        _require_finite("x", self.x)
        for name, value in (("radius", self.radius), ("lower", self.lower), ("upper", self.upper)):
            _require_number(name, value)
        if bool((torch.as_tensor(self.radius) < 0).any()):
            raise InvalidInputError(
                f"Ball(radius) got {_smallest(self.radius)}, expected a radius of at least 0."
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
            radius = -self._spread("radius", -self.radius, x)
        else:
            radius = self._one_an_input(x)
        # Rounded outward: no point of the set is left out.
        lower, upper = difference_below(x, radius), -difference_below(-x, radius)
        if self.lower is not None:
            lower = torch.maximum(lower, self._spread("lower", self.lower, x))
        if self.upper is not None:
            upper = torch.minimum(upper, -self._spread("upper", -self.upper, x))
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
            radius=part("radius", self.radius if self.norm == math.inf else self._one_an_input(x)),
            lower=None if self.lower is None else part("lower", self.lower),
            upper=None if self.upper is None else part("upper", self.upper),
        )

    def _one_an_input(self, x: Tensor) -> Tensor:
        """The radius as a tensor of shape (batch, 1, …, 1)."""
        radius = -_rounded_down(-self.radius, x)
        if radius.numel() != 1 and radius.shape not in ((len(x),), (len(x), *[1] * (x.dim() - 1))):
            raise InvalidInputError(
                f"Ball(radius) has shape {tuple(radius.shape)}, expected a number or ({len(x)},) "
                f"for norm={self.norm!r}: a radius a coordinate is for norm=float('inf')."
            )
        return radius.reshape(-1, *[1] * (x.dim() - 1)).expand(len(x), *[1] * (x.dim() - 1))

    def _spread(self, name: str, value: Number, x: Tensor) -> Tensor:
        """`value`, rounded down, as a tensor that broadcasts to x (batch, *input_shape)."""
        return _aligned(name, _rounded_down(value, x), x)


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


def _rounded_down(value: Number, x: Tensor) -> Tensor:
    """The value in the dtype and on the device of x, no larger than it was."""
    exact = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    wide = exact if exact.is_floating_point() else exact.double()
    return down_to(wide.to(x.device), x.dtype)


def _broadcasts(tensor: Tensor, x: Tensor) -> bool:
    try:
        return np.broadcast_shapes(tensor.shape, x.shape) == x.shape  # torch's imports sympy
    except ValueError:
        return False


def _smallest(value: Number) -> float:
    return float(torch.as_tensor(value).min())


def _require_finite(name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise InvalidInputError(
            f"Ball({name}) has NaN or infinite entries: remove them before asking for a bound."
        )


def _require_number(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
        raise InvalidInputError(
            f"Ball({name}) got a {type(value).__name__}, expected a number or a tensor."
        )
    tensor = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    if tensor.numel() == 0 or tensor.is_complex():
        raise InvalidInputError(f"Ball({name}) got {value!r}, expected real numbers.")
    _require_finite(name, tensor)
