"""How far floating-point sums of products can be off, whatever the order they are summed in.

The standard model (Higham, Accuracy and Stability of Numerical Algorithms, 2002, ch. 3): every
addition and product returns its exact result times 1 + δ, |δ| ≤ ε/2, plus what underflows, which is
less than the smallest normal number η; subnormal numbers may be flushed to zero, as operands and as
results. Then a sum of k products, in any order, fused or not, is off by at most

    k ε/2 / (1 − k ε/2) · Σ |a| |b|  +  k η (1 + max |a| + max |b|).

`gamma` is a quarter larger. That pays for the rounding of the bounds on rounding themselves, which
are computed in the same arithmetic: sums of positive terms, each off by a part of 1/16 at most.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor


def gamma(terms: int, dtype: torch.dtype) -> float:
    """5/4 k ε/2 / (1 − k ε/2), where k is `terms` and 8 for the few roundings around a sum;
    infinite where a sum is so long that the dtype bounds little."""
    share = (terms + 8) * torch.finfo(dtype).eps / 2
    return 1.25 * share / (1 - share) if share < 1 / 32 else math.inf


def smallest(dtype: torch.dtype) -> float:
    """η, below which numbers may be flushed to zero."""
    return torch.finfo(dtype).tiny


def floor(dtype: torch.dtype) -> float:
    """η / ε: what is added to magnitudes so that ε times them covers underflow too."""
    return torch.finfo(dtype).tiny / torch.finfo(dtype).eps


def weighted(sizes: Tensor, weights: Tensor) -> Tensor:
    """Σ |sizes| · weights for each row; (batch, rows, *shape) and (batch, *shape), not negative."""
    flat = sizes.detach().abs().flatten(2)
    total = torch.bmm(flat, weights.detach().flatten(1).unsqueeze(2)).squeeze(2)
    return total if math.isfinite(gamma(flat.shape[2], flat.dtype)) else total + math.inf


def down(values: Tensor) -> Tensor:
    """The next smaller numbers."""
    return torch.nextafter(values, torch.full_like(values, -math.inf))


def up(values: Tensor) -> Tensor:
    """The next larger numbers."""
    return torch.nextafter(values, torch.full_like(values, math.inf))


def difference_below(a: Tensor, b: Tensor) -> Tensor:
    """The largest numbers of their dtype that are no larger than a − b.

    Unlike the passes, this counts on subnormal numbers where a or b is nearly one.
    """
    difference = a - b
    # What the subtraction rounded away, exactly (Knuth's TwoSum).
    with torch.no_grad():
        part = difference - a
        lost = (a - (difference - part)) - (b + part)
    return torch.where(lost < 0, down(difference), difference)


def down_to(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The largest numbers of `dtype` that are no larger."""
    rounded = values.to(dtype)
    return torch.where(rounded.to(values.dtype) > values, down(rounded), rounded)


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Products and sums in the dtype of their operands, as the standard model has them.

    No TF32 or bfloat16 inside float32 products, no autocast, and no convolution by Winograd's or
    Fourier's transform, which is more accurate than nothing but not sum by sum.
    """
    with ExitStack() as stack:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about devices that are not there
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(torch.backends.nnpack.flags(enabled=False))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_full_precision())
        yield


@contextmanager
def _full_precision() -> Iterator[None]:
    products = torch.backends.cuda.matmul
    # torch 2.9 renamed the switch, and does not allow both names in one program.
    name, value = (
        ("fp32_precision", "ieee") if hasattr(products, "fp32_precision") else ("allow_tf32", False)
    )
    before = getattr(products, name)
    setattr(products, name, value)
    try:
        yield
    finally:
        setattr(products, name, before)
