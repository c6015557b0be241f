"""The one-pass bounds against their definition: linear bounds of each ReLU, propagated in numpy.

Any multipliers give a valid bound, so validity does not show that these are Wong & Kolter's and
CROWN's; this does.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bounds
from bounds.dual.fixed_slope import adaptive
from bounds.relaxation.triangle import ReluBounds
from tests.support.networks import Dice, seeds

Slope = Literal["fixed", "adaptive"]


def propagate(relaxation: bounds.Relaxation, model: nn.Sequential, slope: Slope) -> np.ndarray:
    """min of each row over the box, with s ẑ ≤ … ≤ s (ẑ − l) for z, layer by layer backwards."""
    batch, rows = relaxation.C.shape[:2]
    values = np.zeros((batch, rows))
    for image in range(batch):
        box = [b[image].numpy() for b in (relaxation.input_set.lower, relaxation.input_set.upper)]
        for row in range(rows):
            a, constant = relaxation.C[image, row].numpy(), float(relaxation.d[image, row])
            position = len(relaxation.relu_bounds)
            for layer in reversed(list(model)):
                if isinstance(layer, nn.Linear):
                    constant += a @ layer.bias.detach().numpy()
                    a = a @ layer.weight.detach().numpy()
                    continue
                position -= 1
                neurons = relaxation.relu_bounds[position]
                below = np.zeros_like(a)
                for i, (l, u) in enumerate(
                    zip(neurons.lower[image].tolist(), neurons.upper[image].tolist(), strict=True)
                ):
                    if u <= 0 or l >= 0:
                        below[i] = float(l >= 0)
                    elif a[i] < 0:  # z ≤ u (ẑ − l) / (u − l)
                        below[i] = u / (u - l)
                        constant -= a[i] * below[i] * l
                    elif slope == "fixed":  # z ≥ u ẑ / (u − l)
                        below[i] = u / (u - l)
                    else:  # z ≥ ẑ or z ≥ 0, whichever leaves the smaller triangle
                        below[i] = float(u > -l)
                a = a * below
            values[image, row] = constant + np.where(a > 0, a * box[0], a * box[1]).sum()
    return values


def dense(widths: list[int], seed: int) -> nn.Sequential:
    dice = Dice(seed)
    layers: list[nn.Module] = []
    for k, (fan_in, fan_out) in enumerate(pairwise(widths)):
        layer = nn.Linear(fan_in, fan_out).double()
        layer.weight.data, layer.bias.data = dice.normal(fan_out, fan_in), dice.normal(fan_out)
        layers += [layer] if k == len(widths) - 2 else [layer, nn.ReLU()]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("slope", ["fixed", "adaptive"])
@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    radius=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    seed=seeds,
)
def test_bound_is_that_of_its_linear_relaxation(
    slope: Slope, widths: list[int], radius: float, seed: int
) -> None:
    model, dice = dense(widths, seed), Dice(seed + 1)
    network = bounds.from_torch(model, widths[:1]).detach()
    ball = bounds.Ball(dice.normal(2, widths[0]), radius=radius)
    rows = bounds.Specification(dice.normal(2, 3, widths[-1]), dice.normal(3))
    relaxation = bounds.relax(network, ball, rows)
    solution = bounds.solve(
        relaxation, method="fixed_slope" if slope == "fixed" else "adaptive_slope"
    )
    expected = propagate(relaxation, model, slope)
    np.testing.assert_allclose(solution.lower.numpy(), expected, rtol=1e-10, atol=1e-10)


def test_wong_kolter_of_one_neuron_by_hand() -> None:
    """z = relu(x), x in [−1, 3]: slope 3/4, so −z ≥ −(3/4)(x + 1) ≥ −3 and z ≥ (3/4) x ≥ −3/4."""
    one = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for layer in (one[0], one[2]):
            layer.weight.fill_(1.0)  # type: ignore[union-attr, operator]
            layer.bias.zero_()  # type: ignore[union-attr, operator]
    network = bounds.from_torch(one, (1,)).detach()
    ball = bounds.Ball(torch.ones(1, dtype=torch.float64), radius=2.0)
    rows = bounds.Specification(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    relaxation = bounds.relax(network, ball, rows)
    fixed = bounds.solve(relaxation, method="fixed_slope").lower.flatten()
    adaptive = bounds.solve(relaxation, method="adaptive_slope").lower.flatten()
    exact = bounds.solve(relaxation).lower.flatten()
    np.testing.assert_allclose(fixed, [-3.0, -0.75], atol=1e-12)
    np.testing.assert_allclose(adaptive, [-3.0, -1.0], atol=1e-12)
    np.testing.assert_allclose(exact, [-3.0, 0.0], atol=1e-8)


def test_the_adaptive_slope_cuts_off_the_smaller_triangle() -> None:
    """By the number: l = −1 and u = 2, 1, 0.5, for coefficients of either sign and size."""
    upper = torch.tensor([[2.0, 1.0, 0.5]])
    neurons = ReluBounds(-torch.ones(1, 3), upper)
    for size in (0.5, 3.0):
        arriving = size * torch.tensor([[[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]])
        faces = -upper[0] / (1 + upper[0])
        expected = size * torch.stack([torch.tensor([1.0, 0.0, 0.0]), faces])
        torch.testing.assert_close(adaptive(0, arriving, neurons)[0], expected)
