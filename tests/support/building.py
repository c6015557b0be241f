"""What the tests of builder and readers share: networks compared with torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from bounds.network.build.builder import NetworkBuilder, Symbol
from bounds.network.graph import Network
from tests.support.layers import Dice, Shape

Call = Callable[[NetworkBuilder, Symbol], Symbol]
Function = Callable[[Tensor], Tensor]


def built(shape: Shape, call: Call) -> Network:
    build = NetworkBuilder(shape, torch.float64, torch.device("cpu"))
    build.at = "the layer"
    return build.finish(call(build, build.input))


def agrees(shape: Shape, call: Call, function: Function, seed: int = 0) -> Network:
    """The network of `call` computes `function`, to some units of rounding."""
    network, x = built(shape, call), Dice(seed).normal(5, *shape)
    expected = function(x)
    actual = network(x)
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)
    return network


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
images = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(1, 9)),
    st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 6)),
)


def agree(module: nn.Module, network: Network, x: Tensor) -> None:
    """Module and network are equal to 1e-12 of the magnitudes that an output is a sum of."""
    with torch.no_grad():
        expected = module(x.clone())
        magnitude = network.detach().convert(torch.abs)(x.abs())
    actual = network(x).detach()
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype == torch.float64
    assert ((actual - expected).abs() <= 1e-12 * magnitude.amax()).all()
