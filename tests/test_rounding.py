"""The model of rounding that sound bounds rest on, and the margin for deployed networks."""

from __future__ import annotations

import math
import threading
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bounds
from bounds import Ball
from bounds.rounding import difference_below, down_to, gamma, plain_arithmetic, weighted
from tests.support.networks import Dice, seeds
from tests.support.problems import NORMS, Problem, points, problems
from tests.support.rational import DTYPES, fractions

# -- the arithmetic itself -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_differences_are_rounded_down(dtype: torch.dtype, data: st.DataObject) -> None:
    width = 32 if dtype == torch.float32 else 64
    numbers = st.floats(-(2.0**99), 2.0**99, width=width, allow_subnormal=False)
    a, b = (torch.tensor(data.draw(numbers), dtype=dtype) for _ in range(2))
    found, exact = difference_below(a, b), Fraction(a.item()) - Fraction(b.item())
    above = torch.nextafter(found, torch.full_like(found, math.inf))
    assert Fraction(found.item()) <= exact < Fraction(above.item())


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e38, max_value=1e38))
def test_numbers_are_rounded_down(number: float) -> None:
    found = down_to(torch.tensor(number, dtype=torch.float64), torch.float32)
    above = torch.nextafter(found, torch.tensor(math.inf))
    assert found.item() <= number < above.item()


@pytest.mark.parametrize("dtype", DTYPES)
@given(count=st.integers(1, 300), seed=seeds)
def test_gamma_bounds_every_order_of_summation(dtype: torch.dtype, count: int, seed: int) -> None:
    dice = Dice(seed)
    scale = torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64)[dice.below(3, count)]
    a, b = (dice.normal(count).to(dtype) for _ in range(2))
    a = a * scale.to(dtype)
    exact = sum(map(Fraction.__mul__, fractions(a), fractions(b)), Fraction(0))
    sizes = weighted(a.reshape(1, 1, -1), b.abs().reshape(1, -1)).item()
    bound = Fraction(gamma(count, dtype)) * Fraction(sizes)
    for k in range(5):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(k))
        one_by_one = torch.zeros((), dtype=dtype)
        for term in a[order] * b[order]:
            one_by_one = one_by_one + term
        for found in (a[order] @ b[order], (a * b)[order].sum(), one_by_one):
            assert abs(Fraction(found.item()) - exact) <= bound


def test_long_sums_bound_nothing_in_float32() -> None:
    assert gamma(2**22, torch.float32) == math.inf
    assert gamma(2**22, torch.float64) < 1e-8
    assert weighted(torch.ones(1, 1, 2**20), torch.zeros(1, 2**20)).item() == math.inf


def test_plain_arithmetic_holds_inside_and_ends() -> None:
    x = torch.randn(64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with plain_arithmetic():
            assert (x @ x).dtype == torch.float32
            assert not torch.backends.mkldnn.enabled
            assert not torch.backends.cudnn.enabled
        assert (x @ x).dtype == torch.bfloat16
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        reduced = torch.backends.cuda.matmul.fp32_precision
        with plain_arithmetic():
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == reduced
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.backends.mkldnn.enabled


def test_threads_share_the_switches() -> None:
    """Whoever leaves first does not switch back what the other still relies on, and after the last
    all is as it was."""
    inside, done = threading.Barrier(2), threading.Event()
    found: list[bool] = []

    def first() -> None:
        with plain_arithmetic():
            inside.wait()
        done.set()

    def second() -> None:
        with plain_arithmetic():
            inside.wait()
            done.wait()
            found.append(torch.backends.mkldnn.enabled or torch.backends.cudnn.enabled)

    threads = [threading.Thread(target=each) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [False]
    assert torch.backends.mkldnn.enabled
    assert torch.backends.cudnn.enabled


def test_a_switch_that_is_moved_inside_is_said() -> None:
    """As another thread may: what was computed meanwhile is not returned."""
    moved = pytest.raises(bounds.BoundsError, match=r"mkldnn\.enabled was switched on")
    with moved, plain_arithmetic():
        torch.backends.mkldnn.enabled = True
    assert torch.backends.mkldnn.enabled


def test_autocast_does_not_reach_bounds() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    network = bounds.from_torch(model, (8,)).detach()
    problem = network, Ball(torch.zeros(8), radius=0.1), bounds.margins(0, 2)
    expected = bounds.solve(bounds.relax(*problem), method="fixed_slope").lower
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = bounds.solve(bounds.relax(*problem), method="fixed_slope").lower
    assert torch.equal(found, expected)


# -- input sets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("radius", [0.1, 2.0**-60, 1e-300, 0.3])
def test_a_radius_at_the_last_bit_is_kept(norm: float, dtype: torch.dtype, radius: float) -> None:
    """x ± r is no number of the dtype; nor is 0.1."""
    x = torch.tensor([1.0, 0.7, -1.0 / 3], dtype=dtype)
    found = Ball(x, radius=radius, norm=norm).resolve((3,))
    ends = map(fractions, (x, found.lower, found.upper))
    for centre, lower, upper in zip(*ends, strict=True):
        assert lower <= centre - Fraction(radius)
        assert centre + Fraction(radius) <= upper
    if dtype == torch.float64 and radius < 2.0**-54:
        assert ((x - radius) == x).all()  # what plain arithmetic makes of it


def test_a_box_that_is_no_number_of_the_dtype_is_rounded_outward() -> None:
    found = Ball(torch.tensor([0.5]), radius=1.0, lower=0.1, upper=0.7).resolve((1,))
    assert found.lower.item() <= 0.1
    assert found.upper.item() >= 0.7
    assert torch.tensor(0.1).item() > 0.1
    assert torch.tensor(0.7).item() < 0.7


# -- deployment ------------------------------------------------------------------------------------


@given(problem=problems())
def test_deployed_networks_stay_within_the_margin(problem: Problem) -> None:
    relaxation = problem.relax()
    margin = bounds.deployment_margin(relaxation, torch.float32)
    x = points(relaxation.input_set, 20).float()
    flat = x.flatten(0, 1)
    deployed = relaxation.network.to(torch.float32)
    rounded = relaxation.network.convert(lambda tensor: tensor.float().double())
    difference = deployed(flat).double() - rounded(flat.double())
    rows = torch.einsum(
        "bso,bpo->bsp", relaxation.C.flatten(2), difference.reshape(*x.shape[:2], -1)
    )
    assert (rows.abs().amax(2) <= margin).all()


def test_a_proof_has_to_exceed_the_deployment_margin() -> None:
    """The last bias puts the margin between what float64 and what float32 can lose."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    network, x = bounds.from_torch(model, (4,)).detach(), torch.zeros(4, dtype=torch.float64)
    relaxation = bounds.relax(network, Ball(x, radius=0.01), bounds.margins(0, 2), slope="adaptive")
    lower = bounds.solve(relaxation).lower.item()
    margin = bounds.deployment_margin(relaxation, torch.float32).item()
    assert bounds.deployment_margin(relaxation, torch.float64).item() < 1e-8 * margin < 1e-9
    model[2].bias.data[0] += margin / 2 - lower
    verdicts = [
        bounds.certify(model, x[None], 0, radius=0.01, deployed=deployed).verdict
        for deployed in (None, torch.float64, torch.float32)
    ]
    assert verdicts == ["unsat", "unsat", "unknown"]
    model[2].bias.data[0] += margin
    assert bounds.certify(model, x[None], 0, radius=0.01, deployed=torch.float32).verdict == "unsat"
    with pytest.raises(bounds.InvalidInputError, match="bfloat16"):
        bounds.deployment_margin(relaxation, torch.bfloat16)
