"""Input sets: which points lie in one, exactly, and the smallest value of a linear form on one.

The set is a box, alone or together with an ℓ1 or ℓ2 ball ‖x − x₀‖ ≤ r. For every way to write
c = p + q, on the set

    ⟨c, x⟩  =  ⟨p, x⟩ + ⟨q, x₀⟩ + ⟨q, x − x₀⟩  ≥  min over the box of ⟨p, x⟩ + ⟨q, x₀⟩ − r ‖q‖*,

where ‖·‖* is the largest magnitude for ℓ1 and the ℓ2 norm for ℓ2. Some q makes this an equality; it
is chosen in float64, and what it proves is computed in balls.
"""

from __future__ import annotations

import numpy as np

from bounds.checker.arithmetic import Arithmetic, Array, balls, midpoints, rationals
from bounds.checker.evidence import InputSet, Rejected

#: Halvings of the range of float64, on a logarithmic scale, until one number is left of it.
HALVINGS = 70


def require_points(points: InputSet) -> None:
    """Raise Rejected unless the set has a point: of no point, anything would be true."""
    if not (points.lower <= points.upper).all():
        raise Rejected("its input set is empty: the box has its lower end above its upper end")
    if points.radius < 0:
        raise Rejected(f"its input set is empty: the radius is {points.radius!r}")
    nearest = np.clip(points.centre, points.lower, points.upper)
    if not contains(points, nearest):
        raise Rejected("its input set is empty: the box and the ball have no point in common")


def contains(points: InputSet, x: np.ndarray) -> bool:
    """Whether x (numbers,) lies in the set: in rational arithmetic, without any tolerance."""
    if not ((points.lower <= x) & (x <= points.upper)).all():
        return False
    if points.kind == "box":
        return True
    away = rationals().numbers(x) - rationals().numbers(points.centre)
    radius = rationals().numbers(np.array([points.radius]))[0]
    if points.kind == "l1":
        return bool(sum(abs(away)) <= radius)
    return bool(sum(away * away) <= radius * radius)


def minimum(arithmetic: Arithmetic, points: InputSet, c: Array) -> Array:
    """A lower bound of ⟨c, x⟩ over the set, optimal up to rounding; c: (rows, numbers), which are
    balls where the set is no box."""
    if points.kind == "box":
        return _box_minimum(arithmetic, points, c)
    split = _l1_split if points.kind == "l1" else _l2_split
    with np.errstate(all="ignore"):  # what overflows proves nothing, and does no harm
        chosen = split(points, midpoints(c))
    q = balls().numbers(chosen)
    at_centre = balls().dot(q, balls().numbers(points.centre))
    if points.kind == "l1":
        norms = balls().numbers(np.abs(chosen).max(1))
    else:
        norms = np.array([square.sqrt() for square in (q * q).sum(1)], dtype=object)
    return _box_minimum(arithmetic, points, c - q) + at_centre - norms * points.radius


def _box_minimum(arithmetic: Arithmetic, points: InputSet, p: Array) -> Array:
    """⟨p, middle⟩ − ⟨|p|, half the width⟩."""
    lower, upper = arithmetic.numbers(points.lower), arithmetic.numbers(points.upper)
    return arithmetic.dot(p, (lower + upper) / 2) - arithmetic.dot(abs(p), (upper - lower) / 2)


def _l1_split(points: InputSet, c: np.ndarray) -> np.ndarray:
    """q = c, cut off at ±λ (and ±λ where x₀ lies beside the box), for the best λ of the |c|.

    What q gives is concave in λ; its slope is the distance from x₀ to the end of the box that c
    pulls to, summed over |c| > λ, plus that to the box itself over the others, less r.
    """
    pulled = np.abs(np.where(c > 0, points.lower, points.upper) - points.centre)
    nearest = np.clip(points.centre, points.lower, points.upper)
    beside = np.abs(nearest - points.centre)
    order = np.argsort(-np.abs(c), axis=1)
    gain = np.take_along_axis(pulled - beside, order, 1)
    slopes = beside.sum() - points.radius + np.cumsum(gain, axis=1)
    # λ is the first of the falling |c| at which its own coordinate would make the slope positive.
    falling = np.take_along_axis(np.abs(c), order, 1)
    stops = np.concatenate((falling, np.zeros((len(c), 1))), axis=1)
    first = np.argmax(
        np.concatenate((slopes > 0, np.ones((len(c), 1), dtype=bool)), axis=1), axis=1
    )
    multiplier = np.take_along_axis(stops, first[:, None], 1)
    inside = np.clip(c, -multiplier, multiplier)
    return np.where(
        points.centre > points.upper,
        multiplier,
        np.where(points.centre < points.lower, -multiplier, inside),
    )


def _l2_split(points: InputSet, c: np.ndarray) -> np.ndarray:
    """q = −μ (x − x₀) for the minimiser x = clip(x₀ − c / μ) of ⟨c, x⟩ + μ/2 ‖x − x₀‖² over the
    box, with the smallest μ whose x lies in the ball."""
    low = np.full((len(c), 1), np.finfo(float).tiny)
    high = np.full((len(c), 1), np.finfo(float).max)

    def split(multiplier: np.ndarray) -> np.ndarray:
        ends = (multiplier * (points.centre - end) for end in (points.upper, points.lower))
        return np.clip(c, *ends)

    for _ in range(HALVINGS):
        middle = np.sqrt(low) * np.sqrt(high)
        away = np.sqrt(((split(middle) / middle) ** 2).sum(1, keepdims=True))
        within = away <= points.radius
        low, high = np.where(within, low, middle), np.where(within, middle, high)
    return np.where(low == np.finfo(float).tiny, 0.0, split(high))
