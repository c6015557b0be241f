"""Constants that a reader computes: networks are the models, over the rationals."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bounds
from bounds import Network, from_torch
from bounds.network.affine import Scale
from bounds.network.graph import AffineNode, ReluNode, SumNode
from tests.support.rational import DTYPES, fractions


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def exactly(network: Network, x: Fraction) -> Fraction:
    """A network of one number, of scales, shifts, sums and ReLUs, over the rationals."""
    values = [x]
    for node in network.nodes[1:]:
        inputs = [values[parent] for parent in node.parents]
        match node:
            case AffineNode(operation=Scale(scale=scale, shift=shift)):
                term = Fraction(0) if shift is None else fractions(shift)[0]
                values.append(fractions(scale)[0] * inputs[0] + term)
            case ReluNode():
                values.append(max(inputs[0], Fraction(0)))
            case SumNode():
                values.append(sum(inputs, Fraction(0)))
            case _:
                raise TypeError(node)
    return values[-1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", [0.01, 0.1, 0.25, 0.3, 1e-9, -0.7, 1.7, 3.0, 1e6])
def test_slopes(slope: float, dtype: torch.dtype) -> None:
    network = from_torch(nn.LeakyReLU(slope), (1,), dtype=dtype)
    stored = Fraction(torch.tensor(slope, dtype=dtype).item())
    for x in map(Fraction, (-3, -1, 0, 1, Fraction(1, 3), 7)):
        assert exactly(network, x) == (x if x > 0 else stored * x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("divisor", [3.0, 0.1, 0.229, 255.0, 8.0, -7e10, 1e-20])
def test_divisors(divisor: float, dtype: torch.dtype) -> None:
    """To what float64 has room for in the charges of its passes, whatever the network's dtype."""
    network = from_torch(Applied(lambda x: x / divisor), (1,), dtype=dtype)
    stored = Fraction(torch.tensor(divisor, dtype=dtype).item())
    quotient = exactly(network, Fraction(5))
    assert abs(quotient * stored / 5 - 1) <= Fraction(2) ** -52
    terms = sum(isinstance(node, AffineNode) for node in network.nodes)
    assert terms == 1 if dtype == torch.float64 or divisor == 8 else terms <= 3


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_averages(count: int) -> None:
    """Of ones the average is 1, in a float32 network that is evaluated in float64."""
    for layer in (nn.AvgPool1d(count), nn.AdaptiveAvgPool1d(1)):
        network = from_torch(layer, (1, count), dtype=torch.float32).to(torch.float64)
        ones = torch.ones(1, 1, count, dtype=torch.float64)
        assert abs(float(network(ones)) - 1) <= 2.0**-52
    mean = from_torch(Applied(lambda x: x.mean(1, keepdim=True)), (count,), dtype=torch.float32)
    ones = torch.ones(1, count, dtype=torch.float64)
    assert abs(float(mean.to(torch.float64)(ones)) - 1) <= 2.0**-52


def test_multiples_of_constants() -> None:
    constant = torch.tensor([1 / 3])
    model = Applied(lambda x: torch.add(x, constant, alpha=0.3))
    network = from_torch(model, (1,), dtype=torch.float32)
    exact = Fraction(0.3) * Fraction(constant.item())
    assert abs(exactly(network, Fraction(0)) - exact) <= exact * Fraction(2) ** -52


def test_a_leaky_relu_equals_the_identity_and_no_more() -> None:
    """At x = 1 the difference is 0: a bound above -5e-9 is above the true minimum."""
    model = Applied(lambda x: torch.cat((F.leaky_relu(x), x), 1))
    network = from_torch(model, (1,), dtype=torch.float32)
    row = bounds.Specification(torch.tensor([[1.0, -1.0]]), torch.tensor([-5e-9]))
    relaxation = bounds.relax(network, bounds.Ball(torch.ones(1, 1), radius=0.0), row)
    for method in ("fixed_slope", "interior_point", "pdhg"):
        lower = bounds.solve(relaxation, method=method).lower
        assert Fraction(lower.item()) <= Fraction(torch.tensor(-5e-9).item())


def test_leaky_relus_keep_one_relu() -> None:
    network = from_torch(nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU(0.1)), (2,))
    assert len(network.relus) == 1


@pytest.mark.parametrize("scale", [1.1, 1.7, 2.3, 4.6, 3.0, 0.7])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_upsampling_reads_the_pixels_that_torch_reads(scale: float, mode: str) -> None:
    for size in (*range(1, 40), 97, 512):
        if math.floor(size * scale) < 1:
            continue
        layer = nn.Upsample(scale_factor=scale, mode=mode)
        x = torch.arange(float(size)).reshape(1, 1, size)
        for dtype in DTYPES:
            own = layer(x)  # the model computes in float32, whatever the network does
            anchored = nn.Sequential(nn.BatchNorm1d(1).eval(), layer)
            network = from_torch(anchored, (1, size), dtype=dtype)
            assert torch.equal(network(x.to(dtype)).round().float(), own)
    image = torch.randn(2, 3, 5, 7)
    both = nn.Upsample(scale_factor=(scale, 4.6), mode=mode)
    assert torch.equal(from_torch(both, (3, 5, 7))(image), both(image))
