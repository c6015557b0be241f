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
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from bounds.errors import BoundsError


def gamma(terms: int, dtype: torch.dtype) -> float:
    """5/4 k ε/2 / (1 − k ε/2), where k is `terms` and 8 for the few roundings around a sum;
    infinite where a sum is so long that the dtype bounds little."""
    share = (terms + 8) * torch.finfo(dtype).eps / 2
    return 1.25 * share / (1 - share) if share < 1 / 32 else math.inf


def smallest(dtype: torch.dtype) -> float:
    """η, below which numbers may be flushed to zero."""
    return torch.finfo(dtype).tiny


def floor(dtype: torch.dtype) -> float:
    """4 η / ε: what is added to magnitudes so that `gamma` times them covers what underflows in two
    sums, of the middle of what is bounded and of how far it is from that."""
    return 4 * torch.finfo(dtype).tiny / torch.finfo(dtype).eps


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
        # By `torch.where`, a mask without any order takes ten times as long.
        step = (difference - down(difference)).mul_(lost < 0)
    return difference - step.nan_to_num_(0.0, posinf=math.inf)


def down_to(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The largest numbers of `dtype` that are no larger."""
    rounded = values.to(dtype)
    return torch.where(rounded.to(values.dtype) > values, down(rounded), rounded)


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Products and sums in the dtype of their operands, as the standard model has them.

    No TF32 or bfloat16 inside float32 products, no autocast, and no convolution by Winograd's or
    Fourier's transform, which is more accurate than nothing but not sum by sum. torch has one
    switch a process for most of these: they are off while any thread is inside, and then as they
    were before the first came. (`bounds.network.onednn` calls one library nevertheless, where it is
    seen not to transform anything.)

    Raises BoundsError at the end where another thread has switched one on in between.
    """
    _switches.enter()
    try:
        with ExitStack() as stack:
            for device in ("cpu", "cuda"):
                stack.enter_context(torch.autocast(device, enabled=False))
            yield
        _switches.require_off()
    finally:
        _switches.leave()


class _Switches:
    """The process's switches, and how many are inside of `plain_arithmetic`."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before = ExitStack()

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before.enter_context(_all_off())
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.close()

    def require_off(self) -> None:
        name, value = _precision()
        on = [
            switch
            for switch, off in (
                ("mkldnn.enabled", not torch.backends.mkldnn.enabled),
                ("cudnn.enabled", not torch.backends.cudnn.enabled),
                (f"cuda.matmul.{name}", getattr(torch.backends.cuda.matmul, name) == value),
            )
            if not off
        ]
        if on:
            raise BoundsError(
                f"torch.backends.{on[0]} was switched on by another thread while bounds were "
                "computed, which may have rounded more than they account for: set it before, and "
                "call bounds again."
            )


_switches = _Switches()


@contextmanager
def _all_off() -> Iterator[None]:
    with ExitStack() as stack:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about devices that are not there
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(torch.backends.nnpack.flags(enabled=False))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        products, (name, value) = torch.backends.cuda.matmul, _precision()
        stack.callback(setattr, products, name, getattr(products, name))
        setattr(products, name, value)
        yield


def _precision() -> tuple[str, str | bool]:
    """The switch of full precision in products on a GPU, and its setting: torch 2.9 renamed it, and
    does not allow both names in one program."""
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        return "fp32_precision", "ieee"
    return "allow_tf32", False
