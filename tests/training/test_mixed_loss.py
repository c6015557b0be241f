"""Mixed losses and small boxes: their parts against plain torch, their ends, their gradients."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bounds
from bounds import InvalidInputError, RobustLoss, interval_loss, mixed_loss, small_box_loss
from bounds.models import load_digits_images, load_digits_model
from bounds.training.ascent import ascended
from tests.dual.test_gradients import MODELS, filled, install
from tests.support.layers import Dice
from tests.training.test_interval_loss import plain_margins

PIXELS: dict[str, Any] = {"radius": 0.1, "lower": 0.0, "upper": 1.0}


def digits() -> tuple[nn.Sequential, Tensor, Tensor]:
    x, y = load_digits_images()
    return load_digits_model("digits_robust").double(), x.double(), y


def at_points(points: Tensor) -> Any:
    """An attack that finds these."""
    return mock.patch("bounds.training.mixed_loss.ascended", return_value=points)


@pytest.mark.parametrize("combination", ["losses", "margins", "logarithms"])
def test_what_is_mixed(combination: Any) -> None:
    model, x, y = digits()
    attacked = (x + 0.1 * Dice(0).normal(*x.shape).sign()).clamp(0, 1)
    boxes = plain_margins(model, (x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1), y)
    logits = model(attacked)
    margins = logits.gather(1, y.unsqueeze(1)) - logits

    def loss(m: Tensor) -> Tensor:
        return torch.logsumexp(-m, 1)

    expected = {
        "losses": 0.7 * loss(margins) + 0.3 * loss(boxes),
        "margins": loss(0.7 * margins + 0.3 * boxes),
        "logarithms": loss(margins) ** 0.7 * loss(boxes) ** 0.3,
    }[combination]
    with at_points(attacked):
        found = mixed_loss(
            *(model, x, y), **PIXELS, mixture=0.3, combination=combination, reduction="none"
        )
    torch.testing.assert_close(found.loss, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(found.attacked, logits.argmax(1) != y)


@pytest.mark.parametrize("combination", ["losses", "margins", "logarithms"])
def test_its_ends_are_the_attack_and_the_intervals(combination: Any) -> None:
    model, x, y = digits()
    options = PIXELS | {"combination": combination, "reduction": "none"}
    boxes = interval_loss(model, x, y, **PIXELS, reduction="none").loss
    whole = mixed_loss(model, x, y, mixture=1.0, **options).loss
    torch.testing.assert_close(whole, boxes, rtol=1e-9, atol=1e-9)
    with at_points(x):
        none = mixed_loss(model, x, y, mixture=0.0, **options).loss
    torch.testing.assert_close(none, F.cross_entropy(model(x), y, reduction="none"))


def test_a_confident_answer_has_a_gradient_that_is_a_number() -> None:
    """Its loss is 0, of which the logarithm is none."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([1e4, 0.0]))
    options: dict[str, Any] = {"radius": 0.1, "mixture": 0.5, "combination": "logarithms"}
    loss = mixed_loss(model, torch.ones(1, 1), 0, **options).loss
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, tuple(model.parameters())))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_small_box_lies_in_the_ball_as_near_to_the_attack_as_it_can(share: float) -> None:
    model, x, y = digits()
    low, high = (x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1)
    points = torch.where(Dice(1).normal(*x.shape) > 0, high, low)
    reach = share * (high - low) / 2
    towards = torch.where(points == high, high - reach, low + reach)
    margin = plain_margins(model, towards - reach, towards + reach, y)
    with at_points(points):
        loss, attacked = small_box_loss(model, x, y, **PIXELS, share=share, reduction="none")
    torch.testing.assert_close(loss, torch.logsumexp(-margin, 1), rtol=1e-9, atol=1e-9)
    assert torch.equal(attacked, model(towards).argmax(1) != y)


@pytest.mark.parametrize("norm", [math.inf, 2.0, 1.0])
@pytest.mark.parametrize("steps", [1, 4])
def test_the_attack_stays_in_the_ball_and_finds_more_than_chance(norm: float, steps: int) -> None:
    model, x, y = digits()
    network = bounds.from_torch(model, x.shape[1:])
    radius = {math.inf: 0.1, 2.0: 0.7, 1.0: 3.0}[norm]
    sets = bounds.Ball(x, radius=radius, norm=norm, lower=0.0, upper=1.0).resolve(x.shape[1:])
    torch.manual_seed(0)
    points = ascended(network, sets, y, steps)
    assert (points >= 0).all()
    assert (points <= 1).all()
    away = torch.linalg.vector_norm((points - x).flatten(1), ord=norm, dim=1)
    assert (away <= radius * (1 + 1e-9)).all()
    assert F.cross_entropy(model(points), y) > 1.3 * F.cross_entropy(model(x), y)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["losses", "margins", "logarithms", "small box"])
def test_gradients_are_those_of_finite_differences(kind: Any, name: str) -> None:
    shape, model = MODELS[name]
    parameters = filled(model, seed=5)
    x = (Dice(4).normal(2, *shape) / 2).requires_grad_()
    radius = torch.tensor([0.3, 0.2], dtype=torch.float64, requires_grad=True)
    y, points = torch.tensor([0, 1]), x.detach() + 0.1

    def loss(x: Tensor, radius: Tensor, *values: Tensor) -> Tensor:
        install(model, dict(zip(parameters, values, strict=True)))
        network = bounds.from_torch(model, shape, dtype=torch.float64)
        with at_points(points):
            if kind == "small box":
                return small_box_loss(network, x, y, radius=radius, share=0.3).loss
            return mixed_loss(network, x, y, radius=radius, mixture=0.3, combination=kind).loss

    inputs = (x, radius, *parameters.values())
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-7, rtol=1e-5)


def test_neither_says_that_it_proves_anything() -> None:
    assert "error" not in bounds.Surrogate._fields
    for loss in (mixed_loss, small_box_loss):
        assert "A surrogate: its value is no bound" in (inspect.getdoc(loss) or "")


@pytest.mark.parametrize("loss", [mixed_loss, small_box_loss])
def test_autocast_changes_nothing(loss: Any) -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    options = {"mixture": 0.3} if loss is mixed_loss else {"share": 0.3}
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(loss(model, x, y, **PIXELS, **options).loss)
    assert found[1].dtype == torch.float32
    assert torch.equal(*found)


# -- batch normalisation and residual networks


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.last = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(self.second(y) + y)


LOSSES: dict[str, Any] = {
    "interval": (interval_loss, {}),
    "mixed": (mixed_loss, {"mixture": 0.3}),
    "small box": (small_box_loss, {"share": 0.3}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_batch_normalisation_takes_the_statistics_of_clean_inputs(name: str) -> None:
    """The loss is that of the network with these in the place of its stored ones."""
    loss, options = LOSSES[name]
    torch.manual_seed(1)
    model = Block().double().train()
    x, y = torch.rand(6, 1, 4, 4, dtype=torch.float64), torch.arange(6) % 3
    frozen = copy.deepcopy(model)
    for layer in frozen.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    called = copy.deepcopy(model)
    called(x)
    frozen(x)
    for layer in frozen.modules():
        if isinstance(layer, nn.BatchNorm2d):  # stored ones are unbiased
            count = 6 * 16
            layer.running_var *= (count - 1) / count
    frozen.eval()
    found, expected = [], []
    for each, results in ((model, found), (frozen, expected)):
        torch.manual_seed(0)
        results.append(loss(each, x, y, radius=0.1, **options).loss)
    torch.testing.assert_close(found, expected)
    assert model.training
    assert all(layer.training for layer in model.modules())
    for name, buffer in model.state_dict().items():
        torch.testing.assert_close(buffer, called.state_dict()[name])
        assert not buffer.requires_grad


@pytest.mark.parametrize("name", LOSSES)
def test_a_compiled_model_is_what_it_wraps(name: str) -> None:
    loss, options = LOSSES[name]
    torch.manual_seed(1)
    model = Block().double().train()
    x, y, found = torch.rand(6, 1, 4, 4, dtype=torch.float64), torch.arange(6) % 3, []
    for each in (model, torch.compile(model)):
        torch.manual_seed(0)
        found.append(loss(each, x, y, radius=0.1, **options).loss)
    assert torch.equal(*found)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_flow_through_the_statistics(name: str) -> None:
    loss, options = LOSSES[name]
    torch.manual_seed(1)
    model = Block().double().train()
    x, y = torch.rand(6, 1, 4, 4, dtype=torch.float64), torch.arange(6) % 3
    weight = model.first[0].weight

    def value() -> Tensor:
        torch.manual_seed(0)
        with at_points((x + 0.05).detach()):
            return loss(model, x, y, radius=0.1, **options).loss

    [gradient] = torch.autograd.grad(value(), weight)
    step = 1e-6
    for place in ((0, 0, 0, 0), (3, 0, 1, 2)):
        with torch.no_grad():
            weight[place] += step
            above = value()
            weight[place] -= 2 * step
            below = value()
            weight[place] += step
        torch.testing.assert_close(gradient[place], (above - below) / (2 * step), rtol=1e-4, atol=0)


# -- what they refuse


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixture": 1.1}, r"mixed_loss\(mixture=1.1\): expected a number from 0 to 1"),
        ({"mixture": math.nan}, r"mixture=nan"),
        ({"mixture": True}, r"mixture=True"),
        ({"combination": "sum"}, r"combination='sum'"),
        ({"steps": 0}, r"steps=0"),
        ({"radius": -0.1}, "radius of at least 0"),
        ({"radius": math.nan}, "radius"),
        ({"y": torch.zeros(16)}, "expected integers"),
        ({"y": torch.tensor([3])}, "one class for each"),
        ({"reduction": "max"}, r"reduction='max'"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}, "without a ReLU"),
        ({"model": nn.DataParallel(nn.Linear(1, 1))}, r"RobustLoss\(model, bounds.mixed_loss\)"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(options: dict[str, Any], message: str) -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    arguments: dict[str, Any] = {"model": model, "x": x, "y": y, "mixture": 0.1, **PIXELS}
    with pytest.raises(InvalidInputError, match=message) as refusal:
        mixed_loss(**arguments | options)
    assert "\n" not in str(refusal.value)


def test_half_precision_and_shares_are_refused() -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    with pytest.raises(InvalidInputError, match="float"):
        mixed_loss(model.half(), x.half(), y, **PIXELS, mixture=0.1)
    with pytest.raises(InvalidInputError, match=r"small_box_loss\(share=-0.1\)"):
        small_box_loss(model.float(), x, y, **PIXELS, share=-0.1)


def test_as_a_module_it_is_the_function() -> None:
    model, x, y = digits()
    found = []
    for loss in (RobustLoss(model, mixed_loss), lambda *a, **o: mixed_loss(model, *a, **o)):
        torch.manual_seed(0)
        found.append(loss(x, y, **PIXELS, mixture=0.2).loss)
    assert torch.equal(*found)
    with pytest.raises(InvalidInputError, match=r"RobustLoss\(loss=3\)"):
        RobustLoss(model, 3)  # type: ignore[arg-type]
