"""The loss of optimised bounds: the LP's optimum by the referee, and its gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import bounds
import lp_reference
from bounds import InvalidInputError, optimised_loss, robust_loss
from bounds.models import load_digits_images, load_digits_model
from bounds.training.optimised_loss import OptimisedMethod
from tests.dual.test_gradients import MODELS, filled, install
from tests.support.layers import Dice

PIXELS: dict[str, Any] = {"radius": 0.12, "lower": 0.0, "upper": 1.0}


def digits(count: int) -> tuple[torch.nn.Module, Tensor, Tensor]:
    x, y = load_digits_images()
    return load_digits_model("digits_robust").double(), x[:count].double(), y[:count]


@pytest.mark.parametrize("intermediate", ["backward", "interval"])
def test_it_is_the_cross_entropy_of_the_lp_optimum(intermediate: Any) -> None:
    """Where fixed slopes prove an input, it is that of the fixed slopes."""
    model, x, y = digits(6)
    options = {**PIXELS, "intermediate": intermediate, "reduction": "none"}
    fast = robust_loss(model, x, y, **options)
    found = optimised_loss(model, x, y, method="exact", **options)
    assert 0 < int(fast.error.sum()) < 6 or intermediate == "interval"
    network = bounds.from_torch(model, x.shape[1:])
    ball = bounds.Ball(x, **PIXELS)
    slope = {"slope": "fixed"} if intermediate == "backward" else {}
    relaxation = bounds.relax(
        network, ball, bounds.margins(y, 10), intermediate=intermediate, **slope
    )
    lp = torch.as_tensor(lp_reference.solve(relaxation).value)
    expected = F.cross_entropy(F.pad(-lp, (1, 0)), torch.zeros(6).long(), reduction="none")
    torch.testing.assert_close(found.loss[fast.error], expected[fast.error], rtol=1e-6, atol=1e-6)
    assert torch.equal(found.loss[~fast.error], fast.loss[~fast.error])
    assert torch.equal(found.error, ~(lp > 0).all(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_lies_between_the_lp_and_the_fixed_slopes(dtype: torch.dtype) -> None:
    model, x, y = digits(16)
    model, x = model.to(dtype), x.to(dtype)
    fast = robust_loss(model, x, y, **PIXELS, reduction="none")
    slopes = optimised_loss(model, x, y, **PIXELS, reduction="none")
    exact = optimised_loss(
        model.double(), x.double(), y, method="exact", **PIXELS, reduction="none"
    )
    assert slopes.loss.dtype == dtype
    assert (exact.loss <= slopes.loss.double() * (1 + 1e-6)).all()
    assert (slopes.loss <= fast.loss).all()
    assert slopes.loss.sum() < 0.98 * fast.loss.sum()
    assert (exact.error <= slopes.error).all()
    assert (slopes.error <= fast.error).all()


@pytest.mark.parametrize(
    ("name", "method", "norm"),
    [
        ("dense", "exact", math.inf),
        ("conv", "exact", math.inf),
        ("dense", "optimised_slope", math.inf),
        ("dense", "optimised_slope", 2),
    ],
)
def test_the_gradient_is_that_of_the_optimum(
    name: str, method: OptimisedMethod, norm: float
) -> None:
    """Finite differences solve anew at every step; the gradient holds multipliers fixed."""
    shape, model = MODELS[name]
    parameters = filled(model, 3)
    x = Dice(5).uniform(2, *shape).requires_grad_()
    radius = torch.tensor([0.6, 0.5], dtype=torch.float64)
    radius = (radius if norm == math.inf else 2 * radius).requires_grad_()
    errors: list[Tensor] = []

    def loss(x: Tensor, radius: Tensor, *values: Tensor) -> Tensor:
        install(model, dict(zip(parameters, values, strict=True)))
        network = bounds.from_torch(model, shape, dtype=torch.float64)
        y = torch.tensor([0, 1])
        found = optimised_loss(
            network, x, y, radius=radius, norm=norm, method=method, intermediate="interval",
            reduction="none",
        )  # fmt: skip
        errors.append(found.error)
        return found.loss.sum()

    inputs = (x, radius, *parameters.values())
    loose = {"exact": 1e-6, "optimised_slope": 2e-2}[method]
    step = {"exact": 1e-6, "optimised_slope": 1e-3}[method]
    options: dict[str, Any] = {"eps": step, "atol": loose, "rtol": 10 * loose}
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True, **options)
    assert errors[0].all()  # nothing that fixed slopes prove


def test_a_solve_that_fails_leaves_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the LP and the fixed slopes, with a gradient that is a number."""
    model, x, y = digits(16)
    exact = optimised_loss(model, x, y, method="exact", **PIXELS, reduction="none")
    fast = robust_loss(model, x, y, **PIXELS, reduction="none")

    def failing(*arguments: Any, **options: Any) -> bounds.Solution:
        found = bounds.solve(*arguments, **options)
        nothing = found.certificate.convert(lambda tensor: torch.full_like(tensor, math.nan))
        return replace(found, certificate=nothing)

    monkeypatch.setattr("bounds.training.optimised_loss.solve", failing)
    x.requires_grad_()
    found = optimised_loss(model, x, y, **PIXELS, reduction="none")
    assert (exact.loss <= found.loss * (1 + 1e-9)).all()
    assert (found.loss <= fast.loss).all()
    assert (exact.error <= found.error).all()
    found.loss.sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


def test_autocast_changes_nothing_and_gradients_reach_modules() -> None:
    model, x, y = digits(4)
    model, x = model.float(), x.float()
    loss = bounds.RobustLoss(model, optimised_loss)
    plain = loss(x, y, **PIXELS).loss
    plain.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(x, y, **PIXELS).loss, plain)
    with torch.no_grad():
        assert torch.equal(loss(x, y, **PIXELS).loss, plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "pdhg"}, r"optimised_loss\(method='pdhg'\)"),
        ({"intermediate": "lp"}, r"optimised_loss\(intermediate='lp'\)"),
        ({"radius": math.nan}, "radius"),
        ({"reduction": "most"}, "reduction"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    model, x, y = digits(2)
    with pytest.raises(InvalidInputError, match=message):
        optimised_loss(model, x, y, **{**PIXELS, **options})
