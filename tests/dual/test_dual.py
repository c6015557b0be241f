"""What is charged for rounding in a backward pass: for every order of summation, no more."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

import bounds
from bounds import Box, ReluBounds, Specification
from bounds.dual.dual import DualPoint
from tests.support.rational import DTYPES
from tests.support.referee import random_net


def double(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def point(nu: Tensor, arriving: Tensor) -> DualPoint:
    """One row that depends on nothing but one layer of unstable neurons."""
    nothing = torch.zeros(1, 1, dtype=nu.dtype)
    return DualPoint(
        nothing, nothing.unsqueeze(2), {0: nu[None, None]}, {0: arriving[None, None]}, nothing
    )


def value_below(found: DualPoint, neurons: ReluBounds) -> float:
    unit = Box(torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    return found.value_below(unit, [neurons]).item()


def test_the_sum_over_neurons_in_its_worst_order() -> None:
    """−1 first, and then many numbers that it absorbs one by one."""
    count = 1000
    little = 2.0**-53
    nu = double([1.0] + [little] * (count - 1))
    neurons = ReluBounds(-torch.ones(1, count).double(), torch.ones(1, count).double())
    found = point(-nu, torch.zeros_like(nu))
    one_by_one = torch.zeros((), dtype=torch.float64)
    for number in nu:
        one_by_one = one_by_one - number
    assert one_by_one.item() == -1
    exact = -1 - Fraction(little) * (count - 1)
    below = Fraction(value_below(found, neurons))
    # As if it had been summed in that order: −1, less the charge, is no larger than the truth.
    plain = Fraction(found.value(Box(*[torch.zeros(1, 1).double()] * 2), [neurons]).item())
    assert below <= exact
    assert below - plain <= exact - Fraction(one_by_one.item())
    assert plain - below < 10 * (Fraction(one_by_one.item()) - exact)


def test_vertices_that_are_flushed_to_zero() -> None:
    count = 50
    nu = torch.full((count,), -1e-308, dtype=torch.float64)
    neurons = ReluBounds(
        torch.full((1, count), -1e6, dtype=torch.float64), torch.ones(1, count).double()
    )
    exact = Fraction(nu[0].item()) * 10**6 * count
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    try:
        below = value_below(point(nu, torch.zeros_like(nu)), neurons)
    finally:
        torch.set_flush_denormal(False)
    assert Fraction(below) <= exact
    assert below > -1e-298


@pytest.mark.parametrize("dtype", DTYPES)
def test_coefficients_absorbed_where_branches_meet(dtype: torch.dtype) -> None:
    """1/2 − x as ω x − x − ω x + 1/2, by three readers of x that themselves round nothing."""
    omega = 2.0**60

    class Thrice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((x, x, x), 1)

    plain = []
    for order in ((omega, -1.0, -omega), (omega, -omega, -1.0), (-1.0, omega, -omega)):
        network = bounds.from_torch(Thrice(), (1,), dtype=dtype)
        box = Box(-torch.ones(1, dtype=dtype), torch.ones(1, dtype=dtype))
        rows = Specification(torch.tensor([order], dtype=dtype), torch.tensor([0.5], dtype=dtype))
        relaxation = bounds.relax(network, box, rows)
        lower = bounds.solve(relaxation, method="fixed_slope", sound=False).lower.item()
        plain.append(lower)
        assert bounds.solve(relaxation, method="fixed_slope").lower.item() <= -0.5
    assert max(plain) > 0


def test_a_row_is_charged_for_itself_alone() -> None:
    network = random_net(4, 10, 8, 3)
    ball = bounds.Ball(torch.zeros(1, 4, dtype=torch.float64), radius=0.3)
    C = torch.eye(3, dtype=torch.float64)

    def lower(d: list[float]) -> Tensor:
        relaxation = bounds.relax(network, ball, Specification(C, double(d)))
        return bounds.solve(relaxation, method="fixed_slope").lower[0]

    small, beside_large = lower([0.0, 0.0, 0.0]), lower([0.0, 0.0, 1e12])
    assert torch.equal(small[:2], beside_large[:2])


@pytest.mark.parametrize("slope", ["fixed", "adaptive"])
def test_upper_bounds_are_lower_bounds_of_the_negative(slope: str) -> None:
    torch.manual_seed(0)
    first, second, last = nn.Linear(4, 12), nn.Linear(12, 5), nn.Linear(10, 1)
    twins = nn.Linear(12, 10)
    twins.weight.data = torch.cat((second.weight.data, -second.weight.data))
    twins.bias.data = torch.cat((second.bias.data, -second.bias.data))
    model = nn.Sequential(first, nn.ReLU(), twins, nn.ReLU(), last).double()
    ball = bounds.Ball(torch.zeros(1, 4, dtype=torch.float64), radius=0.5)
    relaxation = bounds.relax(
        bounds.from_torch(model, (4,)).detach(),
        ball,
        Specification(torch.ones(1, 1, dtype=torch.float64)),
        slope=slope,  # type: ignore[arg-type]
    )
    neurons = relaxation.relu_bounds[1]
    assert neurons.unstable.sum() > 4
    torch.testing.assert_close(neurons.upper[:, :5], -neurons.lower[:, 5:], rtol=0, atol=1e-12)
