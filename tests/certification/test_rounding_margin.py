"""What float32 adds over a box, bounded part by part, against what float32 computes."""

from __future__ import annotations

import itertools

import pytest
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


def large(*scales: float) -> bounds.Network:
    """Of which the first output is far above the second one."""
    pairs = [(nn.ReLU(), nn.Linear(2, 2)) for _ in scales[1:]]
    model = nn.Sequential(nn.Linear(1, 2), *itertools.chain(*pairs)).double()
    with torch.no_grad():
        for layer, scale in zip(model[::2], scales, strict=True):
            layer.weight.copy_(scale * torch.eye(2).double()[:, : layer.in_features])
            layer.bias.copy_(scale * torch.tensor([1.0, 0.0]).double())
    return bounds.from_torch(model, (1,)).detach()


@pytest.mark.parametrize("scales", [(1e39, 1e-10), (1e20, 1e20), (1.0, 1e-30, 1e39)])
@pytest.mark.parametrize("method", ["auto", "input_split", "relu_split", "no_split"])
def test_what_overflows_where_it_is_deployed_is_never_proved(
    scales: tuple[float, ...], method: str
) -> None:
    """A parameter, or a sum, that float32 cannot hold: it computes infinity or NaN there."""
    network, x = large(*scales), torch.zeros(1, 1, dtype=torch.float64)
    options = {"radius": 0.5, "method": method}
    assert bounds.certify(network, x, 0, **options).verdict == "unsat"  # type: ignore[arg-type]
    single = network.to(torch.float32)
    assert not torch.isfinite(single(x.float())).all()
    found = bounds.certify(network, x, 0, deployed=torch.float32, **options)  # type: ignore[arg-type]
    assert found.verdict == "unknown"
    relaxation = bounds.relax(network, bounds.Box(x - 0.5, x + 0.5), bounds.margins(0, 2))
    assert bounds.deployment_margin(relaxation, torch.float32).tolist() == [[float("inf")]]
    assert bool(bounds.deployment_margin(relaxation, torch.float64).isfinite().all())


def test_large_numbers_that_float32_holds_are_proved() -> None:
    network, x = large(1e18, 1e18), torch.zeros(1, 1, dtype=torch.float64)
    assert bounds.certify(network, x, 0, radius=0.5, deployed=torch.float32).verdict == "unsat"
