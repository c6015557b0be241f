"""The numbers that callers write: the one place where they become floating point.

A number is Python's, NumPy's or a tensor's, of any kind that is real. It is taken exactly, and
rounded to where it can do no harm: outward, by whoever knows where that is.
"""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Integral

import torch
from torch import Tensor

from bounds.arguments import FLOATS, all_finite, is_real, require_tensor, shown
from bounds.errors import InvalidInputError
from bounds.rounding import difference_below, down_to

Number = Tensor | float

_WHOLE = tuple(
    getattr(torch, f"{sign}int{bits}")
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
    if hasattr(torch, f"{sign}int{bits}")
)


def require_number(call: str, name: str, value: object) -> None:
    """Refuse what is no finite real number, and no tensor of these."""
    if is_real(value):
        try:
            finite = math.isfinite(value)  # type: ignore[arg-type]
        except OverflowError:
            finite = False
        if not finite:
            raise InvalidInputError(
                f"{call}({name}) got {shown(value)}, which is NaN or infinite, or beyond float64: "
                "expected a finite number."
            )
        return
    if isinstance(value, float):  # a NaN
        raise InvalidInputError(f"{call}({name}) has NaN or infinite entries: give a number.")
    if not isinstance(value, Tensor):
        raise InvalidInputError(
            f"{call}({name}) got a {type(value).__name__}, expected a number or a tensor."
        )
    tensor = require_tensor(call, name, value)
    if tensor.numel() == 0 or tensor.dtype not in FLOATS + _WHOLE:
        raise InvalidInputError(f"{call}({name}) got {shown(tensor)}, expected real numbers.")
    if tensor.is_floating_point() and not all_finite(tensor):
        raise InvalidInputError(
            f"{call}({name}) has NaN or infinite entries: remove them before asking for a bound."
        )


def smallest_of(value: Number) -> float:
    return float(below(value, torch.float64).detach().min())


def below(value: Number, dtype: torch.dtype, device: torch.device | str | None = None) -> Tensor:
    """The largest numbers of `dtype` that are no larger than these; differentiable."""
    return down_to(_on(device, _float(value, up=False)), dtype)


def above(value: Number, dtype: torch.dtype, device: torch.device | str | None = None) -> Tensor:
    """The smallest numbers of `dtype` that are no smaller than these; differentiable."""
    return -down_to(-_on(device, _float(value, up=True)), dtype)


def exactly(value: Number) -> list[Fraction]:
    """The numbers themselves, in flat order."""
    if isinstance(value, Tensor):
        return [Fraction(number) for number in value.detach().flatten().tolist()]
    if isinstance(value, Integral):  # not all of NumPy's know a ratio
        return [Fraction(int(value))]
    return [Fraction(*value.as_integer_ratio())]


def _on(device: torch.device | str | None, tensor: Tensor) -> Tensor:
    return tensor if device is None else tensor.to(device)


def _float(value: Number, *, up: bool) -> Tensor:
    """In float32 or float64, rounded up or down where that is needed."""
    if not isinstance(value, Tensor):
        [exact] = exactly(value)
        nearest = float(exact)
        if nearest < exact if up else nearest > exact:
            nearest = math.nextafter(nearest, math.inf if up else -math.inf)
        return torch.tensor(nearest, dtype=torch.float64)
    if value.dtype in (torch.float32, torch.float64):
        return value
    if value.is_floating_point():
        return value.double()
    # Both halves are exact in float64.
    whole = value.view(torch.int64) if value.dtype == torch.uint64 else value.to(torch.int64)
    high, low = whole >> 32, whole & 0xFFFFFFFF
    if value.dtype == torch.uint64:
        high = high & 0xFFFFFFFF
    head, tail = high.double() * 2.0**32, low.double()
    return -difference_below(-head, tail) if up else difference_below(head, -tail)
