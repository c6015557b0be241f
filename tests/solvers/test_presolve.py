"""LPs by themselves have the optima that they have as rows of their input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bounds
import lp_reference
from bounds import Relaxation, Status
from bounds.models import load_digits_images, load_digits_model
from bounds.solvers.interior_point import presolve
from bounds.solvers.interior_point.condense import condense
from bounds.solvers.interior_point.presolve import Presolved
from tests.support.problems import Problem, problems


def solved(relaxation: Relaxation, gain: float, monkeypatch: pytest.MonkeyPatch) -> bounds.Solution:
    with monkeypatch.context() as patch:
        patch.setattr(presolve, "GAIN", gain)
        patch.setattr(Presolved, "pays", property(lambda self: gain == 0.0))
        return bounds.solve(relaxation, method="interior_point")


@given(problem=problems(), data=st.data())
def test_dual_equals_lp_by_themselves(problem: Problem, data: st.DataObject) -> None:
    relaxation = problem.relax(intermediate=data.draw(st.sampled_from(["interval", "backward"])))
    with pytest.MonkeyPatch.context() as monkeypatch:
        alone = solved(relaxation, 0.0, monkeypatch)
        together = solved(relaxation, torch.inf, monkeypatch)
    assert (alone.status == Status.OPTIMAL).all()
    slack = 1e-8 * (1 + together.lower.abs())
    assert ((alone.lower - together.lower).abs() <= slack).all()
    referee = torch.from_numpy(lp_reference.solve(relaxation).dual_value)
    assert ((alone.lower - referee).abs() <= 1e-6 * (1 + referee.abs())).all()


@given(problem=problems())
def test_what_is_left_of_an_lp_has_its_optimum(problem: Problem) -> None:
    """The substituted objective, with all neurons left in, is the same LP for the referee."""
    relaxation = problem.relax()
    lp = condense(relaxation.double())
    presolved = Presolved.of(lp)
    assert (presolved.lp.c_z[~presolved.kept] == 0).all()
    # What is left reads nothing that went, and what went is worth c u / (u − l).
    reads = (lp.L != 0).unsqueeze(1)
    kept = presolved.kept
    assert not (kept.unsqueeze(3) & ~kept.unsqueeze(2) & reads).any()
    assert (presolved.nu[kept] == 0).all()
    assert (presolved.nu <= 0).all()


def digits(model: str, radius: float) -> Relaxation:
    images, labels = load_digits_images()
    network = bounds.from_torch(load_digits_model(model), (1, 8, 8), dtype=torch.float64)
    ball = bounds.Ball(images[:2].double(), radius=radius, lower=0.0, upper=1.0)
    return bounds.relax(network, ball, bounds.margins(labels[:2], 10)).double()


def test_about_half_of_the_last_layer_goes() -> None:
    presolved = Presolved.of(condense(digits("digits_standard", 0.05)))
    start = presolved.lp.layers[-2]
    last = presolved.kept[:, :, start:].double().mean()
    assert 0.2 < last < 0.8


def test_a_convolution_is_presolved_to_what_its_rows_see() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    network = bounds.from_torch(model.double(), (1, 12, 12)).detach()
    x = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    rows = torch.eye(4 * 12 * 12, dtype=torch.float64)[::37]
    relaxation = bounds.relax(network, bounds.Ball(x, radius=0.5), bounds.Specification(rows))
    presolved = Presolved.of(condense(relaxation))
    assert presolved.pays
    assert presolved.used.sum(2).max() <= 25
    assert presolved.kept.sum(2).max() <= 36 < min(relaxation.unstable)
    groups = list(presolved.alone(2**12))
    assert len(groups) > 1
    at = torch.cat([group.at for group in groups])
    assert at.sort().values.tolist() == list(range(len(rows)))


def test_bounds_that_nobody_vouches_for_are_left_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their l ≤ ẑ ≤ u may not follow from the rest, and without a neuron they would be lost."""
    relaxation = digits("digits_standard", 0.05)
    given_ = Relaxation(
        relaxation.network,
        relaxation.input_set,
        relaxation.C,
        relaxation.d,
        tuple(
            bounds.ReluBounds(torch.where(k.unstable, k.lower / 2, k.lower), k.upper)
            for k in relaxation.relu_bounds
        ),
    )
    monkeypatch.setattr(Presolved, "pays", property(lambda self: True))
    solution = bounds.solve(given_, method="interior_point", sound=False)
    referee = torch.from_numpy(lp_reference.solve(given_).dual_value)
    known = torch.isfinite(referee)
    assert known.any()
    error = (solution.lower - referee).abs() / (1 + referee.abs())
    assert (error[known] <= 1e-6).all()
