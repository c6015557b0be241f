"""The robust loss: the predecessor's, the one-pass bound's own, and its gradients."""

from __future__ import annotations

import json
import math
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor, nn

import bounds
from bounds import Ball, InvalidInputError, Network, RobustLoss, robust_loss
from bounds.dual import recomputed
from bounds.intermediate.intermediate import relu_bounds
from bounds.intermediate.neuron_bounds import neuron_bounds, row_bounds
from bounds.models import load_digits_images, load_digits_model
from tests.dual.test_gradients import MODELS, filled, install
from tests.support.layers import Dice
from tests.support.predecessor import RECORD, Case
from tests.support.problems import NORMS, Problem, problems

PIXELS: dict[str, Any] = {"radius": 0.1, "lower": 0.0, "upper": 1.0}


# -- its value


def decided_by_passes(network: Network, ball: Ball) -> Tensor:
    """Whether no interval was better than the backward bound of its neuron; (batch,)."""
    input_set = ball.resolve(network.input_shape)
    layers = relu_bounds(network, input_set, method="backward", slope="fixed").layers
    relaxation = bounds.relax(network, ball, bounds.margins(0, network.output_shape[0]))
    alike = torch.ones(len(input_set), dtype=torch.bool)
    for k, index in enumerate(network.relus):
        (start,) = network.nodes[index].parents
        everyone = torch.ones_like(layers[k].lower, dtype=torch.bool)
        passes = neuron_bounds(
            *(network, input_set, layers[:k], relaxation.ranges(), start, everyone),
            slope="fixed",
            max_memory=None,
        )
        own = layers[k]
        off = torch.maximum((own.lower - passes.lower).abs(), (own.upper - passes.upper).abs())
        stable = (own.active & (passes.lower >= 0)) | ((own.upper <= 0) & (passes.upper <= 0))
        alike &= ((off < 1e-9) | stable).flatten(1).all(1)
    return alike


def test_it_is_the_predecessors_where_that_takes_the_same_bounds() -> None:
    """It knows no intervals, which are better than a backward bound now and then."""
    rows, compared = json.loads(RECORD.read_text())["cases"], 0
    for row in rows:
        loss, error = torch.tensor(row.pop("loss"), dtype=torch.float64), row.pop("error")
        case = Case(**row)
        model, x, y = case.build()
        box = {"lower": 0.0, "upper": 1.0} if case.box else {}
        found = robust_loss(
            model, x, y, radius=case.radius, norm=case.norm, reduction="none", **box
        )
        ball = Ball(x, radius=case.radius, norm=case.norm, **box)
        alike = decided_by_passes(bounds.from_torch(model, x.shape[1:]), ball)
        torch.testing.assert_close(found.loss[alike], loss[alike], rtol=1e-9, atol=1e-9, msg=case)
        torch.testing.assert_close(found.loss, loss, rtol=0.02, atol=1e-9, msg=str(case))
        assert (found.error == torch.tensor(error))[alike].all(), case
        compared += int(alike.sum())
    assert compared > len(rows)  # of five times as many


@given(problems(norms=NORMS))
def test_its_rows_are_the_fixed_slope_bounds(problem: Problem) -> None:
    relaxation = problem.relax()
    solved = bounds.solve(relaxation, method="fixed_slope", sound=False).lower
    scale = 1 + solved.abs()
    below = (solved - row_bounds(relaxation)) / scale
    assert (below >= -1e-14).all()
    assert (below <= 1e-8).all()


@given(problems(norms=NORMS))
def test_its_rows_hold_in_float32(problem: Problem) -> None:
    """Against the same LP evaluated in float64."""
    relaxation = problem.relax().convert(lambda tensor: tensor.detach().float())
    exact = bounds.solve(relaxation.double(), method="fixed_slope").upper
    fixed = bounds.solve(relaxation.double(), method="fixed_slope", sound=False).lower
    found = row_bounds(relaxation).double()
    assert (found <= fixed + 1e-12 * (1 + fixed.abs())).all()
    assert (found <= exact).all()


@pytest.mark.parametrize("intermediate", ["backward", "interval"])
def test_it_is_the_cross_entropy_of_the_worst_logits(intermediate: Any) -> None:
    model, (x, y) = load_digits_model("digits_robust").double(), load_digits_images()
    x = x.double()
    network = bounds.from_torch(model, x.shape[1:])
    ball = Ball(x, **PIXELS)
    relaxation = bounds.relax(network, ball, bounds.margins(y, 10), intermediate=intermediate)
    lower = bounds.solve(relaxation, method="fixed_slope").lower
    expected = torch.log1p((-lower).exp().sum(1))
    loss, error = robust_loss(model, x, y, **PIXELS, intermediate=intermediate, reduction="none")
    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=1e-8)
    assert (error == (lower <= 0).any(1)).all()
    assert error.any()
    mean = robust_loss(model, x, y, **PIXELS, intermediate=intermediate)
    total = robust_loss(network, x, y, **PIXELS, intermediate=intermediate, reduction="sum")
    torch.testing.assert_close(mean.loss, expected.mean())
    torch.testing.assert_close(total.loss, expected.sum())
    assert mean.error == error.double().mean()
    assert total.error == error.sum()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_margin_that_is_no_finite_number_is_an_error(number: float) -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    with mock.patch(
        "bounds.training.robust_loss.row_bounds", lambda r: torch.full_like(r.d, number)
    ):
        assert robust_loss(model, x, y, **PIXELS, reduction="none").error.all()


def test_it_raises_no_bound_under_autocast() -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    plain = robust_loss(model, x, y, **PIXELS, reduction="none")
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
        cast = robust_loss(model, x, y, **PIXELS, reduction="none")
    assert cast.loss.dtype == torch.float32
    assert torch.equal(cast.loss, plain.loss)
    assert torch.equal(cast.error, plain.error)


# -- its gradients


@pytest.mark.parametrize("kept", [0, recomputed.KEPT])
@pytest.mark.parametrize(
    ("norm", "box", "projection"),
    [
        (math.inf, True, None),
        (math.inf, False, 3),
        (2.0, True, None),
        (2.0, False, 3),
        (1.0, True, None),
        (1.0, False, None),
    ],
)
@pytest.mark.parametrize("name", MODELS)
def test_its_gradients_are_those_of_finite_differences(
    name: str, norm: float, box: bool, projection: int | None, kept: int
) -> None:
    """With respect to every parameter, the inputs and the radius, whatever is computed again."""
    shape, model = MODELS[name]
    parameters = filled(model, seed=5)
    x = (Dice(4).normal(2, *shape) / 2).requires_grad_()
    radius = torch.tensor([0.3, 0.2], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1])

    def loss(x: Tensor, radius: Tensor, *values: Tensor) -> Tensor:
        install(model, dict(zip(parameters, values, strict=True)))
        network = bounds.from_torch(model, shape, dtype=torch.float64)
        ends = {"lower": -1.5, "upper": 1.5} if box else {}
        torch.manual_seed(3)
        return robust_loss(
            *(network, x, y), radius=radius, norm=norm, projection=projection, **ends
        ).loss

    inputs = (x, radius, *parameters.values())
    with (
        mock.patch("bounds.intermediate.projection.Projection.cheaper", return_value=True),
        mock.patch("bounds.intermediate.projection.KEPT", kept),
        mock.patch.multiple(recomputed, KEPT=kept, ALL_KEPT=kept),
    ):
        assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-7, rtol=1e-5)


def test_what_is_computed_again_has_the_same_gradients() -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    found = []
    for kept in (0, 2**40):
        with mock.patch.multiple(recomputed, KEPT=kept, ALL_KEPT=kept):
            loss, _ = robust_loss(model, x, y, **PIXELS)
            found.append(torch.autograd.grad(loss, tuple(model.parameters())))
    for again, once in zip(*found, strict=True):
        torch.testing.assert_close(again, once, rtol=1e-4, atol=1e-6)


def test_layers_may_be_frozen() -> None:
    """Then nothing below asks for the gradients of what is computed again."""
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    *frozen, weight, bias = model.parameters()
    for parameter in frozen:
        parameter.requires_grad_(False)
    found = []
    for kept in (0, 2**40):
        with mock.patch.multiple(recomputed, KEPT=kept, ALL_KEPT=kept):
            loss, _ = robust_loss(model, x, y, **PIXELS)
            found.append(torch.autograd.grad(loss, (weight, bias)))
    for again, once in zip(*found, strict=True):
        torch.testing.assert_close(again, once, rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in frozen)


def test_training_on_it_lowers_the_certified_error() -> None:
    torch.manual_seed(0)
    model, (x, y) = load_digits_model("digits_standard"), load_digits_images()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    before = robust_loss(model, x, y, **PIXELS)
    for _ in range(30):
        optimizer.zero_grad()
        robust_loss(model, x, y, **PIXELS).loss.backward()
        optimizer.step()
    after = robust_loss(model, x, y, **PIXELS)
    assert after.loss < before.loss / 4
    assert after.error < before.error


# -- what it refuses


def refused(message: str, **options: Any) -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    arguments: dict[str, Any] = {"model": model, "x": x, "y": y, **PIXELS, **options}
    with pytest.raises(InvalidInputError, match=message):
        robust_loss(**arguments)


def test_it_refuses_what_it_does_not_know() -> None:
    refused(r"robust_loss\(reduction='max'\)", reduction="max")
    refused(r"robust_loss\(intermediate='lp'\)", intermediate="lp")
    refused("whole number of at least 1", projection=0)
    refused("whose bounds random vectors estimate", projection=5, intermediate="interval")
    refused("norm=2 or norm=float", projection=1, norm=1)
    refused("x of type list", x=[[0.0]])
    refused("one class for each", y=torch.tensor([3]))
    refused("one class for each", y=torch.zeros(4, dtype=torch.long))
    refused("expected integers", y=torch.zeros(16))
    refused("torch.float64", x=load_digits_images()[0].double())
    half = load_digits_model("digits_robust").half()
    refused("float", model=half, x=load_digits_images()[0].half())


def test_it_refuses_a_model_that_is_wrapped_already() -> None:
    model = load_digits_model("digits_robust")
    refused(r"RobustLoss\(model\)", model=nn.DataParallel(model))


def test_the_module_is_the_function() -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    module = RobustLoss(model)
    assert [*module.parameters()] == [*model.parameters()]
    for options in (PIXELS, PIXELS | {"intermediate": "interval", "reduction": "sum"}):
        function = robust_loss(model, x, y, **options)
        assert torch.equal(module(x, y, **options).loss, function.loss)
    torch.manual_seed(0)
    function = robust_loss(model, x, y, radius=0.3, norm=2, projection=2)
    torch.manual_seed(0)
    assert torch.equal(module(x, y, radius=0.3, norm=2, projection=2).loss, function.loss)


def test_a_ball_of_no_size_has_the_loss_of_its_centre() -> None:
    model, (x, y) = load_digits_model("digits_robust").double(), load_digits_images()
    loss, error = robust_loss(model, x.double(), y, radius=0.0, reduction="none")
    logits = model(x.double())
    torch.testing.assert_close(loss, F.cross_entropy(logits, y, reduction="none"))
    assert torch.equal(error, logits.argmax(1) != y)
