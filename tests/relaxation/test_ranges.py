"""Ranges hold in rational numbers where rounding, underflow and given bounds would break them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import bounds
from bounds import Box, ReluBounds, Specification
from tests.support.rational import DTYPES, linear


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def lower_bounds(model: nn.Module, row: list[float], d: float) -> tuple[float, float]:
    """Plain and sound, of ⟨row, model(x)⟩ + d over x in [−1, 1]."""
    box = Box(-torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    rows = Specification(*(torch.tensor([n], dtype=torch.float64) for n in (row, d)))
    network = bounds.from_torch(model, (1,), dtype=torch.float64).detach()
    relaxation = bounds.relax(network, box, rows)
    plain, sound = (
        bounds.solve(relaxation, method="fixed_slope", sound=sound).lower.item()
        for sound in (False, True)
    )
    return plain, sound


ORDERS = [(2.0**60, -1.0, -(2.0**60)), (2.0**60, -(2.0**60), -1.0), (-1.0, 2.0**60, -(2.0**60))]


def test_biases_absorbed_in_the_constant() -> None:
    """y = b, of which the row −1 + 1/2 is the sum."""
    plain = []
    for order in ORDERS:
        model = linear([[0.0]] * 3, list(order), torch.float64)
        found = lower_bounds(model, [1.0, 1.0, 1.0], 0.5)
        plain.append(found[0])
        assert found[1] <= -0.5
    assert max(plain) > 0


def test_coefficients_absorbed_in_a_selection() -> None:
    """1/2 − x, of three copies of x."""
    plain = []
    for order in ORDERS:
        found = lower_bounds(Apply(lambda x: x[:, [0, 0, 0]]), list(order), 0.5)
        plain.append(found[0])
        assert found[1] <= -0.5
    assert max(plain) > 0


def pre_activations(model: nn.Module, x: list[float]) -> ReluBounds:
    """The interval bounds of the first ReLU at a point."""
    network = bounds.from_torch(model, (len(x),)).detach()
    point = torch.tensor(x, dtype=torch.float64)
    rows = Specification(torch.ones(1, *network.output_shape, dtype=torch.float64))
    return bounds.relax(network, Box(point, point), rows, intermediate="interval").relu_bounds[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_branches(dtype: torch.dtype) -> None:
    """ω ± 1 − ω, each from a coordinate of its own."""
    network = bounds.from_torch(Apply(lambda x: x[:, 0:1] + x[:, 1:2] + x[:, 2:3]), (3,))
    for sign in (1.0, -1.0):
        point = torch.tensor([2.0**60, sign, -(2.0**60)], dtype=dtype)
        rows = Specification(torch.ones(1, 1, dtype=dtype))
        found = bounds.relax(network, Box(point, point), rows).ranges()[-1]
        assert found.lower.item() <= sign <= found.upper.item()


def test_products_that_underflow() -> None:
    """±1e-400 is neither 0 nor of a known sign."""
    for sign in (1.0, -1.0):
        model = nn.Sequential(linear([[sign * 1e-200]], [0.0], torch.float64), nn.ReLU())
        found = pre_activations(model, [1e-200])
        assert found.lower.item() < 0 < found.upper.item()


def test_factors_that_are_flushed_to_zero() -> None:
    """1e10 · 1e-310, where the input counts as 0."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    try:
        found = pre_activations(
            nn.Sequential(linear([[1e10]], [0.0], torch.float64), nn.ReLU()), [1e-310]
        )
    finally:
        torch.set_flush_denormal(False)
    assert found.upper.item() >= 1e10 * 1e-310


class TotalOfTwo(nn.Module):
    """relu(x₀ + x₁), where nothing is multiplied that could be rounded."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x[:, :1] + x[:, 1:])


def test_sums_that_are_flushed_to_zero() -> None:
    """1.2 t − 1.5 t, where t is the smallest normal number, counts as 0: which is no active
    neuron."""
    x = torch.tensor([[1.2, -1.5]]) * torch.finfo(torch.float32).tiny
    network = bounds.from_torch(TotalOfTwo(), (2,), dtype=torch.float32)
    rows = Specification(torch.tensor([[1e38], [-1e38]]))
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    try:
        relaxation = bounds.relax(network, bounds.Ball(x, radius=0.0), rows)
        found = [
            bounds.solve(relaxation, method=method).lower.amax()
            for method in ("fixed_slope", "adaptive_slope", "exact")
        ]
    finally:
        torch.set_flush_denormal(False)
    assert max(found) <= 0


def test_zeros_stay_zeros() -> None:
    """A triangle of width 1e-300 would be no LP to solve."""
    for weight in (0.0, -0.0):
        model = nn.Sequential(linear([[weight, 1.0]], [0.0], torch.float64), nn.ReLU())
        found = pre_activations(model, [3.0, 0.0])
        assert found.lower.item() == found.upper.item() == 0
    tiny = nn.Sequential(linear([[math.ulp(0.0)]], [0.0], torch.float64), nn.ReLU())
    assert pre_activations(tiny, [1.0]).upper.item() > 0


def test_given_bounds_of_active_neurons_bind_no_z() -> None:
    """The LP has no rows l ≤ ẑ ≤ u: z reaches the whole interval of ẑ."""
    model = nn.Sequential(linear([[1.0]], [0.0], torch.float64), nn.ReLU())
    network = bounds.from_torch(model, (1,)).detach()
    box = Box(torch.ones(1).double(), 3 * torch.ones(1).double())
    relaxation = bounds.relax(network, box, Specification(torch.ones(1, 1).double()))
    narrow = ReluBounds(torch.full((1, 1), 1.5).double(), torch.full((1, 1), 2.0).double())
    given = replace(relaxation, relu_bounds=(narrow,), intermediate="given")
    assert given.ranges()[-1].lower.item() <= 1
    assert given.ranges()[-1].upper.item() >= 3
    assert relaxation.ranges()[-1].upper.item() == relaxation.relu_bounds[0].upper.item()


def test_a_point_at_the_end_of_given_bounds_is_not_surely_feasible() -> None:
    """With ẑ = x and u = 1 given, no rounding is left for x = 1."""
    model = nn.Sequential(linear([[1.0]], [0.0], torch.float64), nn.ReLU())
    network = bounds.from_torch(model, (1,)).detach()
    end = torch.ones(1, 1).double()
    box, rows = Box(-end[0], end[0]), Specification(-end)
    given = replace(
        bounds.relax(network, box, rows),
        relu_bounds=(ReluBounds(-end, end),),
        intermediate="given",
    )
    for relaxation, infinite in ((given, True), (bounds.relax(network, box, rows), False)):
        solution = bounds.solve(relaxation, method="fixed_slope")
        assert torch.isinf(solution.upper).item() is infinite
        assert solution.lower.item() <= -1
