"""Which balls of a data set the boxes of cases hold: in rational numbers, to the last bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
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


@given(
    st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1, max_size=4),
    st.sampled_from(RADII),
    st.tuples(st.integers(-1, 1), st.integers(-1, 1)),
    st.sampled_from([(None, None), (-0.5, 0.75)]),
    st.booleans(),
)
def test_a_ball_counts_where_it_lies_in_the_box(
    x: list[tuple[float, float]],
    radius: Fraction,
    steps: tuple[int, int],
    clip: tuple[float | None, float | None],
    proved: bool,
) -> None:
    low, high = (None if end is None else Fraction(end) for end in clip)

    def ball(image: tuple[float, float], r: Fraction) -> list[tuple[Fraction, Fraction]]:
        below = [
            number if low is None else max(number, low)
            for number in (Fraction(v) - r for v in image)
        ]
        above = [
            number if high is None else min(number, high)
            for number in (Fraction(v) + r for v in image)
        ]
        return list(zip(below, above, strict=True))

    ends = ball(x[0], radius)
    lower = np.array([moved(float(end), steps[0]) for end, _ in ends])
    upper = np.array([moved(float(end), steps[1]) for _, end in ends])
    case = ProvedCase(0, lower, upper, margins(1), 1, proved)
    labels = np.array([k % 3 for k in range(1, len(x) + 1)])
    found = DataSetBalls(np.array(x), labels, RADII, *clip)
    found.count([case])
    for k, r in enumerate(RADII):
        for i, image in enumerate(x):
            inside = all(
                Fraction(a) <= below and above <= Fraction(b)
                for a, b, (below, above) in zip(lower, upper, ball(image, r), strict=True)
            )
            assert found.proved[k, i] == (proved and labels[i] == 1 and inside)


def test_rows_that_are_no_label_count_for_none() -> None:
    rows = ((np.array([[1.0, 0.0, 0.0]]), np.zeros(1)),)
    balls = DataSetBalls(np.zeros((1, 2)), np.zeros(1, dtype=int), RADII, None, None)
    balls.count([ProvedCase(0, -np.ones(2), np.ones(2), rows, 1, True)])
    assert not balls.proved.any()
