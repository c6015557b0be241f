"""Balls and boxes, against plain NumPy and against enumeration of corners."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bounds import Ball, Box
from tests.support.networks import Dice, seeds

shapes = st.sampled_from([(1,), (5,), (2, 3), (1, 2, 2)])
dtypes = st.sampled_from([torch.float64, torch.float32])


def spread(kind: str, batch: int, shape: tuple[int, ...], dice: Dice) -> tuple[Any, np.ndarray]:
    """A radius or a bound as the user gives it, and as an array that NumPy broadcasts to x."""
    if kind == "number":
        number = float(dice.uniform(1))
        return number, np.asarray(number)
    sizes = {
        "scalar": (),
        "input": (batch,),
        "inputs": (batch, *[1] * len(shape)),
        "coordinate": (1, *shape),
        "everything": (batch, *shape),
    }
    tensor = dice.uniform(*sizes[kind])
    array = tensor.numpy()
    return tensor, array.reshape(batch, *[1] * len(shape)) if kind == "input" else array


kinds = st.sampled_from(["number", "scalar", "input", "inputs", "coordinate", "everything"])


@given(shapes, st.integers(1, 3), kinds, kinds, st.sampled_from(["", "l", "u", "lu"]), seeds)
def test_resolve_is_the_clipped_ball(
    shape: tuple[int, ...], batch: int, kind: str, clip_kind: str, clip: str, seed: int
) -> None:
    # A radius of shape (batch,) on an input of as many last coordinates is ambiguous.
    if batch > 1 and shape[-1] == batch:
        kind, clip_kind = (k.replace("input", "everything") for k in (kind, clip_kind))
        kind, clip_kind = (k.replace("everythings", "inputs") for k in (kind, clip_kind))
    dice = Dice(seed)
    x = dice.normal(batch, *shape) / 4
    radius, radius_array = spread(kind, batch, shape, dice)
    box: dict[str, Any] = {}
    lower, upper = x.numpy() - radius_array, x.numpy() + radius_array
    if "l" in clip:
        below, array = spread(clip_kind, batch, shape, dice)
        box["lower"] = -below
        x = torch.maximum(x, torch.from_numpy(np.broadcast_to(-array, x.shape).copy()))
    if "u" in clip:
        above, array_above = spread(clip_kind, batch, shape, dice)
        box["upper"] = above
        x = torch.minimum(x, torch.from_numpy(np.broadcast_to(array_above, x.shape).copy()))
    lower, upper = x.numpy() - radius_array, x.numpy() + radius_array
    if "l" in clip:
        lower = np.maximum(lower, -array)
    if "u" in clip:
        upper = np.minimum(upper, array_above)

    resolved = Ball(x, radius=radius, **box).resolve(shape)
    assert len(resolved) == batch
    assert resolved.lower.shape == resolved.upper.shape == (batch, *shape)
    # Rounded outward, by no more than the next number.
    found_lower, found_upper = resolved.lower.numpy(), resolved.upper.numpy()
    assert ((found_lower <= lower) & (found_lower >= np.nextafter(lower, -np.inf))).all()
    assert ((found_upper >= upper) & (found_upper <= np.nextafter(upper, np.inf))).all()


@given(
    shapes,
    st.integers(2, 4),
    kinds,
    kinds,
    st.sampled_from([math.inf, 1, 2]),
    st.lists(st.integers(0, 1), min_size=1, max_size=3),
    seeds,
)
def test_part_of_a_batch(
    shape: tuple[int, ...],
    batch: int,
    kind: str,
    box_kind: str,
    norm: float,
    inputs: list[int],
    seed: int,
) -> None:
    """What was given an input goes with it."""
    if shape[-1] == batch:  # ambiguous
        kind, box_kind = ("inputs" if k == "input" else k for k in (kind, box_kind))
    if norm != math.inf and kind in ("coordinate", "everything"):
        kind = "inputs"
    dice = Dice(seed)
    x = dice.normal(batch, *shape) / 4
    radius, below = spread(kind, batch, shape, dice)[0], spread(box_kind, batch, shape, dice)[0]
    ball = Ball(x, radius=radius, norm=norm, lower=-1 - below, upper=2.0)
    whole, part = ball.resolve(shape), ball.take(torch.tensor(inputs)).resolve(shape)
    assert torch.equal(part.lower, whole.lower[inputs])
    assert torch.equal(part.upper, whole.upper[inputs])
    if norm != math.inf:
        direction = dice.normal(batch, 1, *shape)
        assert torch.equal(part.minimum(direction[inputs]), whole.minimum(direction)[inputs])


def test_a_part_as_long_as_an_input_is_wide() -> None:
    """A number an input stays that, and a number a coordinate too."""
    x, inputs = Dice(0).normal(5, 3), torch.tensor([4, 0, 1])
    for radius in (torch.arange(5.0), torch.arange(3.0)):
        ball = Ball(x, radius=radius)
        whole, part = ball.resolve((3,)), ball.take(inputs).resolve((3,))
        assert torch.equal(part.lower, whole.lower[inputs])


@given(shapes, dtypes)
def test_one_input_without_a_batch_axis(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = Dice(0).normal(*shape).to(dtype)
    box = Ball(x, radius=0.25).resolve(shape)
    assert box.lower.dtype == box.upper.dtype == dtype
    assert torch.equal(box.lower, x.unsqueeze(0) - 0.25)
    assert torch.equal(box.upper, x.unsqueeze(0) + 0.25)


def test_a_radius_an_input_and_a_radius_a_coordinate() -> None:
    x = torch.zeros(2, 3)
    by_input = Ball(x, radius=torch.tensor([1.0, 2.0])).resolve((3,))
    assert by_input.upper.tolist() == [[1, 1, 1], [2, 2, 2]]
    by_coordinate = Ball(x, radius=torch.tensor([0.0, 1.0, 2.0])).resolve((3,))
    assert by_coordinate.lower.tolist() == [[0, -1, -2]] * 2


def test_the_box_cuts_the_ball_where_it_ends() -> None:
    x = torch.tensor([[0.0, 0.5, 1.0]])
    box = Ball(x, radius=0.25, lower=0.0, upper=1.0).resolve((3,))
    assert box.lower.tolist() == [[0, 0.25, 0.75]]
    assert box.upper.tolist() == [[0.25, 0.75, 1]]


def test_a_centre_outside_the_box_is_allowed_while_they_meet() -> None:
    box = Ball(torch.tensor([[1.5]]), radius=0.5, upper=1.0).resolve((1,))
    assert box.lower.tolist() == box.upper.tolist() == [[1.0]]


@st.composite
def boxes_and_rows(draw: st.DrawFn) -> tuple[Box, Tensor]:
    shape, dice = draw(shapes), Dice(draw(seeds))
    batch, rows = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    lower = dice.normal(batch, *shape)
    # Some coordinates are fixed, and some coefficients are 0.
    width = dice.uniform(batch, *shape) * dice.below(3, batch, *shape).clamp(max=1)
    rows_ = dice.normal(batch, rows, *shape) * dice.below(3, batch, rows, *shape).clamp(max=1)
    return Box(lower, lower + width), rows_


def corners(box: Box) -> Tensor:
    """Every corner of every box: (batch, corners, coordinates)."""
    lower, upper = box.lower.flatten(1), box.upper.flatten(1)
    choices = torch.tensor(list(itertools.product([False, True], repeat=lower.shape[1])))
    return torch.where(choices, upper.unsqueeze(1), lower.unsqueeze(1))


@given(boxes_and_rows())
def test_minimum_is_the_least_over_the_corners(drawn: tuple[Box, Tensor]) -> None:
    box, rows = drawn
    least = torch.einsum("brn,bcn->brc", rows.flatten(2), corners(box)).amin(2)
    torch.testing.assert_close(box.minimum(rows), least, rtol=1e-13, atol=1e-13)


@given(boxes_and_rows())
def test_argmin_is_in_the_box_and_attains_the_minimum(drawn: tuple[Box, Tensor]) -> None:
    box, rows = drawn
    x = box.argmin(rows)
    assert x.shape == rows.shape
    assert ((x >= box.lower.unsqueeze(1)) & (x <= box.upper.unsqueeze(1))).all()
    assert torch.equal((rows * x).flatten(2).sum(2), box.minimum(rows))


def test_balls_are_frozen() -> None:
    ball = Ball(torch.zeros(3), radius=0.1)
    with pytest.raises(AttributeError, match="cannot assign"):
        ball.radius = 0.2  # type: ignore[misc]
