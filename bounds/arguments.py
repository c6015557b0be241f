"""What arrives at the door of a public call: used as it is, or refused in one sentence.

call: the name of the call, as the user writes it. name: of the argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bounds.errors import InvalidInputError

#: The dtypes of numbers that are read; what is computed is float32 or float64.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_SHOWN = bool, int, float, complex, str, Fraction, np.generic, torch.dtype, torch.device


def shown(value: object) -> str:
    """What arrived, on one line."""
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    if value is None or isinstance(value, _SHOWN):
        try:
            text = repr(value)
        except ValueError:  # whole numbers of thousands of digits
            return f"a very large {type(value).__name__}"
        return text if len(text) <= 80 else f"{text[:77]}..."
    return f"a {type(value).__name__}"


def require_type(call: str, value: object, expected: Any, remedy: str) -> None:
    """Refuse what is no `expected`, a class; remedy: how to come by one."""
    if not isinstance(value, expected):
        raise InvalidInputError(
            f"{call} got {shown(value)}, expected a {expected.__name__}: {remedy}."
        )


def require_tensor(call: str, name: str, value: object) -> Tensor:
    """A dense tensor that holds numbers."""
    if not isinstance(value, Tensor):
        raise InvalidInputError(
            f"{call}({name}) got {name} of type {type(value).__name__}, expected a tensor: convert "
            f"it with torch.as_tensor({name})."
        )
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        kind = "quantised" if value.is_quantized else "sparse or nested"
        remedy = "dequantize()" if value.is_quantized else "to_dense()"
        raise InvalidInputError(
            f"{call}({name}) got a {kind} tensor, expected a dense one: convert it with "
            f"{name}.{remedy}."
        )
    if value.is_meta:
        raise InvalidInputError(
            f"{call}({name}) got a tensor on the meta device, expected one that holds "
            "numbers: make it on the CPU or another device that computes."
        )
    return value


def all_finite(tensor: Tensor) -> bool:
    """Whether no number is NaN or infinite."""
    if tensor.numel() == 0:
        return True
    ends = torch.aminmax(tensor.detach())  # a tenth of the time of `isfinite` of each number
    return all(map(math.isfinite, torch.stack(ends).tolist()))


def require_floats(call: str, name: str, value: object) -> Tensor:
    """A dense tensor of finite floating-point numbers."""
    tensor = require_tensor(call, name, value)
    if tensor.dtype not in FLOATS:
        raise InvalidInputError(
            f"{call}({name}) got {name} of type {tensor.dtype}, expected a floating-point tensor: "
            f"convert it with {name}.float() or {name}.double()."
        )
    if not all_finite(tensor):
        raise InvalidInputError(
            f"{call}({name}) has NaN or infinite entries: remove them before asking for a bound."
        )
    return tensor


def is_real(value: object) -> bool:
    """Whether it is one number, of Python or of NumPy, and neither a truth value nor a NaN."""
    return isinstance(value, Real) and not isinstance(value, bool) and value == value


def require_option(call: str, name: str, value: object, allowed: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise InvalidInputError(
            f"{call}({name}={shown(value)}): expected one of {', '.join(map(repr, allowed))}."
        )


def require_flag(call: str, name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidInputError(f"{call}({name}={shown(value)}): expected True or False.")


def require_whole(
    call: str, name: str, value: object, *, least: int = 1, most: int | None = None
) -> int:
    """A whole number of Python or NumPy from `least` to `most`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or int(value) < least or (most is not None and int(value) > most):  # type: ignore[call-overload]
        limits = f"of at least {least}" if most is None else f"from {least} to {shown(most)}"
        raise InvalidInputError(f"{call}({name}={shown(value)}): expected a whole number {limits}.")
    return int(value)  # type: ignore[call-overload]


def real(value: object) -> float:
    """A number of Python or NumPy as a float, and NaN for all else."""
    try:
        return float(value) if is_real(value) else math.nan  # type: ignore[arg-type]
    except OverflowError:
        return math.nan


def require_positive(call: str, name: str, value: object, expected: str) -> float:
    """A finite number above 0; expected: what it should be."""
    number = real(value)
    if not 0 < number < math.inf:
        raise InvalidInputError(f"{call}({name}={shown(value)}): expected {expected}.")
    return number


def require_time_limit(call: str, value: object) -> float | None:
    """Seconds, or None for no limit."""
    if value is None:
        return None
    return require_positive(call, "time_limit", value, "a positive time in seconds")


def require_dtype(call: str, name: str, value: object) -> None:
    """Refuse all dtypes but those that are computed in."""
    if not isinstance(value, torch.dtype) or value not in (torch.float32, torch.float64):
        raise InvalidInputError(
            f"{call}({name}={shown(value)}): expected torch.float32 or torch.float64."
        )


def class_labels(call: str, y: object, inputs: int, classes: int) -> Tensor:
    """One class an input, (inputs,), int64. y: that as a tensor, or one number for all of them.

    Nothing else is read into its shape: neither (inputs, 1) nor (1,) for several inputs.
    """
    labels = integers(call, "y", y)
    if labels.dim() and labels.shape != (inputs,):
        raise InvalidInputError(
            f"{call} got y of shape {tuple(labels.shape)}, labels for {inputs} inputs: expected "
            f"one class for each, ({inputs},), or a number for all."
        )
    return require_classes(call, "y", labels, classes).expand(inputs)


def number_of_classes(call: str, output_shape: Sequence[int]) -> int:
    """How many classes a network of this output shape tells apart: numbers along one axis."""
    if sum(size > 1 for size in output_shape) > 1:
        raise InvalidInputError(
            f"{call} got a network whose output for one input has shape {tuple(output_shape)}, "
            "expected one axis of classes: give inputs of the shape that the model takes, or "
            "flatten its outputs."
        )
    return math.prod(output_shape)


def integers(call: str, name: str, value: object) -> Tensor:
    """A number, a sequence, an array or a tensor of whole numbers, as a tensor of int64."""
    try:
        labels = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidInputError(
            f"{call}({name}) got {shown(value)}, expected integers: a number or a tensor."
        ) from error
    require_tensor(call, name, labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InvalidInputError(f"{call}({name}) has dtype {labels.dtype}, expected integers.")
    if labels.numel() == 0:
        raise InvalidInputError(
            f"{call}({name}) has shape {tuple(labels.shape)}, expected a number or (batch,)."
        )
    # What exceeds int64 wraps to a negative class, which is refused as well.
    return labels.to(torch.int64)


def require_classes(call: str, name: str, labels: Tensor, classes: int) -> Tensor:
    """The labels, all of which have to be classes."""
    outside = (labels < 0) | (labels >= classes)
    if bool(outside.any()):
        raise InvalidInputError(
            f"{call}({name}) has {int(labels[outside].flatten()[0])}, expected 0 … {classes - 1} "
            f"for {classes} classes."
        )
    return labels
