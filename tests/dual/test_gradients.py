"""Gradients of the one-pass bounds, with l and u, against finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bounds
from bounds import Ball, Relaxation, Specification
from tests.support.networks import Dice

#: How far from a kink a pre-activation bound has to be, many times the step of `gradcheck`.
AWAY = 1e-4

MODELS: dict[str, tuple[tuple[int, ...], nn.Sequential]] = {
    "dense": (
        (4,),
        nn.Sequential(
            *(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)),
        ),
    ),
    "conv": (
        (1, 3, 3),
        nn.Sequential(
            *(nn.Conv2d(1, 2, 2, padding=1, stride=2), nn.ReLU(), nn.Conv2d(2, 2, 2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(2, 2)),
        ),
    ),
}


def filled(model: nn.Sequential, seed: int) -> dict[str, Tensor]:
    """Random parameters for the model, by name."""
    dice = Dice(seed)
    return {
        name: (dice.normal(*p.shape) * (0.7 if p.dim() > 1 else 0.2)).requires_grad_()
        for name, p in model.named_parameters()
    }


def install(model: nn.Sequential, parameters: dict[str, Tensor]) -> None:
    """Put tensors in the place of the parameters, through which gradients flow to them."""
    for name, tensor in parameters.items():
        layer, attribute = name.rsplit(".", 1)
        module = model.get_submodule(layer)
        if attribute in module._parameters:
            del module._parameters[attribute]
        setattr(module, attribute, tensor)


def relaxed(model: nn.Module, x: Tensor, radius: Tensor, slope: Any) -> Relaxation:
    return bounds.relax(
        bounds.from_torch(model, x.shape[1:], dtype=torch.float64),
        Ball(x, radius=radius, lower=-1.5, upper=1.5),
        Specification(Dice(99).normal(2, 2)),
        slope=slope,
    )


@pytest.mark.parametrize("per_input", [False, True])
@pytest.mark.parametrize("slope", ["fixed", "adaptive"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_finite_differences(name: str, slope: str, per_input: bool) -> None:
    """With respect to every parameter, the centres and the radius."""
    shape, model = MODELS[name]
    parameters = filled(model, seed=5)
    x = (Dice(4).normal(2, *shape) / 2).requires_grad_()
    radius = torch.tensor([0.3, 0.2] if per_input else 0.3, dtype=torch.float64)
    radius.requires_grad_()

    def lower(x: Tensor, radius: Tensor, *values: Tensor) -> Tensor:
        install(model, dict(zip(parameters, values, strict=True)))
        relaxation = relaxed(model, x, radius, slope)
        return bounds.solve(relaxation, method=f"{slope}_slope").lower  # type: ignore[arg-type]

    install(model, parameters)
    relaxation = relaxed(model, x, radius, slope)
    assert min(relaxation.unstable) >= 3
    for neurons in relaxation.relu_bounds:
        assert torch.minimum(neurons.lower.abs(), neurons.upper.abs()).min() > AWAY
        assert (neurons.lower + neurons.upper).abs().min() > AWAY  # where CROWN's slope jumps

    inputs = (x, radius, *parameters.values())
    for gradient in torch.autograd.grad(lower(*inputs).sum(), inputs):
        assert gradient.abs().max() > 1e-3  # every one of them matters
    assert torch.autograd.gradcheck(lower, inputs, eps=1e-6, atol=1e-7, rtol=1e-6)


def test_training_on_the_bound_raises_it() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    dice = Dice(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(dice.normal(*parameter.shape) / 2)
    x, labels = dice.normal(4, 3), dice.below(3, 4)

    def bound() -> Tensor:
        relaxation = bounds.relax(
            bounds.from_torch(model, (3,)), Ball(x, radius=0.1), bounds.margins(labels, classes=3)
        )
        return bounds.solve(relaxation, method="fixed_slope").lower.mean()

    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    before = bound()
    (-before).backward()
    optimiser.step()
    assert bound() > before


def test_no_gradients_without_parameters_that_ask_for_them() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).requires_grad_(False)
    relaxation = bounds.relax(
        bounds.from_torch(model, (3,)),
        Ball(torch.zeros(3), radius=1.0),
        Specification(torch.eye(2)),
    )
    solution = bounds.solve(relaxation, method="fixed_slope")
    assert not solution.lower.requires_grad
    assert not any(p.requires_grad for p in model.parameters())
