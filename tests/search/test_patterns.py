"""Searches against all activation patterns of small networks, an LP or a cone program each."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import bounds
import lp_reference
from bounds import Relaxation
from bounds.certification.relu_splits import Bounding, ReluSplits
from bounds.deadline import NEVER
from tests.support.referee import random_net

INPUTS, NEURONS = 3, 5


def over_patterns(relaxation: Relaxation) -> float:
    """The minimum of the only row: the least optimum of what is linear where a pattern holds."""
    masks = [neurons.unstable for neurons in relaxation.relu_bounds]
    sizes = [int(mask.sum()) for mask in masks]
    least = math.inf
    for pattern in itertools.product([-1.0, 1.0], repeat=sum(sizes)):
        signs = torch.tensor(pattern, dtype=torch.float64).split(sizes)
        phases: list[Tensor] = []
        for mask, part in zip(masks, signs, strict=True):
            phases.append(torch.zeros(mask.shape, dtype=torch.float64))
            phases[-1][mask] = part
        found = lp_reference.solve(relaxation.split(phases))
        if found.status[0, 0] == "optimal":
            least = min(least, float(found.value[0, 0]))
    return least


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("seed", range(2))
def test_a_search_says_the_sign_of_the_least_pattern(norm: float, seed: int) -> None:
    network = random_net(INPUTS, NEURONS, 1, seed=seed)
    ball = bounds.Ball(torch.zeros(1, INPUTS).double(), radius=1.0, norm=norm)
    row = bounds.Specification(torch.ones(1, 1).double())
    relaxation = bounds.relax(network, ball, row)
    least = over_patterns(relaxation)
    x = bounds.solve(relaxation, method="fixed_slope").certificate.x[0]
    assert least <= float(value(relaxation, x).min()) + 1e-6
    boundings: list[Bounding] = ["slopes"] if norm == 2 else ["lp", "slopes"]
    for shift, bounding in itertools.product((-0.05, 0.05), boundings):
        shifted = replace(relaxation, d=relaxation.d - least + shift)

        def confirm(points: Tensor, shifted: Relaxation = shifted) -> bool:
            return bool((value(shifted, points) <= 0).any())

        splits = ReluSplits(
            shifted, confirm, lambda k, starts: False, lambda _: None, 1, 10_000, bounding
        )
        assert splits.excluded(0, [0], NEVER) is (shift > 0)
        assert splits.state.ended == ("closed" if shift > 0 else "found")


def value(relaxation: Relaxation, points: Tensor) -> Tensor:
    rows = relaxation.network(points).flatten(1) @ relaxation.C[0].flatten(1).T
    return rows + relaxation.d[0]
