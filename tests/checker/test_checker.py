"""`bounds.check` accepts what honest solves claim, and proves no more than is true."""

from __future__ import annotations

import math
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bounds
import lp_reference
from benchmarks.published import instances
from bounds.models import DIGITS_SHAPE, load_digits_images, load_digits_model
from bounds.sets.norm_balls import L2Ball
from tests.support.certificates import Arrays, Statement, edit, reasons, save
from tests.support.problems import NORMS, Problem, problems
from tests.support.referee import random_net

METHODS = ("fixed_slope", "adaptive_slope", "optimised_slope", "exact", "pdhg")
RULES: list[dict[str, Any]] = [
    {"intermediate": "interval"},
    {"intermediate": "backward", "slope": "fixed"},
    {"intermediate": "backward", "slope": "adaptive"},
]


def checked(relaxation: bounds.Relaxation, **options: Any) -> tuple[bounds.Solution, bounds.Check]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "certificate.safetensors"
        solution = save(path, relaxation, **options)
        return solution, bounds.check(path, relaxation.network)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: " ".join(rule.values()))
@given(problem=problems(norms=NORMS), method=st.sampled_from(METHODS))
def test_honest_certificates_are_accepted(
    problem: Problem, method: str, rule: dict[str, Any]
) -> None:
    relaxation = problem.relax(**rule)
    limit = {"iteration_limit": 100} if method in ("pdhg", "optimised_slope") else {}
    solution, check = checked(relaxation, method=method, **limit)
    assert check.accepted, reasons(check)
    lower, upper = solution.lower.numpy(), solution.upper.numpy()
    assert (check.lower >= lower).all()
    assert (check.upper <= upper).all()
    assert (check.lower <= check.upper).all()
    assert (check.verified == (check.lower > 0).all(1)).all()


@given(problem=problems(norms=NORMS))
def test_what_is_proved_lies_around_the_optimum(problem: Problem) -> None:
    relaxation = problem.relax()
    _, check = checked(relaxation, method="exact")
    reference = lp_reference.solve(relaxation)
    cone = isinstance(relaxation.input_set, L2Ball)
    found = reference.status == "optimal"
    slack = (1e-5 if cone else 1e-7) * (1 + np.abs(reference.value))
    assert (check.lower <= reference.value + slack)[found].all()
    assert (check.upper >= reference.value - slack)[found].all()


WEIGHT, BIAS, OUT, LAST = [[1.0, -0.25], [0.0, 1.0]], [0.0, 0.1], [1.0, -1 / 3], 0.7


def tiny_network() -> bounds.Network:
    """relu(x₀ − x₁ / 4) − relu(x₁ + 0.1) / 3 + 0.7, with the float64 that these numbers are."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    numbers = {"0.weight": WEIGHT, "0.bias": BIAS, "2.weight": [OUT], "2.bias": [LAST]}
    model.load_state_dict({k: torch.tensor(v, dtype=torch.float64) for k, v in numbers.items()})
    return bounds.from_torch(model, (2,)).detach()


def test_the_proved_bound_is_the_dual_function_to_the_last_bit(tmp_path: Path) -> None:
    """d(ν) of two neurons over a box, by hand and in fractions."""
    network, path = tiny_network(), tmp_path / "certificate"
    x, one = torch.tensor([[0.05, 0.0]]).double(), torch.ones(1, 1).double()
    rows = bounds.Specification(one, torch.zeros(1).double())
    relaxation = bounds.relax(network, bounds.Ball(x, radius=0.3), rows)
    save(path, relaxation, method="adaptive_slope")
    nu = [0.3, -0.2]

    def other_multipliers(statement: Statement, arrays: Arrays) -> None:
        arrays["multipliers.0"][:, 0] = nu
        arrays["lower"][:] = -np.inf

    check = bounds.check(edit(path, other_multipliers), network)
    assert check.accepted, reasons(check)

    def fractions(tensor: torch.Tensor) -> list[Fraction]:
        return [Fraction(number) for number in tensor[0].tolist()]

    low, high = fractions(relaxation.input_set.lower), fractions(relaxation.input_set.upper)
    [neurons] = relaxation.relu_bounds
    value, at_input = Fraction(LAST), [Fraction(0)] * 2
    for i, (l, u) in enumerate(
        zip(fractions(neurons.lower), fractions(neurons.upper), strict=True)
    ):
        assert l < 0 < u
        n, c = Fraction(nu[i]), Fraction(OUT[i])
        value += n * Fraction(BIAS[i]) + min(-n * l, 0, (c - n) * u)
        at_input = [a + n * Fraction(w) for a, w in zip(at_input, WEIGHT[i], strict=True)]
    value += sum(min(a * low[j], a * high[j]) for j, a in enumerate(at_input))
    proved = float(check.lower[0, 0])
    assert Fraction(proved) <= value < Fraction(math.nextafter(proved, math.inf))


@pytest.mark.parametrize("name", ["digits_robust", "digits_standard"])
@pytest.mark.parametrize(("norm", "radius"), [(math.inf, 0.1), (1, 1.0), (2, 0.4)])
def test_the_shipped_networks(tmp_path: Path, name: Any, norm: float, radius: float) -> None:
    images, labels = load_digits_images()
    network = bounds.from_torch(load_digits_model(name), DIGITS_SHAPE).detach()
    network = network.to(torch.float64)
    ball = bounds.Ball(images[:1].double(), radius=radius, norm=norm, lower=0.0, upper=1.0)
    relaxation = bounds.relax(network, ball, bounds.margins(label=labels[:1], classes=10))
    solution = save(tmp_path / "certificate", relaxation)
    check = bounds.check(tmp_path / "certificate", network)
    assert check.accepted, reasons(check)
    assert (check.verified == solution.verified.numpy()).all()
    assert (check.gap >= check.upper - check.lower).all()
    assert (check.gap < 1e-4).all()
    trusting = bounds.check(tmp_path / "certificate", network, trust_bounds=True)
    assert trusting.accepted, reasons(trusting)
    assert (trusting.lower == check.lower).all()
    assert not trusting.verified.any()  # which is about the network


@pytest.mark.parametrize(
    ("name", "radius"),
    [("experiment_2/mnist_MLP_9_100_LPD.pth", 0.05), ("experiment_2/mnist_cnn_small_LPD.pth", 0.1)],
)
def test_published_networks(shared_data: Path, tmp_path: Path, name: str, radius: float) -> None:
    _, relaxation = instances.relaxation(shared_data, name, radius, slice(0, 1))
    solution = save(tmp_path / "certificate", relaxation)
    check = bounds.check(tmp_path / "certificate", relaxation.network)
    assert check.accepted, reasons(check)
    assert (check.verified == solution.verified.numpy()).all()


@pytest.mark.parametrize("intermediate", ["optimised", "lp"])
def test_found_bounds_are_proved_only_where_they_are_trusted(
    intermediate: Literal["optimised", "lp"], tmp_path: Path
) -> None:
    network, path = random_net(3, 8, 8, 2), tmp_path / "certificate"
    x = torch.zeros(1, 3, dtype=torch.float64)
    relaxation = bounds.relax(
        network, bounds.Ball(x, radius=0.5), bounds.margins(0, 2), intermediate=intermediate
    )
    save(path, relaxation)
    check = bounds.check(path, network)
    assert 'relax with intermediate="backward"' in reasons(check)
    assert "trust_bounds" in reasons(check)
    assert (check.lower == -np.inf).all()
    assert not check.verified.any()
    trusting = bounds.check(path, network, trust_bounds=True)
    assert trusting.accepted, reasons(trusting)
    assert trusting.trusted
    assert np.isfinite(trusting.lower).all()


def test_trusted_bounds_that_cut_the_point_off_prove_no_upper_bound(tmp_path: Path) -> None:
    network, path = random_net(3, 8, 2), tmp_path / "certificate"
    x = torch.zeros(1, 3, dtype=torch.float64)
    relaxation = bounds.relax(network, bounds.Ball(x, radius=0.5), bounds.margins(0, 2))
    save(path, relaxation)

    def narrow(statement: Statement, arrays: Arrays) -> None:
        arrays["relu.0.lower"] *= 1e-3
        arrays["relu.0.upper"] *= 1e-3

    check = bounds.check(edit(path, narrow), network, trust_bounds=True)
    assert "not proved to keep to the l and u" in reasons(check)
    assert (check.upper == np.inf).all()


def test_precision_is_restored_and_bounded(tmp_path: Path) -> None:
    from flint import ctx

    network, path = random_net(3, 8, 2), tmp_path / "certificate"
    x = torch.zeros(1, 3, dtype=torch.float64)
    save(path, bounds.relax(network, bounds.Ball(x, radius=0.5), bounds.margins(0, 2)))
    before = ctx.prec
    wide, narrow = (bounds.check(path, network, precision=bits) for bits in (256, 64))
    assert ctx.prec == before
    assert wide.accepted
    assert (narrow.lower <= wide.lower).all()
    for precision in (0, 10**6, 128.0, True):
        with pytest.raises(bounds.InvalidInputError, match="precision"):
            bounds.check(path, network, precision=precision)  # type: ignore[arg-type]
