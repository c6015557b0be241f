"""The multipliers β of split neurons in the ascent on slopes, against the LPs of the referee."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
import lp_reference
from bounds import Relaxation
from bounds.solvers.slopes.ascent import SlopeAscent
from tests.solvers.test_splits import phases_at, split
from tests.support.networks import seeds
from tests.support.problems import NORMS, Problem, points, problems
from tests.support.referee import random_relaxation


def ascent_of(relaxation: Relaxation, iterations: int) -> SlopeAscent:
    ascent = SlopeAscent(
        relaxation.network, relaxation.relu_bounds, relaxation.input_set, relaxation.C
    )
    for _ in range(iterations):
        ascent.advance()
    return ascent


def some_split(relaxation: Relaxation, seed: int) -> Relaxation:
    """With phases that a point of the input set has, so that the LP has one."""
    return relaxation.split(phases_at(relaxation, points(relaxation.input_set, 1, seed), seed))


def optimum(relaxation: Relaxation) -> tuple[Tensor, Tensor]:
    """The LP's, and by how much it is in doubt."""
    referee = lp_reference.solve(relaxation)
    assert (referee.status == "optimal").all(), referee.status
    lp, proved = torch.from_numpy(referee.value), torch.from_numpy(referee.dual_value)
    return lp, (lp - proved).abs() + 1e-8 * lp.abs().clamp(min=1)


@given(problem=problems(norms=NORMS), seed=seeds, iterations=st.integers(0, 60))
def test_no_bound_of_a_side_is_above_its_lp(problem: Problem, seed: int, iterations: int) -> None:
    """And every bound is d, as `bounds.dual.dual` has it, at the ascent's multipliers."""
    _, side, _ = split(problem, seed)
    ascent = ascent_of(side, iterations)
    lp, doubt = optimum(side)
    assert (ascent.best + side.d <= lp + doubt).all()
    certificate = bounds.Certificate(ascent.scatter(ascent.best_nu), torch.zeros(()), ())
    again = certificate.lower(side) - side.d
    torch.testing.assert_close(ascent.best, again, rtol=1e-11, atol=1e-11)


@settings(max_examples=settings().max_examples // 2)
@given(
    inputs=st.integers(2, 6),
    neurons=st.integers(1, 20),
    radius=st.sampled_from([0.1, 0.5, 1.0]),
    seed=seeds,
)
def test_with_one_hidden_layer_it_arrives_at_the_lp_of_a_side(
    inputs: int, neurons: int, radius: float, seed: int
) -> None:
    relaxation = random_relaxation(inputs, neurons, 3, seed=seed, radius=radius)
    side = some_split(relaxation, seed)
    assume(side.is_split)
    lp, doubt = optimum(side)
    found = ascent_of(side, 1000).best + side.d
    assert (found <= lp + doubt).all()
    assert (lp - found <= 2e-3 * (1 + lp.abs())).all(), lp - found


@pytest.mark.parametrize("seed", range(6))
def test_beta_only_adds(seed: int) -> None:
    """Slopes that find their best with β held at 0 find no better bound than with it."""
    side = some_split(random_relaxation(5, 16, 12, 3, seed=seed), seed)
    held = ascent_of(side, 0)
    held._unit = torch.where(held._side == 0, held._unit, 0.0)
    for _ in range(500):
        held.advance()
    free = ascent_of(side, 500)
    assert (free.best >= held.best - 1e-3 * (1 + held.best.abs())).all()
    assert (free.best > held.best + 1e-2).any()


def test_the_direction_of_beta_is_that_of_the_dual() -> None:
    """Against differences of `bounds.dual.dual` in ν, where no coefficient changes its sign."""
    side = some_split(random_relaxation(5, 16, 12, 3, seed=1), 1)
    ascent = ascent_of(side, 7)
    up = ascent._forward() * ascent._side.abs()
    step = 1e-6
    before = ascent.best.fill_(-torch.inf) * 0
    ascent._backward()
    before = ascent.best.clone()
    for neuron in ascent._side[0, 0].nonzero().flatten().tolist():
        kept = ascent._slopes.clone()
        ascent._slopes = kept.clone()
        ascent._slopes[:, :, neuron] += step
        ascent.best.fill_(-torch.inf)
        ascent._backward()
        difference = (ascent.best - before) / step
        ascent._slopes = kept
        torch.testing.assert_close(difference[0], up[0, :, neuron], rtol=1e-3, atol=1e-3)


def test_where_no_input_has_the_phases_a_bound_grows() -> None:
    """x ≥ 0 and x + 1 ≤ 0."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    model.requires_grad_(False)
    model[0].weight.copy_(torch.ones(2, 1))
    model[0].bias.copy_(torch.tensor([0.0, 1.0]))
    model[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
    model[2].bias.zero_()
    ball = bounds.Ball(torch.zeros(1, 1, dtype=torch.float64), radius=2.0)
    rows = bounds.Specification(torch.tensor([[1.0]], dtype=torch.float64))
    relaxation = bounds.relax(bounds.from_torch(model, (1,)), ball, rows)
    side = relaxation.split([torch.tensor([[1.0, -1.0]])])
    assert ascent_of(side, 10).best.item() > 0
    assert ascent_of(side, 200).best.item() > 10
