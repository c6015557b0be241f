"""Constants that are added become biases: the same function, exactly."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor, nn

from bounds import from_torch
from bounds.network.affine import Linear, Scale
from bounds.network.graph import AffineNode, Network
from bounds.network.merge import with_biases
from tests.support.networks import Architecture, Dice, architectures


class Sums(nn.Module):
    """Layers without biases, and constants that are added to them; `twice`: one of their results
    is read a second time."""

    def __init__(self, *, twice: bool, factor: float = 1.0) -> None:
        super().__init__()
        self.twice, self.factor = twice, factor
        self.first, self.last = (nn.Linear(*n, bias=False).double() for n in ((3, 4), (4, 2)))
        self.shift = nn.Parameter(torch.arange(4).double())

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        scaled = z if self.factor == 1 else z * self.factor
        y = torch.relu(scaled + self.shift)
        return self.last(y + z if self.twice else y)


def operations(network: Network) -> list[type]:
    return [type(node.operation) for node in network.nodes if isinstance(node, AffineNode)]


def test_a_constant_becomes_a_bias() -> None:
    torch.manual_seed(0)
    network = from_torch(Sums(twice=False), (3,)).detach()
    merged = with_biases(network)
    assert operations(network) == [Linear, Scale, Linear]
    assert operations(merged) == [Linear, Linear]
    x = Dice(0).normal(20, 3)
    assert torch.equal(merged(x), network(x))


def test_what_is_read_twice_or_scaled_stays() -> None:
    for model in (Sums(twice=True), Sums(twice=False, factor=2.0)):
        network = from_torch(model, (3,)).detach()
        assert operations(with_biases(network)) == operations(network)


@given(architectures())
def test_drawn_networks_stay_the_same(architecture: Architecture) -> None:
    network = from_torch(architecture.build(), architecture.input_shape).detach()
    merged = with_biases(network)
    x = Dice(architecture.seed).normal(5, *architecture.input_shape)
    torch.testing.assert_close(merged(x), network(x), rtol=1e-12, atol=1e-12)
    shapes = [[n.nodes[k].shape for k in n.relus] for n in (network, merged)]
    assert shapes[0] == shapes[1]


def test_what_is_charged_stays() -> None:
    """Batch normalisation of scale 1 in float32 has a rounded shift, and a bias would be exact."""
    norm = nn.BatchNorm1d(4, eps=1.0, momentum=None).eval()
    norm.running_var.zero_()
    norm.running_mean.copy_(torch.full((4,), 0.1))
    norm.bias.data.fill_(1 / 3)
    model = nn.Sequential(nn.Linear(3, 4, bias=False), norm)
    network = from_torch(model, (3,)).detach()
    [_, scale] = [node.operation for node in network.nodes if isinstance(node, AffineNode)]
    assert bool((scale.scale == 1).all())  # type: ignore[attr-defined]
    assert scale.inexact > 0
    assert operations(with_biases(network)) == [Linear, Scale]
