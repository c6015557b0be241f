"""The schedule of the radius against its corners, numpy's interpolation, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounds import InvalidInputError, RadiusSchedule

radii = st.floats(0, 10)
times = st.floats(-100, 100)


def test_the_corners_are_hit_exactly() -> None:
    """0.01 to 0.1 over ten epochs, after one at 0.01."""
    schedule = RadiusSchedule(start=0.01, end=0.1, begin=1, length=10)
    assert [schedule(time) for time in (0, 0.5, 1, 11, 11.5, 1000)] == [0.01] * 3 + [0.1] * 3
    assert schedule(6) == pytest.approx(0.055)
    assert schedule(3.5) == pytest.approx(0.0325)


@given(radii, radii, times, st.floats(0.01, 100), times)
def test_it_is_the_line_between_its_corners(
    start: float, end: float, begin: float, length: float, time: float
) -> None:
    radius = RadiusSchedule(start=start, end=end, begin=begin, length=length)(time)
    expected = np.interp(time, [begin, begin + length], [start, end])
    assert radius == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert min(start, end) <= radius <= max(start, end)


def test_rounding_leaves_neither_end_behind() -> None:
    """Without a last clamp, the line from 0.1 to 0.1 rises above it."""
    schedule = RadiusSchedule(start=0.1, end=0.1, length=1)
    assert {schedule(time / 1000) for time in range(1000)} == {0.1}


def test_without_length_it_jumps() -> None:
    schedule = RadiusSchedule(start=0.0, end=0.3, begin=2, length=0)
    assert [schedule(time) for time in (0, math.nextafter(2, 0), 2, 3)] == [0, 0, 0.3, 0.3]


def test_it_cannot_be_changed() -> None:
    schedule = RadiusSchedule(start=0.0, end=0.3, length=1)
    with pytest.raises(FrozenInstanceError):
        schedule.end = 0.5  # type: ignore[misc]


@pytest.mark.parametrize("name", ["start", "end", "begin", "length"])
@pytest.mark.parametrize("value", [math.nan, math.inf, "0.1", None, True])
def test_what_is_no_number_is_refused(name: str, value: Any) -> None:
    options: dict[str, Any] = {"start": 0.01, "end": 0.1, "begin": 0.0, "length": 10}
    with pytest.raises(InvalidInputError, match=rf"^RadiusSchedule\({name}=.*finite number"):
        RadiusSchedule(**options | {name: value})


@pytest.mark.parametrize("name", ["start", "end", "length"])
def test_what_is_negative_is_refused(name: str) -> None:
    options = {"start": 0.01, "end": 0.1, "length": 10} | {name: -0.1}
    with pytest.raises(InvalidInputError, match=rf"^RadiusSchedule\({name}=-0.1\).*at least 0"):
        RadiusSchedule(**options)


def test_a_time_that_is_no_number_is_refused() -> None:
    schedule = RadiusSchedule(start=0.01, end=0.1, length=10)
    with pytest.raises(InvalidInputError, match="called with nan: expected a finite number"):
        schedule(math.nan)
