"""Comparisons of VNN-LIB 2.0 in the arithmetic of their types."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bounds.read.vnnlib.comparisons import Comparison, Operation, Place, nearest

F = Fraction
MIDDLE = F(1) + F(1, 2**24)  # of the float32 1 and 1 + 2**-23


@given(st.fractions(-(10**6), 10**6), st.sampled_from(["float32", "float64"]))
def test_a_constant_is_the_nearest_number(number: Fraction, element: str) -> None:
    found = nearest(number, element)
    kind = np.dtype(element).type
    value = kind(float(found))
    assert F(float(value)) == found
    for end in (kind(-np.inf), kind(np.inf)):
        beside = F(float(np.nextafter(value, end)))
        assert abs(found - number) <= abs(beside - number)


def test_ties_go_to_the_even_number_and_are_rounded_once() -> None:
    assert nearest(MIDDLE, "float32") == 1
    assert nearest(MIDDLE + F(1, 2**23), "float32") == 1 + F(2, 2**23)
    # Their float64 is the middle, which they are not.
    assert nearest(MIDDLE + F(1, 2**80), "float32") == 1 + F(1, 2**23)
    assert nearest(MIDDLE + F(1, 2**23) - F(1, 2**80), "float32") == 1 + F(1, 2**23)
    assert nearest(-MIDDLE - F(1, 2**80), "float32") == -1 - F(1, 2**23)
    assert nearest(MIDDLE, "real") == MIDDLE
    for element, beyond in (("float32", 2**128), ("float64", 2**1024)):
        with pytest.raises(OverflowError):
            nearest(F(beyond), element)


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3),
    st.lists(st.sampled_from([0.1, -3.7, 1e-30, 250.0]), min_size=2, max_size=2),
)
def test_rounding_is_bounded(values: list[float], constants: list[float]) -> None:
    """(c·x + y) − (d·z) in float32 against the same in rational numbers."""
    c, d = (nearest(F(constant), "float32") for constant in constants)
    left = (c, Place(0), Operation("*", 2), Place(1), Operation("+", 2))
    right = (d, Place(2), Operation("*", 2))
    comparison = Comparison("<=", left, right, "float32")
    x, y, z = (F(value) for value in values)
    exact = c * x + y - d * z
    a, b, u, v, w = (torch.tensor(float(n), dtype=torch.float32) for n in (c, d, x, y, z))
    rounded = F((a * u + v).item()) - F((b * w).item())
    allowed = comparison.rounding(lambda place: abs((x, y, z)[place]))
    assert abs(rounded - exact) <= allowed
    assert comparison.holds([x, y, z]) == bool(a * u + v <= b * w)
    assert Comparison("<=", left, right, "real").holds([x, y, z]) == (exact <= 0)
    assert Comparison("<=", (Place(0),), (Place(1),), "float32").rounding(lambda _: 1.0) == 0
