"""Bounds where rounding decides: plain arithmetic is seen to fail, sound bounds never.

What is true is computed in rational numbers, from the parameters as they are stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bounds
from bounds import Ball, Box, Specification
from tests.support.networks import Dice
from tests.support.problems import NORMS, Problem, points, problems
from tests.support.rational import DTYPES, evaluate, fractions, linear

#: The largest whole number that the next one still differs from.
LAST = {torch.float32: 2.0**24, torch.float64: 2.0**53}


def plain_and_sound(relaxation: bounds.Relaxation) -> tuple[float, float]:
    """The lower bounds of the only row."""
    lower = [
        bounds.solve(relaxation, method="adaptive_slope", sound=sound).lower.item()
        for sound in (False, True)
    ]
    return lower[0], lower[1]


def relax(model: nn.Sequential, lower: list[float], upper: list[float]) -> bounds.Relaxation:
    """Of a model with one output, over a box."""
    dtype = model[0].weight.dtype
    network = bounds.from_torch(model, (len(lower),), dtype=dtype).detach()
    box = Box(torch.tensor(lower, dtype=dtype), torch.tensor(upper, dtype=dtype))
    return bounds.relax(network, box, Specification(torch.ones(1, 1, dtype=dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
def test_absorbed_terms(dtype: torch.dtype, relu: bool) -> None:
    """ω x − x − ω x + 1/2 on [−1, 1], whose minimum is −1/2, for ω beyond the last whole number."""
    omega = 4 * LAST[dtype]
    plain = []
    for weights in itertools.permutations((omega, -1.0, -omega)):
        shift = 2.0 if relu else 0.0
        first = linear([[1.0]] * 3, [shift] * 3, dtype)
        last = linear([list(weights)], [0.5 + shift], dtype)
        model = nn.Sequential(first, nn.ReLU(), last) if relu else nn.Sequential(first, last)
        assert evaluate(model, [Fraction(1)]) == [Fraction(-1, 2)]
        lower, sound = plain_and_sound(relax(model, [-1.0], [1.0]))
        plain.append(lower)
        assert sound <= -0.5
    assert max(plain) > 0  # "verified"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", [1, 2])
def test_absorbed_terms_in_the_support_function_of_a_ball(norm: float, dtype: torch.dtype) -> None:
    """x₀ + x₁ + x₂ around (ω, −1, −ω) in every order: −1 is attained at the centre."""
    plain = []
    for centre in itertools.permutations((2.0**60, -1.0, -(2.0**60))):
        ball = Ball(torch.tensor([centre], dtype=dtype), radius=0.25, norm=norm).resolve((3,))
        rows = torch.ones(1, 1, 3, dtype=dtype)
        plain.append(ball.minimum(rows).item())
        assert ball.minimum_below(rows).item() <= -1
    assert max(plain) > -1


@pytest.mark.parametrize("dtype", DTYPES)
def test_absorbed_terms_below_a_relu(dtype: torch.dtype) -> None:
    """The same sum inside: l and u of the ReLU have to hold −1 and 1."""
    omega = 4 * LAST[dtype]
    for weights in itertools.permutations((omega, 1.0, -omega)):
        model = nn.Sequential(
            linear([[1.0]] * 3, [2.0] * 3, dtype),
            nn.ReLU(),
            linear([list(weights)], [-2.0], dtype),
            nn.ReLU(),
            linear([[1.0]], [0.0], dtype),
        )
        for intermediate in ("interval", "backward", "optimised", "lp"):
            network = bounds.from_torch(model, (1,), dtype=dtype).detach()
            box = Box(-torch.ones(1, dtype=dtype), torch.ones(1, dtype=dtype))
            rows = Specification(torch.ones(1, 1, dtype=dtype))
            found = bounds.relax(network, box, rows, intermediate=intermediate).relu_bounds[1]  # type: ignore[arg-type]
            assert found.lower.item() <= -1
            assert found.upper.item() >= 1


def conv_net(seed: int, dtype: torch.dtype) -> nn.Sequential:
    """A 13×13 net whose ReLUs are all active on small balls around 0."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 11 * 11, 1)
    ).to(dtype)
    model[0].bias.data += 8
    return model


def conv_net_minimum(model: nn.Sequential, radius: float) -> Fraction:
    """Of that net on the ℓ∞ ball around 0, where it is linear."""
    kernel = [fractions(k) for k in model[0].weight]
    weights = fractions(model[3].weight)
    slopes = [Fraction(0)] * 169
    value = Fraction(model[3].bias.item())
    for channel, offset in enumerate(fractions(model[0].bias)):
        for row, column in itertools.product(range(11), repeat=2):
            weight = weights[121 * channel + 11 * row + column]
            value += weight * offset
            for i, j in itertools.product(range(3), repeat=2):
                slopes[13 * (row + i) + column + j] += weight * kernel[channel][3 * i + j]
    return value - Fraction(radius) * sum(map(abs, slopes), Fraction(0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bias_bisected_to_the_edge(dtype: torch.dtype) -> None:
    """The smallest last bias with which plain bounds say "robust": wrong for some networks."""
    fooled, radius = 0, 0.125
    for seed in range(6):
        model = conv_net(seed, dtype)
        x = torch.zeros(1, 13, 13, dtype=dtype)

        def lower(bias: float, *, sound: bool) -> float:
            model[3].bias.data.fill_(bias)  # noqa: B023
            network = bounds.from_torch(model, (1, 13, 13), dtype=dtype).detach()  # noqa: B023
            rows = Specification(torch.ones(1, 1, dtype=dtype))
            relaxation = bounds.relax(network, Ball(x, radius=radius), rows)  # noqa: B023
            assert all(bool(neurons.active.all()) for neurons in relaxation.relu_bounds)
            solution = bounds.solve(relaxation, method="fixed_slope", sound=sound)
            return solution.lower.item()

        low, high = -1e3, 1e3  # not robust, robust
        while True:
            middle = torch.tensor((low + high) / 2, dtype=dtype).item()
            if middle in (low, high):
                break
            low, high = (low, middle) if lower(middle, sound=False) > 0 else (middle, high)
        plain = lower(high, sound=False)
        assert 0 < plain < (1e-3 if dtype == torch.float32 else 1e-11)
        truth = conv_net_minimum(model, radius)
        fooled += truth <= 0 < plain
        assert Fraction(lower(high, sound=True)) <= truth
        # A margin of 1e-7 is proved in float64, and only there.
        wider = high + 1e-7
        assert (lower(wider, sound=True) > 0) == (dtype == torch.float64)
    assert fooled > 0


@contextmanager
def flushing(subnormal: bool) -> Iterator[None]:
    """Whether subnormal numbers count as 0."""
    if not torch.set_flush_denormal(subnormal):
        pytest.skip("this processor does not flush subnormal numbers")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("flush", [False, True])
def test_weights_from_1e_minus_300_to_1e300(flush: bool) -> None:
    """Coefficients that become subnormal on their way to x: w (2 − x) for w = k · 1.1e-20."""
    plain_fails = 0
    for k in range(1, 9):
        weights = [1e300, -k * 1.1e-20, 1e-300]
        layers = [linear([[weight]], [0.0], torch.float64) for weight in weights]
        exact = evaluate(nn.Sequential(*layers), [Fraction(2)])[0]
        layers[2].bias.data.fill_(-float(exact))
        model = nn.Sequential(*layers)
        with flushing(flush):
            plain, sound = plain_and_sound(relax(model, [1.0], [2.0]))
        truth = evaluate(model, [Fraction(2)])[0]
        plain_fails += Fraction(plain) > truth
        assert Fraction(sound) <= truth
    assert plain_fails > 0


def test_numbers_that_overflow_are_refused() -> None:
    model = nn.Sequential(
        linear([[1e300]], [0.0], torch.float64),
        nn.ReLU(),
        linear([[1e300]], [0.0], torch.float64),
        nn.ReLU(),
        linear([[1e-300]], [1.0], torch.float64),
    )
    with pytest.raises(bounds.InvalidInputError, match="overflow"):
        relax(model, [1.0], [2.0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_l_and_u_one_ulp_around_zero(dtype: torch.dtype) -> None:
    """Pre-activations that are 0 in one order of summation and not in truth."""
    missed = 0
    for seed in range(30):
        weights = Dice(seed).normal(1, 4).to(dtype)
        x = Dice(seed + 100).normal(4).to(dtype)
        model = nn.Sequential(
            linear(weights.tolist(), [0.0], dtype), nn.ReLU(), linear([[1.0]], [0.0], dtype)
        )
        # A point at which the float of the sum is 0.
        model[0].bias.data -= model[0](x).detach()
        truth = evaluate(nn.Sequential(model[0]), fractions(x))[0]
        missed += bool((model[0](x) == 0).all()) and truth != 0
        [neurons] = relax(model, x.tolist(), x.tolist()).relu_bounds
        assert Fraction(neurons.lower.item()) <= truth <= Fraction(neurons.upper.item())
        assert not (truth < 0 and neurons.active.any())
    assert missed > 5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["fixed_slope", "adaptive_slope"])
def test_permuted_neurons(dtype: torch.dtype, method: str) -> None:
    """A hidden layer in another order is the same network over the reals, and rounds otherwise."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 300), nn.ReLU(), nn.Linear(300, 1)).to(dtype)
    x = torch.zeros(6, dtype=dtype)
    network = bounds.from_torch(model, (6,), dtype=dtype).detach()
    rows = Specification(torch.ones(1, 1, dtype=dtype))
    exact = bounds.relax(
        network.to(torch.float64), Ball(x.double(), radius=0.25), Specification(rows.C.double())
    )
    truth = bounds.solve(exact, method=method).upper.item()  # type: ignore[arg-type]
    proved = bounds.solve(exact, method=method).lower.item()  # type: ignore[arg-type]
    plain = set()
    for seed in range(8):
        order = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
        permuted = nn.Sequential(nn.Linear(6, 300), nn.ReLU(), nn.Linear(300, 1)).to(dtype)
        for layer, source in ((permuted[0], model[0]), (permuted[2], model[2])):
            rows_moved = layer is permuted[0]
            layer.weight.data = source.weight.data[order] if rows_moved else source.weight[:, order]
            layer.bias.data = source.bias.data[order] if rows_moved else source.bias.data
        relaxation = bounds.relax(
            bounds.from_torch(permuted, (6,), dtype=dtype).detach(), Ball(x, radius=0.25), rows
        )
        solutions = [
            bounds.solve(relaxation, method=method, sound=sound)  # type: ignore[arg-type]
            for sound in (False, True)
        ]
        plain.add(solutions[0].lower.item())
        assert solutions[1].lower.item() <= truth
        assert solutions[1].lower.item() <= proved + (1e-12 if dtype == torch.float64 else 0)
        assert proved - solutions[1].lower.item() < (1e-10 if dtype == torch.float64 else 1e-2)
    assert len(plain) > 1


@given(problem=problems(norms=NORMS), single=st.booleans())
def test_sound_bounds_hold_in_rational_numbers(problem: Problem, single: bool) -> None:
    """At points of the set, evaluated exactly, for networks that are chains of Linear and ReLU."""
    dtype = torch.float32 if single else torch.float64
    torch.manual_seed(problem.seed)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    model = model.to(dtype)
    x = Dice(problem.seed).normal(1, 3).to(dtype)
    ball = Ball(x, radius=problem.radius, norm=problem.norm)
    relaxation = bounds.relax(
        bounds.from_torch(model, (3,), dtype=dtype).detach(), ball, bounds.margins(0, 2)
    )
    inside = relaxation.input_set.inside(points(relaxation.input_set, 5))
    sampled = inside[0][inside[1]]
    lower = bounds.solve(relaxation, method="adaptive_slope").lower.item()
    for point in sampled:
        values = fractions(point)
        first, second = evaluate(model, values)
        assert Fraction(lower) <= first - second
        hidden = evaluate(model[:1], values), evaluate(model[:3], values)
        for exact, neurons in zip(hidden, relaxation.relu_bounds, strict=True):
            ends = map(fractions, (neurons.lower, neurons.upper))
            for truth, lower_end, upper_end in zip(exact, *ends, strict=True):
                assert lower_end <= truth <= upper_end
    assert len(sampled) > 0
