"""Parts that fit in memory, and the method that "exact" takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bounds
from bounds import InvalidInputError, Relaxation, Status
from bounds.models import load_digits_images, load_digits_model
from bounds.network import memory
from bounds.solvers import cost
from bounds.solvers.interior_point.condense import condense
from tests.support.referee import random_relaxation
from tests.support.refusals import refused


@pytest.mark.parametrize(
    ("batch", "rows", "places"), [(5, 3, 7), (5, 3, 2), (1, 9, 100), (4, 1, 1)]
)
def test_parts_cover_every_lp_once_and_fit(batch: int, rows: int, places: int) -> None:
    C = torch.zeros(batch, rows, 2, dtype=torch.float64)
    seen = torch.zeros(batch, rows, dtype=torch.long)
    for images, chosen in memory.parts_that_fit(C, 10, max_memory=8 * 10 * places):
        assert len(images) * len(chosen) <= places
        seen[images.unsqueeze(1), chosen] += 1
    assert (seen == 1).all()


def test_a_part_is_never_less_than_one_lp() -> None:
    C = torch.zeros(2, 2, 2)
    assert len(list(memory.parts_that_fit(C, 1000, max_memory=1))) == 4


def test_the_default_is_a_share_of_what_is_free() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    free = memory.free_memory(like.device)
    assert free > 2**20
    assert memory.numbers_that_fit(like, None) == pytest.approx(free / 4 / 8, rel=0.2)
    assert memory.numbers_that_fit(like.float(), 4096) == 1024


@pytest.mark.parametrize(
    "method", ["fixed_slope", "adaptive_slope", "interior_point", "simplex", "pdhg"]
)
def test_little_memory_gives_the_same_bounds(method: str) -> None:
    relaxation = random_relaxation(6, 12, 10, 4, batch=3)
    least = 8 * max(cost.matrix_numbers(relaxation), memory.pass_numbers(relaxation.network))
    whole = bounds.solve(relaxation, method=method)
    parts = bounds.solve(relaxation, method=method, max_memory=least)
    torch.testing.assert_close(parts.lower, whole.lower, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(parts.upper, whole.upper, rtol=2e-6, atol=2e-6)
    assert torch.equal(parts.status, whole.status)


@pytest.mark.parametrize("intermediate", ["interval", "backward"])
def test_little_memory_gives_the_same_relaxation(intermediate: str) -> None:
    whole = random_relaxation(6, 12, 10, 4, batch=3)
    box, rows = whole.input_set, bounds.Specification(whole.C, whole.d)
    one, other = (
        bounds.relax(whole.network, box, rows, intermediate=intermediate, max_memory=max_memory)
        for max_memory in (None, 1000)
    )
    for a, b in zip(one.relu_bounds, other.relu_bounds, strict=True):
        torch.testing.assert_close(a.lower, b.lower, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(a.upper, b.upper, rtol=1e-12, atol=1e-12)


def test_max_memory_is_refused_where_it_is_no_number_of_bytes() -> None:
    relaxation = random_relaxation(3, 4, 2)
    refused(
        lambda: bounds.solve(relaxation, max_memory=0),
        InvalidInputError,
        "solve(max_memory=0)",
        "positive number of bytes",
    )


@pytest.mark.parametrize("method", ["interior_point", "simplex"])
def test_matrices_that_do_not_fit_are_refused_with_the_remedy(method: Any) -> None:
    relaxation = random_relaxation(6, 12, 10, 4)
    refused(
        lambda: bounds.solve(relaxation, method=method, max_memory=64),
        InvalidInputError,
        f"method={method!r}",
        f"needs {8 * cost.matrix_numbers(relaxation)} bytes",
        "has 64",
        "method='pdhg'",
    )


# -- "exact" ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("widths", "batch", "method"),
    [((6, 12, 10, 4), 8, "simplex"), ((100, 400, 400, 2), 1, "interior_point")],
)
def test_exact_takes_one_or_the_other_for_small_or_large_lps(
    widths: tuple[int, ...], batch: int, method: str
) -> None:
    relaxation = random_relaxation(*widths, batch=batch)
    solution = bounds.solve(relaxation, method="exact")
    assert solution.method == method
    assert (solution.status == Status.OPTIMAL).all()


def convolution(C: Tensor) -> Relaxation:
    """16 × 13 × 13 neurons, most of them unstable, between 3 × 3 convolutions."""
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 16, 3, stride=2, bias=False), nn.ReLU(), nn.Conv2d(16, 4, 3)
    network = bounds.from_torch(nn.Sequential(*conv).double(), (1, 28, 28)).detach()
    ball = bounds.Ball(torch.zeros(1, 1, 28, 28, dtype=torch.float64), radius=1.0)
    return bounds.relax(network, ball, bounds.Specification(C))


def test_exact_takes_the_simplex_method_where_rows_have_few_numbers() -> None:
    assert cost.cheapest_exact_method(convolution(torch.ones(4, 484).double()), 2**40) == "simplex"
    dense = random_relaxation(100, 600, 600, 4, batch=1)
    assert min(dense.unstable) > 800
    assert cost.cheapest_exact_method(dense, 2**40) == "interior_point"


def test_exact_takes_the_interior_point_where_presolving_pays() -> None:
    relaxation = convolution(torch.eye(484, dtype=torch.float64)[:64])
    assert cost.cheapest_exact_method(relaxation, 2**40) == "interior_point"
    given = replace(relaxation, intermediate="given")
    assert cost.cheapest_exact_method(given, 2**40) == "simplex"


def test_numbers_of_rows_are_about_those_of_the_condensed_lp() -> None:
    images, labels = load_digits_images()
    network = bounds.from_torch(
        load_digits_model("digits_standard"), (1, 8, 8), dtype=torch.float64
    )
    ball = bounds.Ball(images[:3].double(), radius=0.3, lower=0.0, upper=1.0)
    relaxation = bounds.relax(network, ball, bounds.margins(labels[:3], 10)).double()
    for image, about in enumerate(cost.row_numbers(relaxation)):
        lp = condense(relaxation.take(torch.tensor([image]), torch.arange(9)))
        assert lp is not None
        assert 0.5 < about / int((lp.AL != 0).sum()) < 2


def test_exact_takes_pdhg_where_matrices_do_not_fit() -> None:
    relaxation = random_relaxation(6, 12, 10, 4)
    solution = bounds.solve(relaxation, method="exact", max_memory=64)
    assert solution.method == "pdhg"
    assert (solution.status == Status.OPTIMAL).all()


def test_exact_takes_pdhg_on_l2_balls() -> None:
    whole = random_relaxation(6, 12, 10, 4)
    ball = bounds.Ball(whole.input_set.lower, radius=0.5, norm=2.0)
    relaxation = bounds.relax(whole.network, ball, bounds.Specification(whole.C, whole.d))
    assert bounds.solve(relaxation, method="exact").method == "pdhg"


def test_exact_takes_pdhg_where_passes_cost_less(monkeypatch: pytest.MonkeyPatch) -> None:
    relaxation = random_relaxation(6, 12, 10, 4)
    monkeypatch.setattr(cost, "PASS", 0.0)
    monkeypatch.setattr(cost, "CALLS", 0.0)
    assert cost.cheapest_exact_method(relaxation, None) == "pdhg"


def test_newton_steps_cost_more_the_more_neurons_are_unstable() -> None:
    """A wide layer, all of it unstable: n³ of Newton's method beats any number of passes."""

    def wide(n: int) -> Relaxation:
        relaxation = random_relaxation(2, n, 2, batch=1)
        (neurons,) = relaxation.relu_bounds
        one = torch.ones_like(neurons.lower)
        return replace(relaxation, relu_bounds=(bounds.ReluBounds(-one, one),))

    assert cost.cheapest_exact_method(wide(100), 2**40) != "pdhg"
    assert cost.cheapest_exact_method(wide(5000), 2**40) == "pdhg"


def test_flops_are_those_of_the_layers() -> None:
    network = random_relaxation(6, 12, 10, 4).network
    dense = 2 * (6 * 12 + 12 * 10 + 10 * 4)
    elementwise = 6 + 12 + 10  # the input and the ReLUs
    assert cost.pass_flops(network) == dense + elementwise
