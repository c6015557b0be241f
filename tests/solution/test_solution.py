"""When a gap counts as closed, and what is verified: written once, and fail closed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import bounds
from bounds import Certificate, InvalidInputError, Solution, Status
from bounds.solution.solution import gap_closed, relative_gap
from tests.support.referee import random_net
from tests.support.refusals import refused

NAN, INF = math.nan, math.inf


def scalar(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


def gap_is_closed(lower: float, upper: float, rounding: float) -> torch.Tensor:
    low, high = scalar(lower), scalar(upper)
    largest = torch.maximum(low.abs(), high.abs())
    return gap_closed(high - low, largest, 1e-9, scalar(rounding))


@pytest.mark.parametrize(
    ("lower", "upper", "closed"),
    [
        (1.0, 1.0, True),
        (0.0, 0.0, True),
        (1.0, 1.0 + 0.9e-9, True),
        (-1e6, -1e6 + 0.9e-3, True),
        (1.0, 1.0 + 1.2e-9, False),
        (1e-6, 2e-6, False),
        (0.0, 1e-12, True),  # rounding
        (1e-12, 0.0, True),  # rounding
        (1.0, 1.0 - 1e-10, False),  # bounds that contradict each other
        (1.0, 0.0, False),
        (1.0, INF, False),
        (-INF, 1.0, False),
        (-INF, INF, False),
        (INF, INF, False),
        (NAN, 1.0, False),
        (1.0, NAN, False),
        (NAN, NAN, False),
    ],
)
def test_gap_closed(lower: float, upper: float, closed: bool) -> None:
    assert bool(gap_is_closed(lower, upper, 1e-11)) is closed


@pytest.mark.parametrize("rounding", [NAN, INF])
def test_no_gap_closes_without_a_number(rounding: float) -> None:
    assert not gap_is_closed(NAN, 0.0, rounding)
    assert not gap_is_closed(0.0, INF, rounding)


def test_relative_gap() -> None:
    lower = torch.tensor([1.0, -2.0, 0.0, 1.0, NAN, 1.0])
    upper = torch.tensor([2.0, -1.0, 0.0, INF, 1.0, 0.5])
    assert relative_gap(lower, upper).tolist() == [0.5, 0.5, 0.0, INF, INF, 0.0]


@pytest.mark.parametrize(
    ("lower", "upper", "verified"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0, 0.0], [1.0, 0.0], False),
        ([1.0, -1.0], [1.0, 1.0], False),
        ([1.0, NAN], [1.0, 1.0], False),
        ([1.0, 1.0], [1.0, NAN], False),
        ([1.0, 1.0], [1.0, INF], False),
        ([INF, 1.0], [INF, 1.0], False),
        ([1.0, 1.0], [1.0, 0.5], False),
        ([1.0, 1e-300], [1.0, 1e-300], True),
    ],
)
def test_verified(lower: list[float], upper: list[float], verified: bool) -> None:
    below, above = torch.tensor([[lower], [upper]], dtype=torch.float64)
    status = torch.zeros(1, 2, dtype=torch.long)
    certificate = Certificate((), below, ())
    solution = Solution(below, above, status, status, certificate, "none", sound=True)
    assert solution.verified.tolist() == [verified]
    broken = replace(solution, status=torch.full_like(status, int(Status.NUMERICAL_ERROR)))
    assert not broken.verified.any()
    up_to_rounding = replace(solution, sound=False)
    refused(lambda: up_to_rounding.verified, InvalidInputError, "'none'", "sound=True")


def test_certificates_of_some_inputs() -> None:
    """Prove of these what the whole one proves of all."""
    network, x = random_net(3, 6, 2, seed=1), torch.zeros(3, 3).double()
    x[1:] += torch.tensor([[0.5], [-0.5]])
    relaxation = bounds.relax(network, bounds.Ball(x, radius=0.4), bounds.margins(0, 2))
    solution = bounds.solve(relaxation)
    certificate = solution.certificate.take([2, 0])
    assert certificate.claim is not None
    part = certificate.claim.relaxation
    assert torch.equal(certificate.lower(part), solution.lower[[2, 0]])
    assert torch.equal(certificate.claim.upper, solution.upper[[2, 0]])
    assert solution.certificate.convert(lambda tensor: tensor).take(1).claim is None
    wrong: list[Any] = [3, [-1], [True], None, [], torch.tensor([0.5])]
    for images in wrong:
        refused(
            lambda images=images: solution.certificate.take(images),
            bounds.InvalidInputError,
            "Certificate.take",
        )
