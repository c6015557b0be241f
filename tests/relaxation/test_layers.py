"""What is shown of networks, relaxations and solutions: counts and names, never the weights."""

from __future__ import annotations

import json

import torch
from hypothesis import given

import bounds
from tests.support.problems import Problem, problems


@given(problems())
def test_layers_count_every_neuron_once(problem: Problem) -> None:
    relaxation = problem.relax()
    found = relaxation.layers
    assert len(found) == len(problem.network.relus)
    total = [0] * problem.batch
    for layer, neurons in zip(found, relaxation.relu_bounds, strict=True):
        size = neurons.lower[0].numel()
        assert layer.shape == neurons.lower.shape[1:]
        assert ((layer.active + layer.dead + layer.unstable + layer.split) == size).all()
        assert (layer.lower == neurons.lower.detach().numpy()).all()
        total = [a + b for a, b in zip(total, layer.unstable.tolist(), strict=True)]
    assert tuple(total) == relaxation.unstable
    json.dumps([layer.to_dict() for layer in found])


def test_layers_of_the_model_have_an_entry_each() -> None:
    model = torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)),
        *(torch.nn.Flatten(), torch.nn.Linear(8, 4), torch.nn.LeakyReLU(), torch.nn.Linear(4, 2)),
    )
    network = bounds.from_torch(model, (1, 6, 6))
    assert [layer.name for layer in network.layers] == list("0123456")
    outputs: list[torch.Size] = []
    x = torch.zeros(1, 1, 6, 6)
    for part in model:
        x = part(x)
        outputs.append(x.shape[1:])
    assert [layer.shape for layer in network.layers] == outputs
    assert [layer.relus for layer in network.layers] == [(), (0,), (1, 2), (), (), (3,), ()]


def test_what_is_printed() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.125)
    network = bounds.from_torch(model.double(), (2,))
    ball = bounds.Ball(torch.zeros(12, 2).double(), radius=torch.linspace(0, 3, 12).double())
    relaxation = bounds.relax(network, ball, bounds.margins(0, classes=2))
    phases = [neurons.unstable.double() for neurons in relaxation.relu_bounds]
    solution = bounds.solve(relaxation)
    assert repr(network).splitlines() == [
        "Network (2,) → (2,), 17 numbers",
        "  0: Input (2,) 'input'",
        "  1: Linear of 0 (3,) '0'",
        "  2: Relu of 1 (3,) '1'",
        "  3: Linear of 2 (2,) '2'",
    ]
    whole, line = repr(relaxation).splitlines()
    assert whole == "Relaxation of 12 inputs, 1 rows each, torch.float64 (backward, fixed)"
    assert line.startswith("  1 (3,): active ")
    assert "split" in repr(relaxation.split(phases))
    shown = repr(solution).splitlines()
    head = f"Solution of 12 inputs, 1 rows each, by {solution.method!r} (sound)"
    assert shown[0] == f"{head}: lower ≤ LP optimum ≤ upper"  # which is no bound of the network
    assert "1 OPTIMAL" in shown[1]
    assert (len(shown), shown[-1]) == (12, "  …")
    text = f"Certificate of 12 inputs, 1 rows each, 3 neurons (claimed by {solution.method!r})"
    assert repr(solution.certificate) == text
