"""The ascent on slopes: its dual function and direction, and the intermediate bounds it gives."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
from bounds import InvalidInputError, Relaxation, ReluBounds
from bounds.dual.dual import backward_pass
from bounds.solvers.slopes.ascent import SlopeAscent
from tests.support.networks import Dice, seeds
from tests.support.problems import NORMS, Problem, problems
from tests.support.referee import random_net, random_relaxation
from tests.support.refusals import refused


def ascent_of(relaxation: Relaxation) -> SlopeAscent:
    return SlopeAscent(
        relaxation.network, relaxation.relu_bounds, relaxation.input_set, relaxation.C
    )


def dual_of_slopes(relaxation: Relaxation, slopes: list[Tensor]) -> Tensor:
    """d at slopes (batch, rows, *shape) of each ReLU, differentiable with respect to them."""

    def rule(position: int, arriving: Tensor, neurons: ReluBounds) -> Tensor:
        upper_face = neurons.slope.unsqueeze(1)
        return arriving * torch.where(arriving < 0, upper_face, slopes[position])

    last = len(relaxation.network.nodes) - 1
    point = backward_pass(relaxation.network, relaxation.relu_bounds, last, relaxation.C, rule)
    return point.value(relaxation.input_set, relaxation.relu_bounds)


@given(problem=problems(norms=NORMS))
def test_starts_at_the_better_one_pass_bound_of_each_row(problem: Problem) -> None:
    relaxation = problem.relax()
    ascent = ascent_of(relaxation)
    fixed, adaptive = (
        bounds.solve(relaxation, method=method).lower - relaxation.d
        for method in ("fixed_slope", "adaptive_slope")
    )
    torch.testing.assert_close(ascent.best, torch.maximum(fixed, adaptive), rtol=1e-11, atol=1e-11)


@given(problem=problems(), seed=seeds)
def test_value_and_direction_are_those_of_the_dual(problem: Problem, seed: int) -> None:
    """d by `bounds.dual.dual`, and ∂d/∂α = ĉ ∂d/∂ν by autograd, at slopes drawn at random."""
    relaxation = problem.relax(intermediate="interval")
    ascent, dice = ascent_of(relaxation), Dice(seed)
    ascent._slopes = dice.uniform(*ascent.best_nu.shape)
    ascent.best.fill_(-torch.inf)
    ascent._backward()
    slopes = [slope.requires_grad_() for slope in ascent.scatter(ascent._slopes)]
    value = dual_of_slopes(relaxation, slopes)
    torch.testing.assert_close(ascent.best, value.detach(), rtol=1e-11, atol=1e-11)

    direction = ascent.scatter(ascent._forward() * ascent._arriving.clamp(min=0))
    gradients = torch.autograd.grad(value.sum(), slopes, allow_unused=True) if slopes else ()
    for found, expected in zip(direction, gradients, strict=True):
        wanted = torch.zeros_like(found) if expected is None else expected
        scale = 1 + wanted.abs().amax()
        torch.testing.assert_close(found / scale, wanted / scale, rtol=1e-9, atol=1e-9)


@given(problem=problems(norms=NORMS), iterations=st.integers(0, 12))
def test_best_is_the_dual_at_its_multipliers(problem: Problem, iterations: int) -> None:
    relaxation = problem.relax()
    ascent = ascent_of(relaxation)
    for _ in range(iterations):
        before = ascent.best
        ascent.advance()
        assert (ascent.best >= before).all()
    certificate = bounds.Certificate(ascent.scatter(ascent.best_nu), torch.zeros(()), ())
    again = certificate.lower(relaxation) - relaxation.d
    torch.testing.assert_close(ascent.best, again, rtol=1e-11, atol=1e-11)


def test_rows_that_are_taken_go_on_as_before() -> None:
    relaxation = random_relaxation(5, 12, 9, 4, batch=3)
    whole = ascent_of(relaxation)
    for _ in range(3):
        whole.advance()
    images, rows = torch.tensor([2, 0]), torch.tensor([[2], [1]])
    part = whole.take(images, rows)
    for _ in range(3):
        whole.advance()
        part.advance()
    at = images.unsqueeze(1), rows
    torch.testing.assert_close(part.best, whole.best[at])
    torch.testing.assert_close(part.best_nu, whole.best_nu[at])


def test_leaves_a_saddle() -> None:
    """relu(relu(x) − 0.01) − 0.1 x on [−0.1, 0.5]: with both slopes 0, neither alone changes d.

    Both together do: the x-coefficient is their product less 0.1, and best at 0.
    """
    layers = nn.Linear(1, 2), nn.Linear(2, 2), nn.Linear(2, 1)
    parameters = (
        ([[1.0], [1.0]], [0.0, 1.0]),
        ([[1.0, 0.0], [0.0, 1.0]], [-0.01, 0.0]),
        ([[1.0, -0.1]], [0.1]),
    )
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, parameters, strict=True):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    one = torch.ones(1, 1, dtype=torch.float64)
    relaxation = bounds.relax(
        bounds.from_torch(model, (1,), dtype=torch.float64).detach(),
        bounds.Box(-0.1 * one, 0.5 * one),
        bounds.Specification(one),
    )
    assert relaxation.unstable == (2,)
    ascent = ascent_of(relaxation)
    ascent._slopes = torch.zeros_like(ascent._slopes)
    ascent.best.fill_(-torch.inf)
    ascent._backward()
    assert ascent.best.item() == pytest.approx(-0.05, abs=1e-7)
    for _ in range(200):
        ascent.advance()
    exact = bounds.solve(relaxation, method="interior_point").lower.item()
    assert ascent.best.item() == pytest.approx(exact, abs=1e-4)


# -- the network below the last ReLU ---------------------------------------------------------------


def layer(*shape: int, seed: int) -> nn.Linear:
    made = nn.Linear(*shape).double()
    with torch.no_grad():
        made.weight.copy_(Dice(seed).normal(*made.weight.shape))
        made.bias.copy_(Dice(seed + 1).normal(*made.bias.shape))
    return made


class Bypass(nn.Module):
    """x → linear → relu → linear, plus x: the last ReLU is bypassed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = layer(3, 4, seed=0), layer(4, 3, seed=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()) + x


@pytest.mark.parametrize(
    ("model", "nodes"),
    [
        (nn.Sequential(layer(3, 4, seed=0), nn.ReLU(), layer(4, 3, seed=2)), 3),
        (nn.Sequential(layer(3, 3, seed=0)), 2),
        (Bypass(), 5),
    ],
    ids=["chain", "no ReLU", "bypass"],
)
def test_what_stands_above_the_last_relu_is_passed_once(model: nn.Module, nodes: int) -> None:
    network = bounds.from_torch(model, (3,)).detach()
    ball = bounds.Ball(torch.zeros(2, 3, dtype=torch.float64), radius=1.0)
    relaxation = bounds.relax(network, ball, bounds.margins(0, 3))
    ascent = ascent_of(relaxation)
    assert len(ascent._network.nodes) == nodes
    for _ in range(300):
        ascent.advance()
    exact = bounds.solve(relaxation, method="interior_point").lower - relaxation.d
    torch.testing.assert_close(ascent.best, exact, rtol=1e-3, atol=1e-3)


# -- intermediate bounds ---------------------------------------------------------------------------


@given(problem=problems(norms=NORMS))
def test_optimised_bounds_are_never_looser_than_either_backward_bound(problem: Problem) -> None:
    optimised = problem.relax(intermediate="optimised").relu_bounds
    for slope in ("fixed", "adaptive"):
        backward = problem.relax(intermediate="backward", slope=slope).relu_bounds
        for outer, inner in zip(backward, optimised, strict=True):
            assert (inner.lower >= outer.lower).all()
            assert (inner.upper <= outer.upper).all()


def test_optimised_bounds_are_nearer_to_the_lp_of_each_neuron_than_backward_bounds() -> None:
    """Against the exact LPs of a layer's neurons, over the layer below it."""
    relaxation = random_relaxation(6, 12, 10, 4, batch=2)
    box, network = relaxation.input_set, relaxation.network

    def second(**options: Any) -> ReluBounds:
        return bounds.relax(network, box, bounds.margins(0, 4), **options).relu_bounds[1]

    eye = torch.eye(10, dtype=torch.float64)
    below = Relaxation(
        bounds.Network(network.nodes[: network.relus[1]]),
        box,
        torch.cat((eye, -eye)).expand(2, -1, -1),
        torch.zeros(2, 20, dtype=torch.float64),
        relaxation.relu_bounds[:1],
    )
    exact = bounds.solve(below, method="interior_point").lower
    optimised = second(intermediate="optimised")
    known = second(slope="fixed").intersection(second(slope="adaptive"))
    judged = optimised.unstable.repeat(1, 2)
    assert judged.sum() > 20
    looseness, before = (
        (exact - torch.cat((found.lower, -found.upper), 1))[judged] for found in (optimised, known)
    )
    assert (looseness >= -1e-9).all()
    assert looseness.sum() < before.sum() / 5


@pytest.mark.parametrize("intermediate", ["optimised", "lp"])
def test_gradients_flow_through_bounds_that_were_searched(
    intermediate: Literal["optimised", "lp"],
) -> None:
    """A radius that grows by δ widens every bound, by the derivative times δ."""

    def widths(radius: Tensor) -> Tensor:
        ball = bounds.Ball(torch.zeros(1, 5, dtype=torch.float64), radius=radius)
        relaxed = bounds.relax(
            random_net(5, 10, 8, 3), ball, bounds.margins(0, 3), intermediate=intermediate
        )
        # What the ascent read without gradients is not what later passes read.
        assert all(k.slope.requires_grad == radius.requires_grad for k in relaxed.relu_bounds)
        return torch.stack([(n.upper - n.lower).sum() for n in relaxed.relu_bounds])

    radius, step = torch.tensor(0.5, dtype=torch.float64), 1e-3
    for k in (0, 1):
        at = radius.clone().requires_grad_()
        (derivative,) = torch.autograd.grad(widths(at)[k], at)
        difference = (widths(radius + step) - widths(radius - step))[k] / (2 * step)
        assert derivative.item() == pytest.approx(difference.item(), rel=5e-2)


@pytest.mark.parametrize("name", ["optimized", "Optimised", ""])
def test_unknown_intermediate_bounds_are_refused(name: Any) -> None:
    known = random_relaxation(2, 3, 2)
    refused(
        lambda: bounds.relax(
            known.network, known.input_set, bounds.margins(0, 2), intermediate=name
        ),
        InvalidInputError,
        repr(name),
        "'optimised'",
    )
