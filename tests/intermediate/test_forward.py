"""Bounds carried forward hold, are exact where the network is linear, and decide by themselves."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from torch import nn

import bounds
from bounds.intermediate.forward import dear, forward_bounds, pays
from bounds.network.graph import Network
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.box import Box
from tests.support.networks import architectures
from tests.support.problems import Problem, points, pre_activations, problems
from tests.support.rational import evaluate, fractions


def unknown(network: Network, count: int) -> list[ReluBounds]:
    shapes = [(count, *network.nodes[index].shape) for index in network.relus]
    infinite = [torch.full(shape, torch.inf, dtype=torch.float64) for shape in shapes]
    return [ReluBounds(-each, each) for each in infinite]


def random_boxes(count: int, inputs: int, width: float) -> Box:
    lower = torch.rand(count, inputs, dtype=torch.float64) * 2 - 1
    return Box(lower, lower + width * torch.rand_like(lower))


def wide(inputs: int, hidden: int, layers: int) -> nn.Sequential:
    torch.manual_seed(0)
    modules: list[nn.Module] = [nn.Linear(inputs, hidden), nn.ReLU()]
    for _ in range(layers - 1):
        modules += [nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(hidden, 1)).double().requires_grad_(False)


@given(problem=problems(networks=architectures(plain=True)))
def test_no_point_of_a_box_leaves_them(problem: Problem) -> None:
    """The module's float64 results, compared without any tolerance."""
    network = problem.network.to(torch.float64)
    box = Box(problem.input_set.lower.double(), problem.input_set.upper.double())
    found = forward_bounds(network, box, unknown(network, len(box)))
    x = points(box, 64)
    values = pre_activations(problem.model.double(), x.flatten(0, 1))
    assert len(values) == len(found) == len(network.relus)
    for neurons, value in zip(found, values, strict=True):
        at = value.unflatten(0, x.shape[:2])
        assert bool((neurons.lower.unsqueeze(1) <= at).all())
        assert bool((at <= neurons.upper.unsqueeze(1)).all())


def test_they_are_exact_where_the_network_is_linear() -> None:
    """A layer's own ends, over the two layers before it, and of neurons that are all active."""
    torch.manual_seed(0)
    A, B, C = (torch.randn(n, m, dtype=torch.float64) for n, m in [(4, 3), (5, 4), (6, 5)])
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU())
    with torch.no_grad():
        for layer, weight in zip((model[0], model[1], model[3]), (A, B, C), strict=True):
            layer.weight.data, layer.bias.data = weight, torch.zeros(len(weight)).double()
        model[1].bias += 100  # all active
    box = random_boxes(7, 3, 1.0)
    network = bounds.from_torch(model, (3,)).detach()
    first, second = forward_bounds(network, box, unknown(network, 7))
    middle, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
    for found, weight, shift in ((first, B @ A, 100), (second, C @ B @ A, 100 * C.sum(1))):
        centre, reach = middle @ weight.T + shift, radius @ weight.abs().T
        torch.testing.assert_close(found.lower, centre - reach, rtol=1e-12, atol=1e-11)
        torch.testing.assert_close(found.upper, centre + reach, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("width", [0.0, 1e-16])
def test_rounding_is_accounted_for(width: float) -> None:
    """On boxes that are hardly more than a point, nothing else makes room for exact values."""
    model = wide(3, 12, 3)
    network = bounds.from_torch(model, (3,))
    lower = torch.rand(5, 3, dtype=torch.float64) - 0.5
    found = forward_bounds(network, Box(lower, lower + width), unknown(network, 5))
    for k, neurons in enumerate(found):
        for image, x in enumerate(lower):
            exact = evaluate(model[: 2 * k + 1], fractions(x))
            low, high = (fractions(end[image]) for end in (neurons.lower, neurons.upper))
            assert all(l <= z <= u for l, z, u in zip(low, exact, high, strict=True))
            assert all(u - l < Fraction(1, 10**12) for l, u in zip(low, high, strict=True))


def test_what_is_known_is_kept() -> None:
    network = bounds.from_torch(wide(2, 8, 2), (2,))
    box, nothing = random_boxes(3, 2, 2.0), unknown(network, 3)
    known = [ReluBounds(k.lower.clamp(min=0), k.upper) for k in nothing]
    free, held = (forward_bounds(network, box, given) for given in (nothing, known))
    assert any(bool((k.lower < 0).any()) for k in free)
    assert all(bool((k.lower >= 0).all()) for k in held)


def test_numbers_that_overflow_bound_nothing() -> None:
    model = wide(2, 8, 2)
    model[0].weight *= 1e300
    model[2].weight *= 1e300
    network = bounds.from_torch(model, (2,))
    found = forward_bounds(network, random_boxes(3, 2, 2.0), unknown(network, 3))
    assert bool((found[1].lower == -torch.inf).all() and (found[1].upper == torch.inf).all())


def test_they_come_first_for_few_inputs_of_wide_networks_alone() -> None:
    network, small = (bounds.from_torch(wide(2, n, 3), (2,)) for n in (200, 10))
    many = bounds.from_torch(wide(9, 200, 3), (9,))
    ends = [[[-1.0, -1.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 1e-9]]]
    boxes = Box(*(torch.tensor(end, dtype=torch.float64) for end in ends))
    assert pays(network, boxes)
    assert not pays(small, boxes)
    assert not pays(many, random_boxes(2, 9, 1.0))
    found = forward_bounds(network, boxes, unknown(network, 2))
    assert dear(network, boxes, found).tolist() == [True, False]
