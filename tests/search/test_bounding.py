"""The bounds of a batch of boxes are those of each box by itself, and no box is bounded twice."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from bounds.deadline import NEVER
from bounds.search import bounding
from bounds.search.bounding import Question, bound
from bounds.search.domains import Domains, distinct, join, roots
from bounds.sets.box import Box
from tests.support.networks import Dice
from tests.support.referee import random_net


def scene() -> tuple[Question, Domains]:
    """Three disjuncts of two rows on two boxes: the second box in two of them, once with signs."""
    dice, network = Dice(0), random_net(3, 12, 12, 2, scale=2.0)
    question = Question(network, dice.normal(3, 2, 2), dice.normal(3, 2))
    lower = dice.normal(2, 3)
    boxes = [Box(low.unsqueeze(0), low.unsqueeze(0) + 0.7) for low in lower]
    nothing = torch.zeros(1, 24, dtype=torch.int8)
    first, second = (roots(box, nothing, [0, 1, 2], [0.0] * 3) for box in boxes)
    found = bound(question, second.take(slice(2, 3)), NEVER).signs
    assert bool(found.any())
    signed = replace(second.take(slice(2, 3)), signs=found)
    return question, join([first, second.take(slice(0, 2)), signed])


def test_boxes_with_their_signs_are_told_apart() -> None:
    _, domains = scene()
    first, of = distinct(domains)
    assert first.tolist() == [0, 3, 5]
    assert first[of].tolist() == [0, 0, 0, 3, 3, 5]
    first, of = distinct(domains.take(slice(0, 1)))
    assert (first.tolist(), of.tolist()) == ([0], [0])


def test_boxes_of_several_disjuncts_are_each_bounded_by_themselves() -> None:
    """Where no box comes twice, in whatever order they are."""
    question, domains = scene()
    some = domains.take(torch.tensor([1, 5, 3]))
    for order in itertools.permutations(range(3)):
        part = some.take(torch.tensor(order))
        first, of = distinct(part)
        assert first.tolist() == of.tolist() == [0, 1, 2]
        found = bound(question, part, NEVER)
        for k in range(3):
            alone = bound(question, part.take(slice(k, k + 1)), NEVER)
            for name in ("proof", "coefficients", "points", "values", "signs"):
                one = getattr(found, name)[k : k + 1]
                torch.testing.assert_close(one, getattr(alone, name), rtol=1e-9, atol=1e-9)


def test_a_box_of_several_disjuncts_is_bounded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    question, domains = scene()
    each = [bound(question, domains.take(slice(k, k + 1)), NEVER) for k in range(len(domains))]
    counts: list[int] = []
    original = bounding.relu_bounds

    def counted(network: Any, box: Box, **options: Any) -> Any:
        counts.append(len(box))
        return original(network, box, **options)

    monkeypatch.setattr(bounding, "relu_bounds", counted)
    together = bound(question, domains, NEVER)
    assert counts == [3]
    for name in ("proof", "coefficients", "points", "values", "signs"):
        alone = torch.cat([getattr(one, name) for one in each])
        torch.testing.assert_close(getattr(together, name), alone, rtol=1e-9, atol=1e-9)
    passes = [int(one.passes) for one in each]
    assert together.passes.tolist() == [passes[0], 0, 0, passes[3], 0, passes[5]]
