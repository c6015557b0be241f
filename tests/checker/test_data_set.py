"""Which balls of a data set the boxes of cases hold: in rational numbers, to the last bit."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounds.checker.data_set import DataSetBalls
from bounds.checker.proof import ProvedCase

EIGHTHS = st.integers(-8, 8).map(lambda number: number / 8)
RADII = [Fraction(0), Fraction(1, 10), Fraction(3, 8)]


def margins(label: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """That class `label` of three is answered."""
    rows = np.eye(3)[label] - np.eye(3)
    return tuple((rows[[j]], np.zeros(1)) for j in range(3) if j != label)


def moved(number: float, steps: int) -> float:
    for _ in range(abs(steps)):
        number = float(np.nextafter(number, np.inf * steps))
    return number


@pytest.mark.parametrize("clip", [(None, None), (-0.5, 0.75)])
@given(st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1, max_size=4), st.sampled_from(RADII))
def test_a_ball_counts_where_it_lies_in_the_box(
    clip: tuple[float | None, float | None], x: list[tuple[float, float]], radius: Fraction
) -> None:
    """Boxes are the ball around the first image, or a bit smaller or larger."""
    low, high = (None if end is None else Fraction(end) for end in clip)

    def ball(image: tuple[float, float], r: Fraction) -> list[tuple[Fraction, Fraction]]:
        ends = [(Fraction(number) - r, Fraction(number) + r) for number in image]
        return [
            (a if low is None else max(a, low), b if high is None else min(b, high))
            for a, b in ends
        ]

    labels = np.array([k % 2 for k in range(1, len(x) + 1)])
    for below, above in product((-1, 0, 1), repeat=2):
        lower = np.array([moved(float(a), below) for a, _ in ball(x[0], radius)])
        upper = np.array([moved(float(b), above) for _, b in ball(x[0], radius)])
        found = DataSetBalls(np.array(x), labels, RADII, *clip)
        found.count([ProvedCase(0, lower, upper, margins(1), 1, False)])
        assert not found.proved.any()
        found.count([ProvedCase(0, lower, upper, margins(1), 1, True)])
        for (k, r), (i, image) in product(enumerate(RADII), enumerate(x)):
            if any(a > b for a, b in ball(image, r)):
                continue  # a ball that no input is in, which evaluations refuse
            inside = all(
                Fraction(least) <= a and b <= Fraction(most)
                for least, most, (a, b) in zip(lower, upper, ball(image, r), strict=True)
            )
            assert found.proved[k, i] == (labels[i] == 1 and inside)


def test_rows_that_are_no_label_count_for_none() -> None:
    rows = ((np.array([[1.0, 0.0, 0.0]]), np.zeros(1)),)
    balls = DataSetBalls(np.zeros((1, 2)), np.zeros(1, dtype=int), RADII, None, None)
    balls.count([ProvedCase(0, -np.ones(2), np.ones(2), rows, 1, True)])
    assert not balls.proved.any()
