"""The initialisation and the regularisers of training on intervals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from bounds import InvalidInputError, interval_loss
from bounds.training.warm_up import initialise, warm_up


def network(width: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, 3),
    )


def test_boxes_keep_their_width_after_it() -> None:
    model = network(400)
    x = torch.randn(50, 20)
    before = warm_up(model, x, radius=0.1).tightness
    initialise(model)
    after = warm_up(model, x, radius=0.1).tightness
    assert model[2].weight.std().item() == pytest.approx(math.sqrt(2 * math.pi) / 400, rel=0.05)
    assert not model[2].bias.any()
    assert before > 0.4
    assert after < before / 10


def test_they_are_the_numbers_of_the_boxes() -> None:
    """By hand: x in [−1, 1], weights 4 and −1, biases 8 and −3: [4, 12] and [−4, −2]."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[4.0], [-1.0]]))
        model[0].bias.copy_(torch.tensor([8.0, -3.0]))
    tightness, balance = warm_up(model, torch.zeros(1, 1), radius=1.0)
    # Widths are 2, and 8 and 2 of mean 5; centres 8 and −3, as far from their mean as each other.
    assert tightness.item() == pytest.approx((0.5 - 2 / 5) / 0.5)
    assert balance.item() == pytest.approx((0.5 - 3 / 8) / 0.5)


def test_training_on_them_makes_boxes_tighter_and_neurons_even() -> None:
    model, x = network(), torch.randn(100, 20)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = sum(warm_up(model, x, radius=0.1))
    loss = interval_loss(model, x, 0, radius=0.1).loss
    for _ in range(40):
        optimizer.zero_grad()
        sum(warm_up(model, x, radius=0.1)).backward()
        optimizer.step()
    assert sum(warm_up(model, x, radius=0.1)) < before / 4
    assert interval_loss(model, x, 0, radius=0.1).loss < loss


def test_a_network_without_active_neurons_has_gradients() -> None:
    model = network()
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    tightness, balance = warm_up(model, torch.randn(5, 20), radius=0.1)
    gradients = torch.autograd.grad(tightness + balance, tuple(model.parameters())[:4])
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.0}, r"warm_up\(tolerance=0.0\): expected a positive number"),
        ({"radius": -1.0}, "radius of at least 0"),
        ({"model": nn.Linear(20, 3)}, "without a ReLU"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    arguments = {"model": network(), "x": torch.zeros(1, 20), "radius": 0.1} | options
    with pytest.raises(InvalidInputError, match=message):
        warm_up(**arguments)
    with pytest.raises(InvalidInputError, match="initialise got"):
        initialise(torch.zeros(1))  # type: ignore[arg-type]
