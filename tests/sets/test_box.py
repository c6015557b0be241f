"""Boxes by themselves: what is refused, which points they contain, and minima compared exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad, jvp, vmap

from bounds import Box, InvalidInputError
from tests.support.networks import Dice, seeds
from tests.support.refusals import refused

ONES = torch.ones(2, 3)
#: What is allowed for numbers that float32 has few digits of, or none.
SUBNORMAL = 1e-30
REFUSED: dict[str, tuple[Callable[[], Box], list[str]]] = {
    "integers": (
        lambda: Box(ONES.long(), ONES),
        ["Box(lower) got lower of type torch.int64", "lower.float()"],
    ),
    "a list": (lambda: Box(ONES, [1.0]), ["Box(upper) got upper of type list"]),  # type: ignore[arg-type]
    "shape": (
        lambda: Box(ONES, ONES[:, :2]),
        ["Box(upper) has shape (2, 2)", "(3,) or (batch, 3)"],
    ),
    "no batch": (lambda: Box(ONES[:0], ONES[:0]), ["Box(lower) has shape (0, 3)"]),
    "infinite": (lambda: Box(-ONES / 0, ONES), ["Box(lower) has NaN or infinite entries"]),
    "crossed": (
        lambda: Box(torch.tensor([[0.0, 0, 0], [0, 2, 0]]), ONES),
        ["the box of input 1 is empty"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_box_is_refused(name: str) -> None:
    make, fragments = REFUSED[name]
    refused(lambda: make().resolve((3,)), InvalidInputError, *fragments)


def test_ends_broadcast_and_may_meet() -> None:
    box = Box(ONES[0], 1.0 + torch.arange(6).reshape(2, 3)).resolve((3,))
    assert box.lower.tolist() == ONES.tolist()
    assert box.upper.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_contains_its_ends_and_nothing_beyond() -> None:
    box = Box(torch.tensor([[0.0, 1.0], [5.0, 5.0]]), torch.tensor([[1.0, 2.0], [6.0, 6.0]]))
    above, below = math.nextafter(1, 2), math.nextafter(0, -1)
    points = torch.tensor(
        [[0.0, 1.0], [1.0, 2.0], [above, 1.5], [below, 1.5], [0.5, math.nextafter(2, 3)]],
        dtype=torch.float64,
    )
    found = box.contains(torch.stack([points, points + 5]))
    assert found.tolist() == [[True, True, False, False, False], [True, *[False] * 4]]


@given(seeds, st.sampled_from([torch.float32, torch.float64]), st.sampled_from([0, -30, -140]))
def test_rounded_minima_are_below_the_exact_ones(seed: int, dtype: torch.dtype, power: int) -> None:
    """And by no more than the rounding of so many terms may be; with numbers that cancel."""
    dice = Dice(seed)
    centre = 100 * dice.normal(2, 20)
    box = Box(*((centre + sign * dice.normal(2, 20).abs()).to(dtype) for sign in (-1, 1)))
    c = (dice.normal(2, 4, 20) * 2.0**power).to(dtype)
    below, plain = box.minimum_below(c), box.minimum(c)
    exact = [[_minimum(box, i, c[i, row]) for row in range(4)] for i in range(2)]
    unit = torch.finfo(dtype).eps * (c.abs() * box.magnitude.unsqueeze(1)).sum(2)
    for i in range(2):
        for row in range(4):
            found = Fraction(float(below[i, row]))
            assert found <= exact[i][row]
            least = exact[i][row] - 100 * Fraction(float(unit[i, row]))
            assert found >= least - Fraction(SUBNORMAL)
    assert bool((below <= plain).all())


def test_rounded_minima_count_what_underflows() -> None:
    """−0.4 of the smallest number is rounded to 0, twenty times."""
    box = Box(torch.full((1, 20), -0.4).double(), torch.full((1, 20), 100.0).double())
    c = torch.full((1, 1, 20), 5e-324, dtype=torch.float64)
    assert float(box.minimum(c)) == 0
    assert Fraction(float(box.minimum_below(c))) <= _minimum(box, 0, c[0, 0])


def _minimum(box: Box, image: int, c: Tensor) -> Fraction:
    ends = (box.lower[image].tolist(), box.upper[image].tolist())
    return sum(
        (
            min(Fraction(a) * Fraction(low), Fraction(a) * Fraction(high))
            for a, low, high in zip(c.tolist(), *ends, strict=True)
        ),
        Fraction(0),
    )


@pytest.mark.parametrize(("coefficient", "end"), [(-1e-308, 1e6), (-1e10, 1e-308)])
def test_factors_that_are_flushed_to_zero_are_allowed_for(coefficient: float, end: float) -> None:
    count = 20
    box = Box(torch.zeros(1, count).double(), torch.full((1, count), end, dtype=torch.float64))
    rows = torch.full((1, 1, count), coefficient, dtype=torch.float64)
    exact = Fraction(coefficient) * Fraction(end) * count
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    try:
        plain, below = box.minimum(rows).item(), box.minimum_below(rows).item()
    finally:
        torch.set_flush_denormal(False)
    assert plain == 0
    assert Fraction(below) <= exact
    assert below > -1e-290


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_minima_are_attained_at_ends_whatever_these_are(dtype: torch.dtype) -> None:
    """Each coefficient with each pair of ends, one after another; 0 and NaN go to the upper end."""
    most, least = torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal
    numbers = [0.0, -0.0, 1.0, -1.0, most, -most, least, -least]
    ends = [(a, b) for a in numbers for b in numbers if a <= b]
    coefficients = [*numbers, math.inf, -math.inf, math.nan]
    pairs = [(c, *pair) for c in coefficients for pair in ends]
    c, lower, upper = (torch.tensor(part, dtype=dtype) for part in zip(*pairs, strict=True))
    found = Box(lower[None], upper[None]).argmin(c[None, None])[0, 0]
    for k, (coefficient, low, high) in enumerate(pairs):
        assert float(found[k]) == (low if coefficient > 0 else high)
    tracked = Box(lower[None].requires_grad_(), upper[None].requires_grad_())
    assert torch.equal(tracked.argmin(c[None, None]).detach()[0, 0], found)


@pytest.mark.parametrize("order", ["grad of grad", "grad of jvp", "grad of vmap"])
def test_derivatives_of_any_order_where_the_ends_coincide(order: str) -> None:
    """⟨c, x⟩ over a point x is linear in x; and its square's second derivatives are 2 c cᵀ."""
    c, x = torch.tensor([[[1.0, -2.0]]]), torch.tensor([[0.2, -0.3]])

    def value(x: Tensor) -> Tensor:
        return Box(x, x).minimum(c)[0, 0]

    def square(x: Tensor) -> Tensor:
        return value(x) ** 2

    match order:
        case "grad of grad":
            found = grad(lambda x: grad(square)(x)[0, 0])(x)
            expected = 2 * c[0] * c[0, 0, 0]
        case "grad of jvp":
            found = grad(lambda x: jvp(square, (x,), (torch.ones_like(x),))[1])(x)
            expected = 2 * c[0] * c.sum()
        case _:
            found = grad(lambda x: vmap(lambda part: value(part[None]))(x).sum())(x)
            expected = c[0]
    assert torch.allclose(found, expected)
