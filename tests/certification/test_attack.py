"""The attack: it finds minima that are known in closed form, and stays in its set."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bounds import Box, Network, from_torch
from bounds.certification.attacks import FEWEST, MOST, attack, restarts
from bounds.deadline import Deadline
from bounds.sets.box import InputSet
from tests.support.networks import Dice, seeds
from tests.support.problems import NORMS, Problem, problems


def search(network: Network, input_set: InputSet, C: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    centre = (input_set.lower + input_set.upper).unsqueeze(1) / 2
    generator = torch.Generator().manual_seed(0)
    random, never = restarts(network), Deadline(None)
    return attack(
        network, input_set, C, d, centre, random=random, generator=generator, deadline=never
    )


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), seeds)
def test_the_minimum_of_an_affine_row_is_found(
    inputs: int, outputs: int, batch: int, seed: int
) -> None:
    dice = Dice(seed)
    model = nn.Sequential(nn.Linear(inputs, outputs, dtype=torch.float64))
    network = from_torch(model, (inputs,))
    lower = dice.normal(batch, inputs)
    box = Box(lower, lower + dice.uniform(batch, inputs))
    C, d = dice.normal(batch, 1, outputs), dice.normal(batch, 1)
    point, value = search(network, box, C, d)
    weight, bias = model[0].weight.detach(), model[0].bias.detach()
    slope = (C @ weight).squeeze(1)
    corner = torch.where(slope > 0, box.lower, box.upper)
    expected = (slope * corner).sum(1) + (C @ bias).squeeze(1) + d.squeeze(1)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(point, corner)


@given(problems(norms=NORMS))
def test_points_lie_in_their_set_and_have_the_value_that_is_said(problem: Problem) -> None:
    relaxation = problem.relax(intermediate="interval")
    input_set, C, d = relaxation.input_set, relaxation.C, relaxation.d
    point, value = search(relaxation.network, input_set, C, d)
    assert input_set.contains(point.unsqueeze(1)).all()
    with torch.no_grad():
        outputs = problem.model(point).flatten(1)
    rows = torch.einsum("bro,bo->br", C.flatten(2), outputs) + d
    torch.testing.assert_close(value, rows.amax(1), rtol=1e-9, atol=1e-9)
    centre = (input_set.lower + input_set.upper) / 2
    with torch.no_grad():
        start = problem.model(input_set.project(centre.unsqueeze(1)).squeeze(1)).flatten(1)
    at_start = (torch.einsum("bro,bo->br", C.flatten(2), start) + d).amax(1)
    assert (value <= at_start + 1e-9).all()


@given(st.floats(1e-12, 1e-8), seeds)
def test_what_float32_takes_for_negative_is_none(least: float, seed: int) -> None:
    """relu(x + 1) − relu(x) − 1, which is 0 but for rounding, and a little more."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    for parameter, numbers in zip(
        model.parameters(), ([[1.0], [1.0]], [1.0, 0.0], [[1.0, -1.0]], [least - 1]), strict=True
    ):
        parameter.data = torch.tensor(numbers, dtype=torch.float64)
    lower = Dice(seed).uniform(1, 1)
    one = torch.ones(1, 1, 1).double()
    point, value = search(from_torch(model, (1,)), Box(lower, lower + 0.5), one, one[0] * 0)
    assert 0 < value.item() < 2e-8
    assert (from_torch(model, (1,))(point).float() > 0).all()


@pytest.mark.parametrize(("scale", "centre"), [(1e30, 0.5), (1.0, 2.0**30)])
def test_beyond_what_float32_has_or_tells_apart(scale: float, centre: float) -> None:
    """Numbers that exceed it, and points that are one there: in float64 then."""
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    for parameter, number in zip(
        model.parameters(), (scale, -scale * (centre - 1), scale, -(scale**2)), strict=True
    ):
        parameter.data.fill_(number)
    x, one = torch.full((1, 1), centre).double(), torch.ones(1, 1, 1).double()
    network = from_torch(model, (1,))
    point, value = search(network, Box(x - 0.25, x + 0.25), one, one[0] * 0)
    assert point.item() == centre - 0.25
    assert value.item() == pytest.approx(-0.25 * scale**2)


def test_all_rows_of_a_disjunct_have_to_be_negative() -> None:
    # −x ≤ −0.9 and x ≤ 0.95 hold together only on a twentieth of [0, 1].
    network = from_torch(nn.Sequential(nn.Identity(), nn.Flatten()), (1,))
    C = torch.tensor([[[-1.0], [1.0]]], dtype=torch.float64)
    d = torch.tensor([[0.9, -0.95]], dtype=torch.float64)
    box = Box(torch.zeros(1, 1).double(), torch.ones(1, 1).double())
    point, value = search(network, box, C, d)
    assert 0.9 < point.item() < 0.95
    assert value.item() < 0


def test_the_seed_decides_and_time_ends() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2)).double()
    network = from_torch(model, (4,))
    box = Box(-torch.ones(1, 4).double(), torch.ones(1, 4).double())
    C, d = torch.ones(1, 1, 2).double(), torch.zeros(1, 1).double()
    first, again = search(network, box, C, d), search(network, box, C, d)
    assert torch.equal(first[0], again[0])
    late = Deadline(1e-9)
    starts = torch.zeros(1, 1, 4).double()
    cut = attack(network, box, C, d, starts, random=2, generator=torch.Generator(), deadline=late)
    assert torch.isfinite(cut[1]).all()  # the best of its starting points
    assert cut[1] >= first[1]


def test_small_networks_get_more_restarts() -> None:
    def of(width: int) -> int:
        return restarts(from_torch(nn.Sequential(nn.Linear(2, width)), (2,)))

    assert of(2) == MOST
    assert FEWEST < of(1000) < MOST
    assert of(100_000) == FEWEST
