"""Several networks on parts of one input, against torch."""

from __future__ import annotations

import torch
from torch import nn

import bounds
from bounds.network.compose import side_by_side


def test_networks_side_by_side_compute_what_each_does() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    image = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU()).double()
    one = bounds.from_torch(dense, (3,), dtype=torch.float64)
    two = bounds.from_torch(image, (1, 2, 3), dtype=torch.float64)
    places = [torch.tensor([5, 0, 5]), torch.arange(6), torch.tensor([1, 2, 3])]
    x = torch.randn(7, 6, dtype=torch.float64)
    expected = [dense(x[:, places[0]]), image(x.reshape(-1, 1, 2, 3)).flatten(1), dense(x[:, 1:4])]
    both = side_by_side([one, two, one], places, 6)
    assert torch.allclose(both(x), torch.cat(expected, 1), rtol=0, atol=1e-12)
    mixed = side_by_side([one, two, one], places, 6, with_input=True)
    assert torch.allclose(mixed(x), torch.cat([*expected, x], 1), rtol=0, atol=1e-12)
    alone = side_by_side([two], [torch.arange(6)], 6)
    assert torch.allclose(alone(x), expected[1], rtol=0, atol=1e-12)
    # Bounds of the whole are those of its parts.
    box = bounds.Box(x[:1] - 0.1, x[:1] + 0.1)
    rows = bounds.Specification(torch.eye(2, 14, dtype=torch.float64))
    whole = bounds.solve(bounds.relax(mixed, box, rows), method="exact").lower
    part = bounds.Box(x[:1, places[0]] - 0.1, x[:1, places[0]] + 0.1)
    own = bounds.Specification(torch.eye(2, dtype=torch.float64))
    # x[5] is read twice: the part knows less of that than the whole.
    apart = bounds.solve(bounds.relax(one, part, own), method="exact").lower
    assert bool((whole >= apart - 1e-9).all())


def test_a_network_that_is_its_input() -> None:
    same = bounds.from_torch(nn.Identity(), (2,), dtype=torch.float64)
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert side_by_side([same], [torch.arange(2)], 2)(x).tolist() == [[1.0, 2.0]]
    both = side_by_side([same, same], [torch.arange(2), torch.tensor([1, 1])], 2, with_input=True)
    assert both(x).tolist() == [[1.0, 2.0, 2.0, 2.0, 1.0, 2.0]]
