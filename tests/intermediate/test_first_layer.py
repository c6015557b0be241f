"""Bounds of the first layer over ℓ1 and ℓ2 balls: sound, exact without a box, and fewer passes."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bounds import Ball, Specification, from_torch, relax
from bounds.intermediate import intermediate
from bounds.intermediate.first_layer import within_ball
from bounds.network.graph import Network
from bounds.relaxation.ranges import affine_range, input_range
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.box import InputSet
from tests.support.networks import Dice, seeds
from tests.support.problems import points

LAYERS = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(18, 7)),
    "convolution": lambda: nn.Conv2d(2, 4, 3, padding=1, stride=2),
    "groups": lambda: nn.Conv2d(2, 4, 2, groups=2),
    "scaled": lambda: nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 2, padding=1)),
}
norms = pytest.mark.parametrize("norm", [1, 2])


def model_of(kind: str, seed: int) -> nn.Sequential:
    """With weights that float32 holds."""
    model, dice = nn.Sequential(LAYERS[kind](), nn.ReLU()).double().eval(), Dice(seed)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = dice.normal(*tensor.shape).float().double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            module.running_var.data = (0.1 + dice.uniform(2)).float().double()
    return model.requires_grad_(False)


def bounded(network: Network, input_set: InputSet) -> ReluBounds:
    """The bounds of the first ReLU's neurons, infinite where there are none."""
    ranges = [input_range(input_set)]
    start = network.nodes[network.relus[0]].parents[0]
    for node in network.nodes[1 : start + 1]:
        ranges.append(affine_range(network, node, ranges[node.parents[0]]))
    endless = torch.full_like(ranges[start].lower, torch.inf)
    return within_ball(network, input_set, ranges, start, ReluBounds(-endless, endless))


@norms
@given(kind=st.sampled_from(list(LAYERS)), seed=seeds, dtype=st.sampled_from([32, 64]))
def test_no_point_is_outside(norm: int, kind: str, seed: int, dtype: int) -> None:
    """Those that lie furthest along the rows included, evaluated by the module in float64."""
    model, dice, precision = model_of(kind, seed), Dice(seed + 1), getattr(torch, f"float{dtype}")
    x = dice.uniform(2, 2, 3, 3).to(precision)
    ball = Ball(x, radius=0.8, norm=norm, lower=0.0, upper=1.0).resolve((2, 3, 3))
    found = bounded(from_torch(model, (2, 3, 3), dtype=precision), ball)
    assert torch.isfinite(found.upper).all()
    rows = dice.normal(2, 40, 2, 3, 3).to(precision)
    held = torch.cat((points(ball, 30), ball.argmin(rows), ball.argmin(-rows)), 1).double()
    pre = model[0](held.flatten(0, 1)).unflatten(0, held.shape[:2])
    assert (pre >= found.lower.unsqueeze(1)).all()
    assert (pre <= found.upper.unsqueeze(1)).all()


@norms
def test_without_a_box_they_are_the_dual_norm(norm: int) -> None:
    model, x = model_of("linear", 3), Dice(0).normal(1, 2, 3, 3)
    found = bounded(from_torch(model, (2, 3, 3)), Ball(x, radius=0.3, norm=norm).resolve((2, 3, 3)))
    layer = model[0][1]  # type: ignore[index]
    dual = layer.weight.abs().amax(1) if norm == 1 else layer.weight.norm(dim=1)
    middle = layer(x.flatten(1))
    torch.testing.assert_close(found.lower, middle - 0.3 * dual, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.upper, middle + 0.3 * dual, rtol=1e-12, atol=1e-12)


def test_other_nodes_stay_as_they_are() -> None:
    """Of a later layer, after a sum, over a box, and around a centre outside of the box."""
    deep = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2), nn.ReLU()).double()
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).double()
    x = torch.zeros(1, 3).double()
    for module, ball in (
        (deep, Ball(x, radius=0.3, norm=2)),
        (model, Ball(x, radius=0.3)),
        (model, Ball(x - 0.1, radius=0.3, norm=2, lower=0.0)),
    ):
        found = bounded(from_torch(module, (3,)), ball.resolve((3,)))
        assert found.lower.isinf().all()


@norms
def test_neurons_that_the_norm_shows_stable_need_no_pass(norm: int) -> None:
    """The interval of an ℓ1 or ℓ2 ball is that of a cube, which leaves nearly all unstable."""
    dice, wanted = Dice(1), []
    model = nn.Sequential(nn.Linear(200, 60), nn.ReLU(), nn.Linear(60, 1)).double()
    x = dice.uniform(2, 200)
    original = intermediate.neuron_bounds

    def noting(*args: object, **options: object) -> ReluBounds:
        wanted.append(args[5])
        return original(*args, **options)  # type: ignore[arg-type]

    with mock.patch.object(intermediate, "neuron_bounds", noting):
        relaxation = relax(
            from_torch(model, (200,)),
            Ball(x, radius=0.1, norm=norm, lower=0.0, upper=1.0),
            Specification(torch.ones(1, 1).double()),
        )
    interval = relax(
        from_torch(model, (200,)),
        Ball(x, radius=0.1, norm=norm, lower=0.0, upper=1.0),
        Specification(torch.ones(1, 1).double()),
        intermediate="interval",
    )
    [asked] = wanted
    assert isinstance(asked, Tensor)
    assert asked.sum() < interval.relu_bounds[0].unstable.sum() / 2
    assert (relaxation.relu_bounds[0].unstable <= asked).all()
