"""On another device than the CPU everything gives what it gives there, and tensors never mix.

`test_device.py` runs these in a process of their own: a device stays with the process it is in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import bounds
from bounds import Ball, Network, Relaxation
from bounds.models import load_digits_images, load_digits_model
from tests.support.pretend_device import AVAILABLE, counting, pretend_device

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="torch has no backends in Python")

PIXELS: dict[str, Any] = {"radius": 0.1, "lower": 0.0, "upper": 1.0}
LABELS = load_digits_images()[1][:2]


def digits() -> tuple[Network, Tensor]:
    model = load_digits_model("digits_robust")
    x = load_digits_images()[0][:2].double()
    return bounds.from_torch(model, x.shape[1:], dtype=torch.float64), x


def relaxed(network: Network, x: Tensor, **options: Any) -> Relaxation:
    return bounds.relax(network, Ball(x, **PIXELS), bounds.margins(LABELS, 10), **options)


def same(there: Tensor, here: Tensor, tolerance: float = 1e-12) -> bool:
    """Whether a tensor of the device is that of the CPU. A device adds up in another order."""
    assert there.device.type == "pretend"
    return torch.allclose(there.detach().cpu(), here.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("intermediate", ["interval", "backward", "optimised", "lp"])
def test_intermediate_bounds(intermediate: Any) -> None:
    network, x = digits()
    here = relaxed(network, x, intermediate=intermediate)
    tolerance = 1e-6 if intermediate == "lp" else 1e-12  # another method solves the LPs
    with pretend_device() as device:
        there = relaxed(network.to(device), x.to(device), intermediate=intermediate)
        for own, known in zip(there.relu_bounds, here.relu_bounds, strict=True):
            assert same(own.lower, known.lower, tolerance)
            assert same(own.upper, known.upper, tolerance)


@pytest.mark.parametrize(
    "method", ["fixed_slope", "adaptive_slope", "optimised_slope", "interior_point", "simplex"]
)
def test_methods(method: Any) -> None:
    network, x = digits()
    here = bounds.solve(relaxed(network, x), method=method)
    with pretend_device() as device:
        relaxation = relaxed(network.to(device), x.to(device))
        with counting() as counts:
            there = bounds.solve(relaxation, method=method)
        tolerance = 1e-8 if method == "interior_point" else 1e-12  # the gap's
        assert same(there.lower, here.lower, tolerance)
        assert same(there.upper, here.upper, tolerance)
        assert same(there.status, here.status)
        assert sum(counts.operations.values()) > 100


@pytest.mark.parametrize(
    "loss",
    [bounds.robust_loss, bounds.interval_loss, bounds.crown_ibp_loss, bounds.optimised_loss],
)
def test_losses_and_their_gradients(loss: Callable[..., bounds.LossAndError]) -> None:
    network, x = digits()
    x.requires_grad_()
    here = loss(network, x, LABELS, **PIXELS)
    [known] = torch.autograd.grad(here.loss, x)
    with pretend_device() as device:
        own = x.detach().to(device).requires_grad_()
        there = loss(network.to(device), own, LABELS, **PIXELS)
        [found] = torch.autograd.grad(there.loss, own)
        assert same(there.loss, here.loss)
        assert same(found, known)


def test_attacks() -> None:
    network, x = digits()
    options: dict[str, Any] = {**PIXELS, "steps": 5}
    here = bounds.pgd(network, x, LABELS, **options, generator=torch.Generator().manual_seed(0))
    with pretend_device() as device:
        generator = torch.Generator().manual_seed(0)
        there = bounds.pgd(network.to(device), x.to(device), LABELS, **options, generator=generator)
        assert same(there, here)


def test_tensors_of_two_devices_are_refused() -> None:
    with pretend_device() as device, pytest.raises(RuntimeError, match="two devices"):
        torch.ones(2, device=device) + torch.ones(2)
