"""Cuts, splits and the frontier, each by itself."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bounds.search.branching import coordinates, halves
from bounds.search.clipping import clip
from bounds.search.domains import Domains, bounds_of, join, signs_of
from bounds.search.frontier import Frontier
from tests.support.networks import Dice, seeds
from tests.support.rational import fractions


def domains(lower: Tensor, upper: Tensor, worst: Tensor | None = None) -> Domains:
    count = len(lower)
    return Domains(
        lower,
        upper,
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(count).double() if worst is None else worst,
        torch.arange(count),
        torch.zeros(count, 3, dtype=torch.int8),
        torch.full((count,), 0.125).double(),
    )


# -- cuts


def least(c: list[Fraction], lower: list[Fraction], upper: list[Fraction]) -> Fraction:
    """min ⟨c, x⟩ over the box, exactly."""
    return sum((a * (x if a > 0 else y) for a, x, y in zip(c, lower, upper, strict=True)),
               Fraction(0))  # fmt: skip


@given(seeds, st.integers(1, 4), st.integers(1, 3), st.sampled_from([-30, -3, 0, 3, 30]))
def test_no_point_where_all_rows_hold_is_cut_off(
    seed: int, inputs: int, rows: int, exponent: int
) -> None:
    """Linear rows ⟨c, x⟩ + k; the points are the corners of what each coordinate has room for, in
    rational numbers."""
    dice = Dice(seed)
    lower = dice.normal(1, inputs)
    upper = lower + dice.uniform(1, inputs) * 2.0**exponent
    c = dice.normal(1, rows, inputs) * dice.below(4, 1, rows, inputs).clamp(max=1)
    share = dice.uniform(rows)
    ends = fractions(lower), fractions(upper)
    bound, constants = [], []
    for row, part in zip(c[0], share.tolist(), strict=True):
        exact = fractions(row)
        low = least(exact, *ends)
        high = -least([-a for a in exact], *ends)
        constants.append(-(low + (high - low) * Fraction(part)))
        b = float(low + constants[-1])
        bound.append(math.nextafter(b, -math.inf))
    cut_lower, cut_upper = clip(lower, upper, torch.tensor([bound], dtype=torch.float64), c)
    assert (cut_lower >= lower).all()
    assert (cut_upper <= upper).all()
    left = fractions(cut_lower), fractions(cut_upper)
    for row, k in zip(c[0], constants, strict=True):
        exact = fractions(row)
        for j in range(inputs):
            # All others where they leave x_j the most room.
            x = [a if slope > 0 else b for slope, a, b in zip(exact, *ends, strict=True)]
            others = k + sum(exact[i] * x[i] for i in range(inputs) if i != j)
            for end in (ends[0][j], ends[1][j], *([-others / exact[j]] if exact[j] else [])):
                x[j] = end
                if not ends[0][j] <= end <= ends[1][j]:
                    continue
                inside = all(a <= v <= b for a, v, b in zip(*(left[0], x, left[1]), strict=True))
                values = [
                    q + sum(map(Fraction.__mul__, fractions(r), x), Fraction(0))
                    for r, q in zip(c[0], constants, strict=True)
                ]
                assert inside or max(values) > 0


def test_cuts_are_as_deep_as_they_may_be() -> None:
    """x + y − 1 ≥ −1 on the unit square: x ≤ 1 and y ≤ 1; on [0, 4]²: x ≤ 1 and y ≤ 1 again."""
    lower, upper = torch.zeros(1, 2).double(), torch.full((1, 2), 4.0).double()
    rows = torch.tensor([[[1.0, 1.0], [0.0, -2.0]]]).double()
    low, high = clip(lower, upper, torch.tensor([[-1.0, -1.0]]).double(), rows)
    torch.testing.assert_close(high, torch.tensor([[1.0, 1.0]]).double())
    torch.testing.assert_close(low, torch.tensor([[0.0, 3.5]]).double())
    assert (low > high).any()  # together they leave nothing


def test_what_is_no_number_cuts_nothing() -> None:
    lower, upper = torch.zeros(4, 1).double(), torch.ones(4, 1).double()
    bounds = torch.tensor([[math.nan], [-math.inf], [-0.5], [-0.5]]).double()
    rows = torch.tensor([[[1.0]], [[1.0]], [[math.nan]], [[0.0]]]).double()
    low, high = clip(lower, upper, bounds, rows)
    assert torch.equal(low, lower)
    assert torch.equal(high, upper)


# -- splits


def test_the_coordinate_of_the_largest_score() -> None:
    lower = torch.zeros(4, 3).double()
    upper = torch.tensor([[1.0, 1.0, 1.0], [1.0, 9.0, 1.0], [1.0, 11.0, 1.0], [1.0, 3.0, 0.0]])
    slopes = torch.tensor([[1.0, 2.0, -3.0], [1.0, 0.0, 0.5], [1.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
    coordinate, place = coordinates(domains(lower, upper.double()), slopes.double())
    # With no slope at all a coordinate counts as if it had a tenth of the largest.
    assert coordinate.tolist() == [2, 0, 1, 1]
    assert place.tolist() == [0.5, 0.5, 5.5, 1.5]


def test_halves_have_the_middle_in_common() -> None:
    whole = domains(torch.zeros(2, 2).double(), torch.ones(2, 2).double())
    parts = halves(whole, torch.tensor([0, 1]), torch.tensor([0.25, 0.5]).double(), 7)
    assert parts.node.tolist() == [7, 8, 9, 10]
    assert parts.lower.tolist() == [[0, 0], [0, 0], [0.25, 0], [0, 0.5]]
    assert parts.upper.tolist() == [[0.25, 1], [1, 0.5], [1, 1], [1, 1]]


def test_neighbouring_numbers_are_not_split() -> None:
    one = torch.ones(1, 2).double()
    above = torch.nextafter(one, 2 * one)
    _, place = coordinates(domains(one, above), one)
    assert place.isnan().all()


# -- the frontier


@given(st.lists(st.integers(0, 5), max_size=8), st.integers(1, 7), seeds)
def test_nothing_is_lost_and_nothing_comes_twice(sizes: list[int], count: int, seed: int) -> None:
    frontier, first = Frontier(10**9), 0
    for size in sizes:
        part = domains(torch.zeros(size, 1), torch.ones(size, 1), Dice(seed).normal(size))
        part = join([part]).convert(lambda tensor: tensor)
        frontier.push(replace(part, node=part.node + first))  # numbered through
        first += size
    assert len(frontier) == first
    seen: list[int] = []
    while len(frontier):
        worst = frontier.worst
        part = frontier.pop(count)
        assert 0 < len(part) <= count
        assert min(float(part.worst.min()), frontier.worst) == worst
        seen += part.node.tolist()
    assert sorted(seen) == list(range(first))
    assert frontier.worst == math.inf
    assert not frontier.full


def test_the_newest_come_first_and_of_these_the_worst() -> None:
    frontier = Frontier(10**9)
    for numbers in ([-1.0, -3.0, -2.0], [-0.5, -0.25]):
        worst = torch.tensor(numbers).double()
        frontier.push(domains(torch.zeros(len(worst), 1), torch.ones(len(worst), 1), worst))
    assert frontier.pop(1).worst.tolist() == [-0.5]
    assert sorted(frontier.pop(2).worst.tolist()) == [-3.0, -0.25]
    assert frontier.pop(9).worst.tolist() == [-1.0, -2.0]


def test_it_knows_when_it_is_full() -> None:
    part = domains(torch.zeros(4, 1), torch.ones(4, 1))
    frontier = Frontier(part.bytes)
    frontier.push(part)
    assert not frontier.full
    frontier.push(part.take(slice(1)))
    assert frontier.full
    frontier.pop(2)
    assert not frontier.full


# -- signs


@given(seeds)
def test_signs_say_what_bounds_say(seed: int) -> None:
    dice = Dice(seed)
    shapes = [torch.Size((3,)), torch.Size((2, 2))]
    signs = dice.below(3, 5, 7).to(torch.int8) - 1
    layers = bounds_of(signs, shapes, torch.float64)
    assert [layer.lower.shape[1:] for layer in layers] == shapes
    assert torch.equal(signs_of(layers, signs), signs)
    # What is not known is infinite, and NaN says nothing.
    flat = torch.cat([layer.lower.flatten(1) for layer in layers], 1)
    assert torch.equal(flat == -math.inf, signs <= 0)
    unknown = [layer.convert(lambda bound: bound * math.nan) for layer in layers]
    assert not signs_of(unknown, signs).any()
