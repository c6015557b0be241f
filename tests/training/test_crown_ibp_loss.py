"""One backward pass over intervals: a bound, better than the intervals, in either form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor

import bounds
from bounds import InvalidInputError, crown_ibp_loss, interval_loss, robust_loss
from bounds.models import load_digits_images, load_digits_model
from bounds.relaxation.triangle import ReluBounds
from bounds.training.crown_ibp_loss import _fused
from bounds.training.interval_loss import interval_margins
from bounds.training.posed import Posed
from tests.dual.test_gradients import MODELS, filled, install
from tests.support.layers import Dice
from tests.support.problems import NORMS, Problem, points, problems

PIXELS: dict[str, Any] = {"radius": 0.1, "lower": 0.0, "upper": 1.0}


def test_unfused_it_is_the_robust_loss_over_intervals() -> None:
    model, (x, y) = load_digits_model("digits_robust").double(), load_digits_images()
    known = robust_loss(model, x.double(), y, **PIXELS, intermediate="interval", reduction="none")
    found = crown_ibp_loss(model, x.double(), y, **PIXELS, fused=False, reduction="none")
    torch.testing.assert_close(found.loss, known.loss, rtol=1e-8, atol=1e-8)
    assert (found.error <= known.error).all()


@pytest.mark.parametrize("fused", [True, False])
def test_with_no_share_of_the_pass_it_is_the_loss_of_intervals(fused: bool) -> None:
    model, (x, y) = load_digits_model("digits_robust").double(), load_digits_images()
    ball = PIXELS | {"radius": 0.02}
    known = interval_loss(model, x.double(), y, **ball)
    found = crown_ibp_loss(model, x.double(), y, **ball, mixture=0.0, fused=fused)
    torch.testing.assert_close(found.loss, known.loss, rtol=1e-9, atol=1e-9)
    assert found.error <= known.error if fused else found.error < known.error


@pytest.mark.parametrize("radius", [0.01, 0.1, 0.3])
def test_fused_it_is_no_worse_than_intervals_and_bounds_every_point(radius: float) -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    ball: dict[str, Any] = {"radius": radius, "lower": 0.0, "upper": 1.0}
    loss, error = crown_ibp_loss(model, x, y, **ball, fused=True, reduction="none")
    boxes = interval_loss(model, x, y, **ball, reduction="none")
    assert (loss <= boxes.loss * (1 + 1e-3)).all()
    assert loss.mean() < boxes.loss.mean()
    assert (error <= boxes.error).all()
    logits = model(bounds.pgd(model, x, y, **ball))
    assert (F.cross_entropy(logits, y, reduction="none") <= loss).all()
    assert error[logits.argmax(1) != y].all()


@given(problems(norms=NORMS))
def test_the_fused_sum_holds_in_float32(problem: Problem) -> None:
    """At points of the sets, in float64, for rows of any kind."""
    single = problem.relax(intermediate="interval").convert(lambda tensor: tensor.detach().float())
    network, C, d = single.network, single.C, torch.zeros_like(single.d)
    labels = torch.zeros(0)
    both = Posed(network, single.input_set, labels, torch.cat((C, -C), 1), torch.cat((d, d), 1))
    before: list[ReluBounds] = []
    ends = interval_margins(both, before)
    layers = tuple(before)
    rows = C.shape[1]
    question = Posed(network, single.input_set, labels, C, d)
    loss, proved = _fused(question, layers, ends[:, :rows], -ends[:, rows:])
    exact = single.double()
    x = points(exact.input_set, 20)
    z = torch.stack([exact.network(x[:, k]) for k in range(20)], 1).flatten(2)
    margins = torch.einsum("bpo,bro->bpr", z, exact.C.flatten(2))
    worst = torch.logsumexp(F.pad(-margins, (1, 0)), 2).amax(1)
    assert (worst <= loss.double() * (1 + 1e-6) + 1e-30).all()
    assert (margins[proved] > 0).all()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_its_gradients_are_those_of_finite_differences(name: str, fused: bool) -> None:
    shape, model = MODELS[name]
    parameters = filled(model, seed=5)
    x = (Dice(4).normal(2, *shape) / 2).requires_grad_()
    radius = torch.tensor([0.3, 0.2], dtype=torch.float64, requires_grad=True)

    def loss(x: Tensor, radius: Tensor, *values: Tensor) -> Tensor:
        install(model, dict(zip(parameters, values, strict=True)))
        network = bounds.from_torch(model, shape, dtype=torch.float64)
        y = torch.tensor([0, 1])
        return crown_ibp_loss(network, x, y, radius=radius, mixture=0.7, fused=fused).loss

    inputs = (x, radius, *parameters.values())
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixture": -0.1}, r"crown_ibp_loss\(mixture=-0.1\): expected a number from 0 to 1"),
        ({"fused": 1}, r"crown_ibp_loss\(fused=1\): expected True or False"),
        ({"radius": math.nan}, "radius"),
        ({"y": torch.zeros(16)}, "expected integers"),
        ({"model": torch.nn.Flatten()}, "without a ReLU"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    arguments: dict[str, Any] = {"model": model, "x": x, "y": y % 2, **PIXELS}
    with pytest.raises(InvalidInputError, match=message):
        crown_ibp_loss(**arguments | options)
