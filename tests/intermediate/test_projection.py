"""Random projections against the backward bounds that they estimate."""

from __future__ import annotations

import inspect
import math
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bounds
from bounds import robust_loss
from bounds.intermediate.neuron_bounds import neuron_bounds
from bounds.intermediate.projection import Projection, Vectors
from bounds.models import load_digits_images, load_digits_model
from bounds.relaxation.relaxation import Relaxation
from tests.support.networks import seeds
from tests.support.problems import Problem, problems

PIXELS: dict[str, Any] = {"radius": 0.1, "lower": 0.0, "upper": 1.0}
VECTORS = 4000
#: Five standard errors of the median of |Cauchy| samples, the larger of the two.
FAR = 5 * math.pi / (2 * math.sqrt(VECTORS))


@given(problems(norms=(math.inf, 2)), seeds, st.booleans())
def test_many_vectors_come_close_to_the_backward_bounds(
    problem: Problem, seed: int, forward: bool
) -> None:
    """Of every neuron of every layer, whether layers are asked for in turn or only the last."""
    if problem.norm == 2 and problem.clip:  # the projection knows the ball alone
        problem = Problem(**vars(problem) | {"clip": False})
    relaxation = problem.relax()
    network, layers = relaxation.network, relaxation.relu_bounds
    torch.manual_seed(seed)
    projection = Projection(network, relaxation.input_set, Vectors(VECTORS))
    for k in range(len(network.relus))[0 if forward else -1 :]:
        (start,) = network.nodes[network.relus[k]].parents
        found = projection.bounds(start, layers[:k])
        everyone = torch.ones_like(layers[k].lower, dtype=torch.bool)
        exact = neuron_bounds(
            *(network, relaxation.input_set, layers[:k], relaxation.ranges(), start, everyone),
            slope="fixed",
            max_memory=None,
        )
        middle, radius = (exact.upper + exact.lower) / 2, (exact.upper - exact.lower) / 2
        size = 1e-9 * (1 + float(relaxation.ranges()[start].terms.max()))
        assert ((found.upper + found.lower) / 2 - middle).abs().max() < size
        spread = (found.upper - found.lower) / 2
        assert ((spread - radius).abs() <= FAR * radius + size).all()


def test_estimates_lie_within_the_intervals() -> None:
    """And where they replace nothing, nothing changes."""
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    taken: list[Relaxation] = []
    always = mock.patch.object(Projection, "cheaper", return_value=True)
    keep = mock.patch("bounds.training.robust_loss.row_bounds", lambda r: taken.append(r) or r.d)
    with always, keep:
        robust_loss(model, x, y, **PIXELS, projection=1)
    ball = bounds.Ball(x, **PIXELS)
    network = bounds.from_torch(model, x.shape[1:])
    boxes = bounds.relax(network, ball, bounds.margins(y, 10), intermediate="interval")
    backward = bounds.relax(network, ball, bounds.margins(y, 10))
    first, second, *_ = taken[0].relu_bounds
    assert torch.equal(first.lower, boxes.relu_bounds[0].lower)  # exact by themselves
    assert (second.lower >= boxes.relu_bounds[1].lower).all()
    assert (second.upper <= boxes.relu_bounds[1].upper).all()
    assert (second.lower > backward.relu_bounds[1].lower).any()  # no bounds, but estimates
    assert (second.lower < backward.relu_bounds[1].lower).any()


def test_a_layer_is_estimated_only_where_that_is_less_work() -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    exact = robust_loss(model, x, y, **PIXELS, reduction="none").loss
    many = robust_loss(model, x, y, **PIXELS, projection=10_000, reduction="none").loss
    few = robust_loss(model, x, y, **PIXELS, projection=1, reduction="none").loss
    torch.testing.assert_close(many, exact, rtol=1e-3, atol=1e-3)  # whose rounding costs more
    assert (few - exact).abs().max() > 0.1


def test_the_generator_of_torch_decides() -> None:
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(robust_loss(model, x, y, **PIXELS, projection=1).loss)
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_nothing_is_proved_from_estimates() -> None:
    """No way to a verdict takes them, and the relaxation made of them vouches for nothing."""
    for function in (bounds.certify, bounds.certify_vnnlib, bounds.relax, bounds.solve):
        assert "projection" not in inspect.signature(function).parameters
    model, (x, y) = load_digits_model("digits_robust"), load_digits_images()
    with pytest.raises(TypeError, match="projection"):
        bounds.certify(model, x, y, radius=0.1, projection=10)  # type: ignore[call-arg]
    taken: list[Relaxation] = []
    with mock.patch("bounds.training.robust_loss.row_bounds", lambda r: taken.append(r) or r.d):
        robust_loss(model, x, y, **PIXELS, projection=1)
    assert not taken[0].implied
