"""What float32 adds over a box, bounded part by part, against what float32 computes."""

from __future__ import annotations

import torch
from torch import nn

import bounds
from bounds.certification.rounding_margin import margin_by_parts


def test_parts_bound_what_float32_does_and_more_closely() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(4, 40), nn.ReLU()], *[nn.Linear(40, 40), nn.ReLU()] * 3)
    model.append(nn.Linear(40, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    network = bounds.from_torch(model, (4,), dtype=torch.float64)
    centres = torch.zeros(2, 4, dtype=torch.float64)
    centres[1] = 5.0
    box = bounds.Box(centres - 1.0, centres + 1.0)
    rows = bounds.margins(torch.tensor([0, 1]), 3)
    relaxation = bounds.relax(network, box, rows, slope="adaptive")
    whole = bounds.deployment_margin(relaxation, torch.float32)
    found = margin_by_parts(relaxation, torch.float32, time_limit=None)
    assert bool((found < 0.7 * whole).all())
    assert bool((found > 0).all())
    single = network.to(torch.float32)
    for image in range(2):
        points = box.lower[image] + 2 * torch.rand(2000, 4, dtype=torch.float64)
        points = points.float()
        exact, rounded = network(points.double()), single(points).double()
        off = ((rounded - exact) @ rows.C[image].T).abs().amax(0)
        assert bool((off <= found[image]).all())


def test_what_has_no_parts_is_as_it_was() -> None:
    network = bounds.from_torch(nn.Linear(2, 2), (2,), dtype=torch.float64)
    rows = bounds.margins(0, 2)
    centre = torch.zeros(1, 2, dtype=torch.float64)
    for inputs in (bounds.Ball(centre, radius=1.0, norm=2), bounds.Box(centre, centre)):
        relaxation = bounds.relax(network, inputs, rows)
        whole = bounds.deployment_margin(relaxation, torch.float32)
        assert torch.equal(margin_by_parts(relaxation, torch.float32, time_limit=None), whole)
