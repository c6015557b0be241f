"""The loss of intervals: against interval arithmetic written here in plain torch, and rounding."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor, nn

import bounds
from bounds import InvalidInputError, interval_loss
from bounds.models import load_digits_images, load_digits_model
from bounds.relaxation.triangle import ReluBounds
from bounds.training.interval_loss import interval_margins
from bounds.training.posed import Posed
from tests.dual.test_gradients import MODELS, filled, install
from tests.support.layers import Dice
from tests.support.problems import NORMS, Problem, points, problems

PIXELS: dict[str, Any] = {"radius": 0.1, "lower": 0.0, "upper": 1.0}


def plain_margins(model: nn.Sequential, low: Tensor, high: Tensor, y: Tensor) -> Tensor:
    """Of a sequence of convolutions, dense layers and ReLUs that ends with a dense one: by the
    smaller and the larger product of each weight, and of the differences of the last rows."""
    *layers, last = model
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
            if isinstance(layer, nn.Conv2d):
                shift = layer.bias.reshape(-1, 1, 1)

                def apply(x: Tensor, w: Tensor, layer: nn.Conv2d = layer) -> Tensor:
                    return F.conv2d(x, w, None, layer.stride, layer.padding)
            else:
                shift, apply = layer.bias, F.linear
            low, high = (
                apply(low, plus) + apply(high, minus) + shift,
                apply(high, plus) + apply(low, minus) + shift,
            )
        else:
            low, high = layer(low), layer(high)
    rows = last.weight[y].unsqueeze(1) - last.weight
    found = rows.clamp(min=0) @ low.unsqueeze(2) + rows.clamp(max=0) @ high.unsqueeze(2)
    return found.squeeze(2) + last.bias[y].unsqueeze(1) - last.bias


@pytest.mark.parametrize("name", ["digits_robust", "digits_standard"])
def test_it_is_plain_interval_arithmetic(name: str) -> None:
    model, (x, y) = load_digits_model(name).double(), load_digits_images()
    x = x.double()
    margin = plain_margins(model, (x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1), y)
    loss, error = interval_loss(model, x, y, **PIXELS, reduction="none")
    torch.testing.assert_close(loss, torch.logsumexp(-margin, 1), rtol=1e-9, atol=1e-9)
    margin[torch.arange(len(y)), y] = 1.0
    assert torch.equal(error, margin.amin(1) <= 0)


def test_the_last_layer_is_folded_into_the_margins() -> None:
    """Boxes of the logits are worse, as both logits of a margin are of the same neurons."""
    model, (x, y) = load_digits_model("digits_robust").double(), load_digits_images()
    network = bounds.from_torch(model, x.shape[1:])
    ball = bounds.Ball(x.double(), **PIXELS)
    logits = bounds.relax(network, ball, bounds.margins(y, 10), intermediate="interval").ranges()
    low, high = logits[-1].lower, logits[-1].upper
    worst = high.scatter(1, y.unsqueeze(1), low.gather(1, y.unsqueeze(1)))
    apart = F.cross_entropy(worst, y, reduction="none")
    folded = interval_loss(model, x.double(), y, **PIXELS, reduction="none").loss
    assert (folded < apart).all()
    assert folded.mean() < apart.mean() / 1.2


@given(problems(norms=NORMS))
def test_its_rows_hold_in_float32(problem: Problem) -> None:
    """At points of the sets, in float64."""
    single = problem.relax(intermediate="interval").convert(lambda tensor: tensor.detach().float())
    found = interval_margins(
        Posed(single.network, single.input_set, torch.zeros(0), single.C, single.d)
    )
    exact = single.double()
    x = points(exact.input_set, 20)
    z = torch.stack([exact.network(x[:, k]) for k in range(20)], 1).flatten(2)
    rows = torch.einsum("bpo,bro->bpr", z, exact.C.flatten(2)) + exact.d.unsqueeze(1)
    assert (found.double() <= rows.amin(1) + 1e-12 * (1 + rows.abs().amax(1))).all()


@given(problems(norms=NORMS))
def test_its_layers_are_those_of_the_relaxation(problem: Problem) -> None:
    known = problem.relax(intermediate="interval")
    layers: list[ReluBounds] = []
    interval_margins(
        Posed(known.network, known.input_set, torch.zeros(0), known.C, known.d), layers
    )
    sizes = [known.input_set.magnitude, *(end.upper.abs() for end in known.relu_bounds)]
    # Sums of large numbers may be small.
    allowed = {"rtol": 1e-9, "atol": 1e-11 * (1 + max(float(size.max()) for size in sizes))}
    for own, other in zip(layers, known.relu_bounds, strict=True):
        torch.testing.assert_close(own.lower, other.lower, **allowed)
        torch.testing.assert_close(own.upper, other.upper, **allowed)


@pytest.mark.parametrize("name", MODELS)
def test_its_gradients_are_those_of_finite_differences(name: str) -> None:
    shape, model = MODELS[name]
    parameters = filled(model, seed=5)
    x = (Dice(4).normal(2, *shape) / 2).requires_grad_()
    radius = torch.tensor([0.3, 0.2], dtype=torch.float64, requires_grad=True)

    def loss(x: Tensor, radius: Tensor, *values: Tensor) -> Tensor:
        install(model, dict(zip(parameters, values, strict=True)))
        network = bounds.from_torch(model, shape, dtype=torch.float64)
        return interval_loss(network, x, torch.tensor([0, 1]), radius=radius).loss

    inputs = (x, radius, *parameters.values())
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-7, rtol=1e-5)


def test_it_raises_no_bound_under_autocast() -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    plain = interval_loss(model, x, y, **PIXELS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(interval_loss(model, x, y, **PIXELS).loss, plain.loss)


def test_reductions_agree() -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    each = interval_loss(model, x, y, **PIXELS, reduction="none")
    mean, total = (interval_loss(model, x, y, **PIXELS, reduction=r) for r in ("mean", "sum"))
    assert each.error.dtype == torch.bool
    torch.testing.assert_close(mean.loss, each.loss.mean())
    torch.testing.assert_close(total.loss, each.loss.sum())
    assert total.error == each.error.sum()
    assert mean.error == each.error.float().mean()


def test_a_margin_that_is_no_number_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    module = "bounds.training.interval_loss.row_bounds"
    monkeypatch.setattr(module, lambda r: torch.full_like(r.d, math.nan))
    assert interval_loss(model, x, y, **PIXELS, reduction="none").error.all()


@pytest.mark.parametrize("radius", [-0.1, math.nan])
def test_no_radius(radius: float) -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    with pytest.raises(InvalidInputError, match="radius"):
        interval_loss(model, x, y, radius=radius)


def test_a_sum_that_overflows_on_the_way_proves_nothing() -> None:
    """In float32 the neuron's sum is −∞ by then, and 2e37 in the end: the second class wins."""
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-3e38, -3e38, 3e38, 3.2e38]]))
        model[2].weight.copy_(torch.tensor([[0.0], [1.0]]))
        model[2].bias.copy_(torch.tensor([1.0, 0.0]))
    x, y = torch.ones(1, 4), torch.tensor([0])
    with pytest.raises(InvalidInputError, match="overflows"):
        interval_loss(model, x, y, radius=0.0)
    assert interval_loss(model.double(), x.double(), y, radius=0.0).error == 1
