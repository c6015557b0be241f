"""Pre-activation bounds: no point of the input set leaves them in the original torch module."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
import lp_reference
from benchmarks.published.instances import FOLDER, load_model, ten_images
from bounds import Ball, Network, Relaxation, ReluBounds, Specification
from bounds.intermediate.intermediate import relu_bounds
from tests.support.networks import Architecture, Dense, Dice, Relu, architectures, seeds
from tests.support.problems import NORMS, Problem, points, pre_activations, problems

METHODS: dict[str, dict[str, Any]] = {
    "interval": {"intermediate": "interval"},
    "backward": {"intermediate": "backward"},
    "adaptive": {"intermediate": "backward", "slope": "adaptive"},
    "optimised": {"intermediate": "optimised"},
    "lp": {"intermediate": "lp"},
}
every_method = pytest.mark.parametrize("method", METHODS)
#: Problems on networks whose every ReLU is a module, so that hooks see all pre-activations.
plain_problems = problems(networks=architectures(plain=True), norms=NORMS)


def leaves(relaxation: Relaxation, model: nn.Module, x: Tensor) -> Tensor:
    """By how much pre-activations of x (batch, count, *input_shape) leave their bounds; ≤ 0: never.

    The module's float64 results, compared with the bounds without any tolerance.
    """
    return outside(relaxation, pre_activations(model, x.double().flatten(0, 1)), x)


def outside(relaxation: Relaxation, found: list[Tensor], x: Tensor) -> Tensor:
    """By how much these pre-activations of x (batch, count, *input_shape) leave their bounds."""
    assert len(found) == len(relaxation.relu_bounds)
    worst = torch.tensor(-math.inf, dtype=torch.float64)
    for values, neurons in zip(found, relaxation.relu_bounds, strict=True):
        value = values.unflatten(0, x.shape[:2])
        lower, upper = neurons.lower.double().unsqueeze(1), neurons.upper.double().unsqueeze(1)
        worst = torch.stack((worst, (lower - value).amax(), (value - upper).amax())).amax()
    return worst


@every_method
@given(problem=plain_problems)
def test_sound_for_the_original_module(method: str, problem: Problem) -> None:
    relaxation = problem.relax(**METHODS[method])
    assert leaves(relaxation, problem.model, points(problem.input_set, 64)) <= 0


@every_method
@given(problem=problems(norms=NORMS))
def test_sound_inside_layers_that_are_made_of_relus(method: str, problem: Problem) -> None:
    """By the network's own evaluation, which `test_from_torch` compares with the module's."""
    relaxation, x, found = problem.relax(**METHODS[method]), points(problem.input_set, 64), []

    def relu(_: int, pre_activation: Tensor) -> Tensor:
        found.append(pre_activation)
        return pre_activation.clamp(min=0)

    problem.network.evaluate(x.flatten(0, 1), relu)
    assert outside(relaxation, found, x) <= 0


@every_method
@given(problem=plain_problems)
def test_sound_in_float32(method: str, problem: Problem) -> None:
    """Bounds computed in float32 hold for the same network evaluated in float64."""
    model = problem.architecture.build().float()
    ball = Ball(problem.centre.float(), radius=problem.radius, norm=problem.norm)
    network = bounds.from_torch(model, problem.architecture.input_shape)
    given = problem.specification
    rows = bounds.Specification(given.C.float(), given.d)
    relaxation = bounds.relax(network, ball, rows, **METHODS[method])
    assert {neurons.lower.dtype for neurons in relaxation.relu_bounds} <= {torch.float32}
    assert leaves(relaxation, model.double(), points(relaxation.input_set, 64)) <= 0


def cancelling(dtype: torch.dtype, seed: int) -> tuple[nn.Sequential, Tensor]:
    """Terms in the thousands that leave pre-activations near 1, and active neurons to carry them.

    The rounding of a backward pass is that of the terms, far below the sums that are left of them.
    """
    dice = Dice(seed)
    x = 1000 * dice.normal(1, 8)
    layers, z = [], x
    for bias in (1.0, 1.0, 0.0):
        layer = nn.Linear(8, 8).double()
        with torch.no_grad():
            layer.weight.copy_(dice.normal(8, 8))
            layer.bias.copy_(bias - F.linear(z, layer.weight)[0])
            z = layer(z).relu()
        layers += [layer, nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(8, 2)).requires_grad_(False)
    return model.to(dtype), x.to(dtype)


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", [0, 1])
def test_sound_where_terms_cancel(method: str, dtype: torch.dtype, seed: int) -> None:
    model, x = cancelling(dtype, seed)
    relaxation = bounds.relax(
        bounds.from_torch(model, (8,)),
        Ball(x, radius=1e-3),
        bounds.margins(label=0, classes=2),
        **METHODS[method],
    )
    assert leaves(relaxation, model.double(), points(relaxation.input_set, 500)) <= 0


@every_method
def test_sound_on_a_real_network(method: str, shared_data: Path) -> None:
    model = load_model(shared_data / FOLDER / "experiment_2" / "mnist_MLP_2_100_NOR.pth").float()
    model.requires_grad_(False)
    relaxation = bounds.relax(
        bounds.from_torch(model, (1, 28, 28)),
        Ball(ten_images(shared_data)[:3].float(), radius=0.02),
        bounds.margins(label=0, classes=10),
        **METHODS[method],
    )
    assert min(relaxation.unstable) > 30
    assert leaves(relaxation, model.double(), points(relaxation.input_set, 200)) <= 0


@given(problem=problems(norms=NORMS))
def test_backward_is_never_looser_than_interval(problem: Problem) -> None:
    loose = problem.relax(intermediate="interval").relu_bounds
    for slope in ("fixed", "adaptive"):
        tight = problem.relax(intermediate="backward", slope=slope).relu_bounds
        for outer, inner in zip(loose, tight, strict=True):
            # Rounding of the layers below is all that may tell them apart the wrong way.
            slack = 1e-12 * (outer.lower.abs() + outer.upper.abs()).amax()
            assert (inner.lower >= outer.lower - slack).all()
            assert (inner.upper <= outer.upper + slack).all()


@settings(max_examples=settings().max_examples // 2)
@given(problem=problems(batch=st.integers(2, 3), norms=NORMS))
def test_a_batch_is_its_inputs(problem: Problem) -> None:
    """An input's relaxation does not depend on what else is in the batch."""
    for method, options in METHODS.items():
        # An LP's optimum is known to the tolerance that it is solved to.
        digits = 4e-6 if method == "lp" else 1e-12
        together = problem.relax(**options)
        rows = torch.arange(together.C.shape[1])
        for image in range(problem.batch):
            part = together.take(torch.tensor([image]), rows)
            alone = relu_bounds(
                problem.network,
                part.input_set,
                method=options["intermediate"],
                slope=options.get("slope", "fixed"),
            ).layers
            for one, all_ in zip(alone, part.relu_bounds, strict=True):
                assert torch.equal(one.unstable, all_.unstable)
                scale = digits * (one.lower.abs() + one.upper.abs()).amax()
                assert ((one.lower - all_.lower).abs() <= scale).all()
                assert ((one.upper - all_.upper).abs() <= scale).all()


@every_method
@given(problem=plain_problems)
def test_radius_0_is_evaluation(method: str, problem: Problem) -> None:
    relaxation = replace(problem, radius=0.0).relax(**METHODS[method])
    values = pre_activations(problem.model, problem.centre)
    for neurons, value in zip(relaxation.relu_bounds, values, strict=True):
        # Margins add up along the layers, so they are judged by the largest number of the net.
        slack = 1e-9 * max(1.0, *(float(v.abs().amax()) for v in values))
        assert ((neurons.lower - value).abs() <= slack).all()
        assert ((neurons.upper - value).abs() <= slack).all()


@every_method
@given(n=st.integers(1, 12), m=st.integers(1, 8), radius=st.floats(0, 2), seed=seeds)
def test_one_layer_is_the_closed_form(
    method: str, n: int, m: int, radius: float, seed: int
) -> None:
    """W x₀ + b ± r ‖W‖₁ by rows, before the first ReLU."""
    dice = Dice(seed)
    first = nn.Linear(n, m)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(m, 2)).double().requires_grad_(False)
    x = dice.normal(2, n)
    relaxation = bounds.relax(
        bounds.from_torch(model, (n,)),
        Ball(x, radius=radius),
        bounds.margins(label=0, classes=2),
        **METHODS[method],
    )
    (neurons,) = relaxation.relu_bounds
    spread = radius * first.weight.abs().sum(1)
    torch.testing.assert_close(neurons.lower, first(x) - spread, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(neurons.upper, first(x) + spread, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("norm", "dual"), [(1, math.inf), (2, 2)])
@given(n=st.integers(1, 12), m=st.integers(1, 8), radius=st.floats(0, 2), seed=seeds)
def test_one_layer_over_a_ball_is_the_dual_norm(
    norm: int, dual: float, n: int, m: int, radius: float, seed: int
) -> None:
    """W x₀ + b ± r ‖W‖ by rows, where intervals have ‖W‖₁."""
    dice = Dice(seed)
    first = nn.Linear(n, m)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(m, 2)).double().requires_grad_(False)
    x = dice.normal(2, n)
    ball = Ball(x, radius=radius, norm=norm)
    network, rows = bounds.from_torch(model, (n,)), bounds.margins(label=0, classes=2)
    spread = radius * torch.linalg.vector_norm(first.weight, dual, dim=1)
    interval, backward = (
        bounds.relax(network, ball, rows, intermediate=how).relu_bounds[0]  # type: ignore[arg-type]
        for how in ("interval", "backward")
    )
    for end, closed in ((backward.lower, first(x) - spread), (backward.upper, first(x) + spread)):
        # What intervals leave stable keeps their bounds.
        expected = torch.where(interval.unstable, closed, end)
        torch.testing.assert_close(end, expected, rtol=1e-12, atol=1e-12)


def test_backward_is_tighter_where_it_can_be() -> None:
    """ẑ₂ = relu(x) − relu(x) is 0; interval arithmetic cannot see that, the backward bound can."""
    first, second = nn.Linear(1, 2), nn.Linear(2, 1)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU()).double()
    with torch.no_grad():
        first.weight.fill_(1.0)
        first.bias.fill_(2.0)
        second.weight.copy_(torch.tensor([[1.0, -1.0]]))
        second.bias.zero_()
    network = bounds.from_torch(model.requires_grad_(False), (1,))
    ball = Ball(torch.zeros(1, dtype=torch.float64), radius=1.0)
    row = Specification(torch.ones(1, 1))
    interval, backward = (
        bounds.relax(network, ball, row, intermediate=how).relu_bounds[1]
        for how in ("interval", "backward")
    )
    assert interval.upper.item() == pytest.approx(2.0)
    assert interval.lower.item() == pytest.approx(-2.0)
    assert abs(backward.upper.item()) < 1e-12
    assert abs(backward.lower.item()) < 1e-12


def test_leaves_sees_bounds_that_are_too_tight() -> None:
    """The judge of this file, on bounds that are cut by a fiftieth of their width."""
    architecture = Architecture((2,), (Dense(8), Relu(), Dense(2)), seed=1)
    problem = Problem(architecture, 1, 1.0, "number", clip=False, rows="random", seed=0)
    relaxation, x = problem.relax(), points(problem.input_set, 64)
    (neurons,) = relaxation.relu_bounds
    cut = (neurons.upper - neurons.lower) / 50
    assert leaves(relaxation, problem.model, x) <= 0
    for tight in (
        ReluBounds(neurons.lower + cut, neurons.upper),
        ReluBounds(neurons.lower, neurons.upper - cut),
    ):
        assert leaves(replace(relaxation, relu_bounds=(tight,)), problem.model, x) > 0


@given(problem=problems(batch=st.just(1)))
def test_lp_bounds_are_the_optima_of_the_layers_below(problem: Problem) -> None:
    """What the referee finds for each neuron that the backward bound leaves unstable."""
    relaxation = problem.relax(intermediate="lp")
    network, input_set = problem.network, relaxation.input_set
    assert relaxation.unsolved == (0,)
    for position, index in enumerate(network.relus):
        (parent,) = network.nodes[index].parents
        neurons = relaxation.relu_bounds[position]
        unstable = neurons.unstable.flatten().nonzero().squeeze(1)[:4]
        if len(unstable) == 0:
            continue
        one_hot = torch.eye(neurons.lower.numel(), dtype=torch.float64)[unstable]
        rows = torch.cat((one_hot, -one_hot)).unflatten(1, network.nodes[parent].shape)
        below = Relaxation(
            Network(network.nodes[: parent + 1]),
            input_set,
            rows.unsqueeze(0),
            torch.zeros(1, len(rows), dtype=torch.float64),
            relaxation.relu_bounds[:position],
            intermediate="lp",
        )
        optima = torch.from_numpy(lp_reference.solve(below).dual_value).squeeze(0)
        low, high = neurons.lower.flatten()[unstable], -neurons.upper.flatten()[unstable]
        size = 1 + torch.maximum(neurons.lower.abs(), neurons.upper.abs()).amax()
        torch.testing.assert_close(torch.cat((low, high)), optima, rtol=0, atol=float(2e-6 * size))
