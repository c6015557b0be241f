"""Constants, sums and piecewise linear functions: the builder against torch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import bounds
from bounds.network.build.builder import NetworkBuilder, Symbol
from tests.support.building import Call, Function, agrees, built, shapes
from tests.support.layers import Dice, Shape
from tests.support.networks import seeds


@given(shapes, st.data(), seeds)
def test_constants_and_sums_broadcast(shape: Shape, data: st.DataObject, seed: int) -> None:
    """Up and down: the sample, the constants and the other term, each with axes of size 1."""
    dice = Dice(seed)
    small, factor, term = (
        tuple(data.draw(st.sampled_from([1, size])) for size in shape) for _ in range(3)
    )
    factor = factor[data.draw(st.integers(0, len(factor))) :]
    scale, shift = dice.normal(*factor), dice.normal(1, *term)
    agrees(
        small,
        lambda build, x: build.sum(x, build.shift(build.scale(x, scale), shift)),
        lambda x: x + (x * scale + shift),
        seed,
    )


ELEMENTWISE: dict[str, tuple[Call, Function]] = {
    "relu": (lambda build, x: build.relu(x), F.relu),
    "abs": (lambda build, x: build.abs(x), torch.abs),
    "clip below": (lambda build, x: build.clip(x, 0.25, None), lambda x: x.clamp(min=0.25)),
    "clip above": (lambda build, x: build.clip(x, None, -0.25), lambda x: x.clamp(max=-0.25)),
    "clip": (lambda build, x: build.clip(x, -0.5, 0.75), lambda x: x.clamp(-0.5, 0.75)),
    "clip at 0": (lambda build, x: build.clip(x, 0, 6), F.relu6),
    "clip to a number": (lambda build, x: build.clip(x, 0.5, 0.5), lambda x: x.clamp(0.5, 0.5)),
    "clip crossed": (lambda build, x: build.clip(x, 0.5, -0.5), lambda x: x.clamp(0.5, -0.5)),
    "clip infinite": (lambda build, x: build.clip(x, -math.inf, math.inf), lambda x: x),
    "clip by tensors": (
        lambda build, x: build.clip(x, torch.tensor([[-1.0], [0.0]]), torch.tensor(0.5)),
        lambda x: x.clamp(torch.tensor([[-1.0], [0.0]]), torch.tensor(0.5)),
    ),
    "leaky": (lambda build, x: build.leaky_relu(x, 0.1), lambda x: F.leaky_relu(x, 0.1)),
    "steep": (lambda build, x: build.leaky_relu(x, 3.0), lambda x: F.leaky_relu(x, 3.0)),
    "folded": (lambda build, x: build.leaky_relu(x, -2), lambda x: F.leaky_relu(x, -2)),
    "slopes": (
        lambda build, x: build.leaky_relu(x, torch.tensor([[0.5], [-1.0]])),
        lambda x: F.prelu(x, torch.tensor([0.5, -1.0], dtype=torch.float64)),
    ),
    "slopes without a sign": (
        lambda build, x: build.leaky_relu(x, torch.tensor([2], dtype=torch.uint8)),
        lambda x: F.leaky_relu(x, 2.0),
    ),
    "maximum": (
        lambda build, x: build.maximum(x, build.slice(x, 1, None, None, -1)),
        lambda x: torch.maximum(x, x.flip(2)),
    ),
    "minimum": (
        lambda build, x: build.minimum(x, build.slice(x, 0, None, 1)),
        lambda x: torch.minimum(x, x[:, :1]),
    ),
    "maximum of a smaller sample": (
        lambda build, x: build.maximum(build.slice(x, 0, None, 1), x),
        lambda x: torch.maximum(x, x[:, :1]),
    ),
    "maximum with a constant": (
        lambda build, x: build.maximum(x, torch.arange(3, dtype=torch.uint8)),
        lambda x: torch.maximum(x, torch.arange(3.0).double()),
    ),
    "minimum with a number": (lambda build, x: build.minimum(x, 0.1), lambda x: x.clamp(max=0.1)),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str) -> None:
    agrees((2, 3), *ELEMENTWISE[name])


@pytest.mark.parametrize("ends", [(-1.0, 0.2), (-2.0, 3.0), (0.1, 0.4), (-3.0, -1.5)])
def test_interval_arithmetic_of_a_clip_is_exact(ends: tuple[float, float]) -> None:
    network = built((1,), lambda build, x: build.relu(build.shift(build.clip(x, -0.5, 1.0), 10)))
    low, high = (torch.tensor([[end]], dtype=torch.float64) for end in ends)
    neurons = bounds.relax(
        network,
        bounds.Box(low, high),
        bounds.Specification(torch.ones(1, 1)),
        intermediate="interval",
    ).relu_bounds[-1]
    torch.testing.assert_close(neurons.lower, low.clamp(-0.5, 1.0) + 10)
    torch.testing.assert_close(neurons.upper, high.clamp(-0.5, 1.0) + 10)


def test_nested_clip_has_the_tighter_relaxation() -> None:
    """Than the sum of two ReLUs, by the LP optimum over rows of the clip and of its input."""

    def nested(build: NetworkBuilder, x: Symbol) -> Symbol:
        return build.concat([build.clip(x, 0.0, 1.0), x], 0)

    def parallel(build: NetworkBuilder, x: Symbol) -> Symbol:
        above = build.relu(build.shift(x, -1.0))
        return build.concat([build.sum(build.relu(x), build.negative(above)), x], 0)

    box = bounds.Box(*(torch.tensor([[end]], dtype=torch.float64) for end in (-2.0, 3.0)))
    rows = bounds.Specification(Dice(0).normal(20, 2))
    tight, loose = (
        bounds.solve(bounds.relax(built((1,), call), box, rows), method="interior_point").lower
        for call in (nested, parallel)
    )
    assert (tight >= loose - 1e-9).all()
    assert (tight > loose + 0.1).any()
