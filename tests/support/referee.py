"""Relaxations for the tests of the referee."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn

import bounds
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode
from tests.support.networks import Dice


def random_net(*widths: int, seed: int = 0, scale: float = 1.0) -> Network:
    """Dense layers with ReLUs between them; every weight and bias times `scale`."""
    model = random_model(*widths, seed=seed, scale=scale)
    return bounds.from_torch(model, widths[:1]).detach()


def random_model(*widths: int, seed: int = 0, scale: float = 1.0) -> nn.Sequential:
    """The same as a module."""
    dice = Dice(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layer = nn.Linear(inputs, outputs).double()
        with torch.no_grad():
            layer.weight.copy_(dice.normal(outputs, inputs) * scale / math.sqrt(inputs))
            layer.bias.copy_(dice.normal(outputs) * scale / 4)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def random_relaxation(
    *widths: int, seed: int = 0, scale: float = 1.0, batch: int = 2, radius: float = 0.5
) -> bounds.Relaxation:
    x = Dice(seed + 1).normal(batch, widths[0])
    return bounds.relax(
        random_net(*widths, seed=seed, scale=scale),
        bounds.Ball(x, radius=radius),
        bounds.margins(0, widths[-1]),
    )


def hand_made_relaxation() -> bounds.Relaxation:
    """Five ReLUs of one and the same x in [-1, 1], told apart by the bounds they claim.

    z0 is unstable with l, u = -2, 2, so its upper face is z0 <= (x + 2) / 2. z1 is active and z2
    dead, for other x than these: only the claimed bounds count. z3 and z4 have l = u, active and
    dead.
    """
    model = nn.Sequential(nn.Linear(1, 5), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.fill_(0.0)
    rows = torch.tensor(
        [
            [1.0, 0, 0, 0, 0],
            [-1.0, 0, 0, 0, 0],
            [1.0, -0.75, 0, 0, 0],
            [1.0, -2.0, 0, 0, 0],
            [-1.0, 0.75, 0, 0, 0],
            [0, 1.0, 0, 0, 0],
            [0, 0, -1.0, 0, 0],
            [0, 0, 1.0, 0, 0],
            [0, 0, 0, 1.0, 0],
            [0, 0, 0, 0, -1.0],
            [0, 0, 0, 0, 0],
        ],
        dtype=torch.float64,
    )
    lower = torch.tensor([[-2.0, 0.0, -3.0, 0.5, -0.5]], dtype=torch.float64)
    upper = torch.tensor([[2.0, 3.0, 0.0, 0.5, -0.5]], dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    return bounds.Relaxation(
        bounds.from_torch(model, (1,)),
        bounds.Box(-one, one),
        rows.unsqueeze(0),
        torch.zeros(1, len(rows), dtype=torch.float64),
        (bounds.ReluBounds(lower, upper),),
    )


#: The optima of the rows above, and the binding faces of z0 where the optimum determines them.
HAND_MADE = [0.0, -1.5, 0.0, -1.0, -1.25, -1.0, 0.0, 0.0, -1.0, 0.0, 0.0]
FACES = {1: "upper face of relu '1' neuron 0", 3: "z >= ẑ of relu '1' neuron 0"}


def node_values(network: Network, x: Tensor) -> np.ndarray:
    """Every node's value for one input, flattened as the variables of the LP are."""
    values: list[Tensor] = []
    for node in network.nodes:
        match node:
            case InputNode():
                values.append(x.unsqueeze(0))
            case AffineNode(parents=(parent,), operation=operation):
                values.append(operation.forward(values[parent]))
            case SumNode(parents=parents):
                values.append(torch.stack([values[parent] for parent in parents]).sum(0))
            case ReluNode(parents=(parent,)):
                values.append(values[parent].relu())
    return torch.cat([value.flatten() for value in values]).detach().numpy()
