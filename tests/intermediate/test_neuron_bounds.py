"""Passes of single neurons against the dual function that every method ends in."""

from __future__ import annotations

import copy
from dataclasses import replace
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bounds import Ball, Specification, from_torch, relax
from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import RULES, Faces
from bounds.intermediate.neuron_bounds import neuron_bounds
from bounds.network import memory
from bounds.network.graph import ReluNode
from bounds.relaxation.ranges import Range
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import gamma, weighted
from bounds.sets.norm_ball import NormBall
from tests.support.layers import Dice
from tests.support.networks import seeds
from tests.support.problems import NORMS, Problem, problems

every_slope = pytest.mark.parametrize("slope", ["fixed", "adaptive"])


def passes(
    relaxation: Relaxation,
    layer: int,
    wanted: Tensor,
    slope: str,
    ranges: list[Range] | None = None,
) -> ReluBounds:
    start = relaxation.network.nodes[relaxation.network.relus[layer]].parents[0]
    return neuron_bounds(
        relaxation.network,
        relaxation.input_set,
        relaxation.relu_bounds[:layer],
        ranges or relaxation.ranges()[: start + 1],
        start,
        wanted,
        slope=slope,
        max_memory=None,
    )


def dual(relaxation: Relaxation, layer: int, slope: str, sign: float) -> Tensor:
    """d(ν) of sign · ẑ for every neuron of the layer; (batch, *shape)."""
    network = relaxation.network
    start = network.nodes[network.relus[layer]].parents[0]
    shape = network.nodes[start].shape
    size = torch.Size(shape).numel()
    rows = sign * torch.eye(size).to(relaxation.C).reshape(1, size, *shape)
    rows = rows.expand(len(relaxation.input_set), *rows.shape[1:])
    below = relaxation.relu_bounds[:layer]
    point = backward_pass(network, below, start, rows, RULES[slope])
    return point.value(relaxation.input_set, below).unflatten(1, shape)


@every_slope
@given(problems(norms=NORMS), st.sampled_from([2**23, 2000, 1]), seeds)
def test_they_are_the_dual_bounds_rounded_outward(
    slope: str, problem: Problem, cache: int, seed: int
) -> None:
    """For some of the neurons of every layer, in passes of any size; the others get no bounds."""
    relaxation, dice = problem.relax(intermediate="interval"), Dice(seed)
    with mock.patch.object(memory, "CACHE", cache):
        for layer, index in enumerate(relaxation.network.relus):
            shape = relaxation.network.nodes[index].shape
            wanted = dice.below(3, len(relaxation.input_set), *shape) > 0
            found = passes(relaxation, layer, wanted, slope)
            assert (found.lower[~wanted] == -torch.inf).all()
            assert (found.upper[~wanted] == torch.inf).all()
            (start,) = relaxation.network.nodes[index].parents
            scale = 1 + float(relaxation.ranges()[start].terms.max())
            # Dead ones get no lower bound by a pass of its own.
            behind = relaxation.network.behind(start)
            bent = any(isinstance(relaxation.network.nodes[k], ReluNode) for k in behind)
            below = wanted & ((found.upper > 0) | torch.tensor(slope == "fixed" or not bent))
            assert (found.lower[wanted & ~below] == -torch.inf).all()
            for value, bound, own in (
                (dual(relaxation, layer, slope, 1.0), found.lower, below),
                (dual(relaxation, layer, slope, -1.0), -found.upper, wanted),
            ):
                worse = (value - bound)[own]
                assert (worse >= -1e-14 * scale).all()
                assert (worse <= 1e-11 * scale).all()


@every_slope
@pytest.mark.parametrize(
    "options",
    [{"padding": 1}, {"padding": 4, "dilation": 4, "stride": 2, "groups": 2}],
    ids=["plain", "windows larger than the tensor"],
)
@torch.no_grad()
def test_a_convolution_of_a_dense_layer_takes_one_pass_of_windows(
    slope: str, options: dict[str, int]
) -> None:
    """Its bounds are Σ w · middle ± Σ |w| · reach for the rows w of both layers' product, and what
    they take is mostly the products of the rows with the dense layer's matrix, once for both
    sides."""
    dice = Dice(5)
    first, second = nn.Linear(3, 4 * 6 * 6), nn.Conv2d(4, 8, 3, **options)
    size = second(torch.zeros(1, 4, 6, 6)).numel()
    layers = first, nn.Unflatten(1, (4, 6, 6)), second, nn.ReLU(), nn.Flatten(), nn.Linear(size, 1)
    model = nn.Sequential(*layers).double().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(dice.normal(*parameter.shape))
    network, centre = from_torch(model, (3,)), dice.normal(1, 3)
    ball = Ball(centre, radius=0.2)
    relaxation = relax(network, ball, Specification(torch.ones(1, 1)), intermediate="interval")
    middle = model[:3](centre)
    wanted = torch.ones_like(middle, dtype=torch.bool)
    with FlopCounterMode(display=False) as counter:
        found = passes(relaxation, 0, wanted, slope)
    at_zero = model[:3](torch.zeros_like(centre))
    reach = 0.2 * (model[:3](torch.eye(3).double()) - at_zero).abs().sum(0, keepdim=True)
    torch.testing.assert_close(found.lower, middle - reach)
    torch.testing.assert_close(found.upper, middle + reach)
    products = 2 * (2 * size * first.weight.numel())
    assert options["padding"] > 1 or counter.get_total_flops() <= products


@every_slope
@given(st.integers(1, 40), seeds, st.sampled_from([torch.float32, torch.float64]))
def test_faces_hold_for_the_multipliers_that_rounding_leaves(
    slope: str, count: int, seed: int, dtype: torch.dtype
) -> None:
    """Σ over a triangle's vertices in exact arithmetic, here float64 for float32 numbers."""
    dice = Dice(seed)
    size = 10.0 ** (dice.uniform(2, 1, count) * 12 - 8)
    neurons = ReluBounds((-size[0]).to(dtype), size[1].to(dtype))
    faces = Faces.of(neurons, slope)
    arriving = dice.normal(1, count).to(dtype)
    nu = torch.where(arriving < 0, arriving * faces.above, arriving * faces.below)
    exact = ReluBounds(neurons.lower.double(), neurons.upper.double())
    c = arriving.double().unsqueeze(1)
    least = exact.minimum(nu.double().unsqueeze(1), c).squeeze(1)
    claimed = c.squeeze(1).clamp(max=0) * faces.intercept.double()
    tolerance = 0.0 if dtype == torch.float32 else 1e-15
    assert (claimed <= least * (1 - tolerance)).all()
    assert (claimed >= least * (1 + 16 * torch.finfo(dtype).eps) - 1e-30 - _lost(neurons, c)).all()


def _lost(neurons: ReluBounds, c: Tensor) -> Tensor:
    """What a rounded slope costs: a part of the triangle's size."""
    eps = torch.finfo(neurons.lower.dtype).eps
    size = (neurons.upper - neurons.lower).double()
    return 16 * eps * c.squeeze(1).abs() * size


def test_a_relu_may_stand_on_a_relu_or_on_the_input() -> None:
    """Nothing to begin with but the neuron itself."""
    model = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1)).double()
    network = from_torch(model.requires_grad_(False), (1, 2, 2))
    assert sum(isinstance(node, ReluNode) for node in network.nodes) == 2
    ball = Ball(torch.zeros(1, 2, 2, dtype=torch.float64), radius=1.0)
    relaxation = relax(network, ball, Specification(torch.ones(1, 1)))
    for neurons, lower in zip(relaxation.relu_bounds, (-1.0, 0.0), strict=True):
        torch.testing.assert_close(neurons.lower, torch.full_like(neurons.lower, lower))
        torch.testing.assert_close(neurons.upper, torch.ones_like(neurons.upper))


WIDE = {
    # Products in the sums at each layer that a pass goes through, from the last ReLU to the input.
    "dense": (
        (40,),
        nn.Sequential(nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 50), nn.ReLU(), nn.Linear(50, 9)),
        (50, 60, 40),
    ),
    "patches": (
        (3, 24, 24),
        nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU()),
            *(nn.Conv2d(4, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(968, 2)),
        ),
        (4 * 3 * 3, 8 * 5 * 5, 3 * 7 * 7),
    ),
}


@every_slope
@pytest.mark.parametrize("kind", WIDE)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("priced", [True, False])
def test_what_rounding_is_charged_for(slope: str, kind: str, norm: float, priced: bool) -> None:
    """In float32 the bounds lie below those of float64 by the charges, of which the rounding that
    happens is a small part: by γ(products) Σ |ĉ| k at a ReLU (over ĉ < 0 where each side has its
    pass) and γ(products) Σ |c| |x| at the input, with r ‖c‖_* for balls, and by what the ledger of
    `backward_pass` charges, without which they show."""
    shape, layers, products = WIDE[kind]
    model, dice = copy.deepcopy(layers).requires_grad_(False), Dice(3)
    for parameter in model.parameters():
        parameter.copy_(dice.normal(*parameter.shape) / parameter[0].numel() ** 0.5)
    x = dice.normal(2, *shape).float()
    ball, rows = (
        Ball(x, radius=0.3, norm=norm),
        Specification(torch.ones(1, model[-1].out_features)),
    )
    relaxation = relax(from_torch(model, shape), ball, rows, intermediate="interval")
    network, box = relaxation.network, relaxation.input_set
    layer = len(network.relus) - 1 if kind == "patches" else 1
    start = network.nodes[network.relus[layer]].parents[0]
    wanted = torch.ones(2, *network.nodes[start].shape, dtype=torch.bool)
    ranges = [
        each if priced else replace(each, price=None) for each in relaxation.ranges()[: start + 1]
    ]
    found = passes(relaxation, layer, wanted, slope, ranges)
    exact = relaxation.double()
    chosen = dice.below(wanted[0].numel(), 20)
    one_hot = torch.zeros(2, 20, wanted[0].numel()).scatter(
        2, chosen.expand(2, 20).unsqueeze(2), 1.0
    )
    one_hot = one_hot.unflatten(2, wanted.shape[1:])
    below = relaxation.relu_bounds[:layer]
    for sign, bound in ((1.0, found.lower), (-1.0, -found.upper)):
        coefficients = sign * one_hot
        watched = backward_pass(network, below, start, coefficients, RULES[slope], ranges)
        assert watched.rounding is not None
        charges, faces = watched.rounding.double(), [Faces.of(each, slope) for each in below]
        for position, count in zip(reversed(range(layer)), products, strict=False):
            weights, arriving = faces[position].intercept, watched.arriving[position].double()
            if slope == "adaptive":  # one side, which only negative ĉ cost
                arriving = arriving.clamp(max=0)
            charges += gamma(count, torch.float32) * weighted(arriving, weights.double())
        at_input, size = watched.at_input.double(), box.magnitude.double()
        if isinstance(box, NormBall):
            size = box.centre.abs().double()
            reach = 0.3 * box.dual_norm(at_input.flatten(2))
            charges += gamma(products[layer], torch.float32) * reach
        charges += gamma(products[layer], torch.float32) * weighted(at_input, size)
        point = backward_pass(
            exact.network, exact.relu_bounds[:layer], start, coefficients.double(), RULES[slope]
        )
        value = point.value(exact.input_set, exact.relu_bounds[:layer])
        lost = value - bound.flatten(1)[:, chosen].double()
        found_any = torch.isfinite(lost)  # a dead neuron gets no lower bound
        assert found_any.sum() > found_any.numel() // 2
        assert (lost > 0.9 * charges)[found_any].all()
        assert (lost < 2 * charges)[found_any].all()


def test_windows_that_leave_the_layer_of_two_convolutions_in_a_row() -> None:
    """Without a ReLU between them, nothing else sets to zero what stands for padding."""
    model = nn.Sequential(
        *(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(2 * 11 * 11, 1)),
    )
    model, dice = model.double().requires_grad_(False), Dice(0)
    for parameter in model.parameters():
        parameter.copy_(dice.normal(*parameter.shape))
    network = from_torch(model, (1, 11, 11))
    ball = Ball(dice.normal(1, 11, 11), radius=0.3)
    relaxation = relax(network, ball, Specification(torch.ones(1, 1)), intermediate="interval")
    found = passes(relaxation, 1, torch.ones(1, 2, 11, 11, dtype=torch.bool), "fixed")
    torch.testing.assert_close(found.lower, dual(relaxation, 1, "fixed", 1.0), rtol=1e-11, atol=0)
    torch.testing.assert_close(found.upper, -dual(relaxation, 1, "fixed", -1.0), rtol=1e-11, atol=0)


@pytest.mark.parametrize(("norm", "centre"), [(1, 0.0), (2, 0.0), (2, 1.5)])
def test_parts_leave_room_for_what_a_norm_ball_makes_of_their_rows(
    norm: int, centre: float
) -> None:
    """Of windows around a centre in the box, and of rows as long as the input for one outside."""
    layers = nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(4 * 18 * 18, 1))
    x = torch.full((1, 22, 22), centre)
    ball = Ball(x, radius=30.0, norm=norm, lower=-1.0, upper=1.0)
    network, kind = from_torch(model, (1, 22, 22)), type(ball.resolve((1, 22, 22)))
    name = "_split_minimum" if centre else "_spreads"
    original, sizes = getattr(kind, name), []

    def noting(self: NormBall, coefficients: Tensor, *args: Tensor) -> Tensor:
        sizes.append(coefficients.shape)
        found: Tensor = original(self, coefficients, *args)
        return found

    with mock.patch.object(kind, name, noting), torch.no_grad():
        relax(network, ball, Specification(torch.ones(1, 1)))
    assert max(shape.numel() for shape in sizes) <= memory.CACHE // 8
    if not centre:
        assert 9 in {shape[2] for shape in sizes}
