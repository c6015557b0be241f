"""The numbers of callers: rounded to the side that is asked for, never to the nearest."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bounds import Ball, InvalidInputError
from bounds.sets.numbers import above, below, exactly, require_number
from tests.support.rational import DTYPES, fractions

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint64]


def next_to(number: float, dtype: torch.dtype, towards: float) -> Fraction:
    tensor = torch.tensor(number, dtype=dtype)
    return Fraction(torch.nextafter(tensor, torch.tensor(towards, dtype=dtype)).item())


def ratio(value: Any) -> Fraction:
    whole = isinstance(value, (int, np.integer))
    return Fraction(int(value)) if whole else Fraction(*value.as_integer_ratio())


def judged(value: Any, exact: Fraction, dtype: torch.dtype) -> None:
    """Both roundings are the nearest numbers of the dtype on their sides."""
    low, high = below(value, dtype), above(value, dtype)
    assert low.dtype == high.dtype == dtype
    assert Fraction(low.item()) <= exact <= Fraction(high.item())
    assert exact < next_to(low.item(), dtype, math.inf)
    assert next_to(high.item(), dtype, -math.inf) < exact


reals = st.one_of(
    st.floats(-1e30, 1e30),
    st.integers(-(2**70), 2**70),
    st.fractions(-(10**6), 10**6),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(np.float32),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
)


@given(reals, st.sampled_from(DTYPES))
def test_numbers_of_python_and_numpy(value: Any, dtype: torch.dtype) -> None:
    require_number("test", "value", value)
    judged(value, ratio(value), dtype)


@given(st.data(), st.sampled_from(INTEGERS), st.sampled_from(DTYPES))
def test_integer_tensors(data: st.DataObject, kind: torch.dtype, dtype: torch.dtype) -> None:
    ends = torch.iinfo(kind)
    number = data.draw(
        st.one_of(st.integers(ends.min, ends.max), st.sampled_from([ends.min, ends.max]))
    )
    tensor = torch.tensor(number, dtype=kind)
    assert exactly(tensor) == [number]
    judged(tensor, Fraction(number), dtype)


@given(st.floats(-1e30, 1e30), st.sampled_from([*DTYPES, torch.float16, torch.bfloat16]))
def test_floating_tensors(value: float, kind: torch.dtype) -> None:
    tensor = torch.tensor(value, dtype=kind)
    if bool(torch.isfinite(tensor)):
        for dtype in DTYPES:
            judged(tensor, Fraction(tensor.item()), dtype)


def test_integer_ends_do_not_wrap() -> None:
    x = torch.zeros(1, 2)
    box = Ball(x, radius=255, upper=torch.tensor(200, dtype=torch.uint8)).resolve((2,))
    assert box.upper.tolist() == [[200.0, 200.0]]
    box = Ball(x.double(), radius=2**53 + 1).resolve((2,))
    assert Fraction(box.upper[0, 0].item()) >= 2**53 + 1


@pytest.mark.parametrize("value", [np.float32(0.1), np.float64(0.1), Fraction(1, 10), np.int32(1)])
def test_scalars_of_other_libraries_are_numbers(value: Any) -> None:
    [[end]] = Ball(torch.zeros(1, 1, dtype=torch.float64), radius=value).resolve((1,)).upper
    assert Fraction(end.item()) >= ratio(value)
    assert end.item() == pytest.approx(float(value), rel=1e-15)


WRONG: list[Any] = [
    *(None, "0.1", True, math.nan, math.inf, 10**400, 1j, np.float32("nan"), np.array(0.1)),
    *(torch.tensor(True), torch.zeros(0), torch.tensor(1j), torch.tensor(math.inf)),
    *(torch.eye(2).to_sparse(), torch.zeros(2, device="meta"), [0.1], np.bool_(True)),
]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^Ball\(radius\) .*expected|NaN or inf") as caught:
        Ball(torch.zeros(2, 2), radius=value)
    assert "\n" not in str(caught.value)


# -- the ball as the caller wrote it

NORMS = (math.inf, 1, 2)


def balls(seed: int, norm: float, dtype: torch.dtype) -> tuple[Ball, torch.Tensor]:
    """A ball of one input, cut by a box, and points around its surface."""
    generator = torch.Generator().manual_seed(seed)
    # Some centres lie outside the box.
    x = (0.05 + 0.9 * torch.rand(1, 3, generator=generator, dtype=torch.float64)).to(dtype)
    radius = 0.2 + float(torch.rand((), generator=generator)) / 3
    ball = Ball(x, radius=radius, norm=norm, lower=0.1, upper=Fraction(9, 10))  # type: ignore[arg-type]
    away = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    away[::3] = away[::3].sign()
    away /= away.norm(norm, dim=1, keepdim=True)
    away *= 1 + torch.tensor([0.0, 1e-16, -1e-16, 1e-9, -1e-9, -0.5]).double().repeat(10)[:, None]
    points = x.double() + radius * away
    points[::2] = points[::2].clamp(0.1, 0.9)
    return ball, points


def inside(ball: Ball, point: torch.Tensor) -> bool:
    """The definition, over the rationals."""
    p, x, radius = fractions(point), fractions(ball.x), Fraction(ball.radius)
    if any(not Fraction(0.1) <= value <= Fraction(9, 10) for value in p):
        return False
    away = [abs(a - b) for a, b in zip(p, x, strict=True)]
    if ball.norm == math.inf:
        return max(away) <= radius
    return sum(a ** int(ball.norm) for a in away) <= radius ** int(ball.norm)


@given(st.integers(0, 2**32), st.sampled_from(NORMS), st.sampled_from(DTYPES))
def test_a_ball_holds_what_its_definition_says(seed: int, norm: float, dtype: torch.dtype) -> None:
    ball, points = balls(seed, norm, dtype)
    for point in points:
        assert ball.holds(point) == inside(ball, point)
    assert not ball.holds(torch.full((3,), math.nan))


@given(st.integers(0, 2**32), st.sampled_from(NORMS))
def test_a_ball_in_fewer_digits_contains_the_callers(seed: int, norm: float) -> None:
    ball, points = balls(seed, norm, torch.float64)
    grown = ball.grown(torch.float32, (3,))
    resolved = grown.resolve((3,))
    assert resolved.lower.dtype == torch.float32
    for point in points:
        if not inside(ball, point):
            continue
        p = fractions(point)
        ends = zip(fractions(resolved.lower), p, fractions(resolved.upper), strict=True)
        assert all(low <= value <= high for low, value, high in ends)
        if isinstance(grown, Ball):
            away = [abs(a - b) for a, b in zip(p, fractions(resolved.centre), strict=True)]  # type: ignore[attr-defined]
            power, [radius] = int(norm), fractions(resolved.radius)  # type: ignore[attr-defined]
            assert sum(a**power for a in away) <= radius**power
    # And no more than rounding.
    exact = ball.resolve((3,))
    assert (exact.lower - resolved.lower.double()).max() < 1e-6
    assert (resolved.upper.double() - exact.upper).max() < 1e-6


@given(st.integers(0, 2**32), st.sampled_from(NORMS), st.sampled_from(DTYPES))
def test_a_point_just_outside_has_one_inside_nearby(
    seed: int, norm: float, dtype: torch.dtype
) -> None:
    ball, points = balls(seed, norm, dtype)
    resolved = ball.resolve((3,))
    projected = resolved.project(points.to(dtype).unsqueeze(0)).squeeze(0)
    for point, kind in itertools.product(projected[:12], (torch.float64, dtype)):
        found = next(filter(ball.holds, ball.nearby(point.double(), kind)), None)
        assert found is not None
        assert found.dtype == kind
        assert (found.double() - point.double()).abs().max() <= 1e-5
