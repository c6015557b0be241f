"""What closed nodes teach: which phases a refutation needs, and where these are met again."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bounds.search.relu_split.bounding import Evidence, needed
from bounds.search.relu_split.clauses import Clauses
from tests.support.networks import Dice, seeds


def value_with(evidence: Evidence, phases: dict[int, int], kept: dict[int, int]) -> float:
    """d where only these phases leave vertices out; d with all of them is the evidence's."""
    at_lower, at_upper = np.minimum(evidence.costs, 0.0)
    value = evidence.value
    for neuron, side in phases.items():
        if neuron not in kept:
            left = (at_upper if side > 0 else at_lower)[neuron]
            value += min(at_lower[neuron], at_upper[neuron]) - left
    return float(value)


@given(seeds, st.integers(0, 12))
def test_what_is_needed_is_enough_and_no_phase_of_it_is_spare(seed: int, n: int) -> None:
    dice = Dice(seed)
    # Eighths: sums are exact, and ties are common.
    costs = (dice.below(33, 2 * n).numpy().reshape(2, n) - 16) / 8
    phases = {i: int(dice.below(2, 1)) * 2 - 1 for i in range(n) if int(dice.below(3, 1))}
    margin = int(dice.below(8, 1)) / 8
    value = margin + (1 + int(dice.below(64, 1))) / 8
    evidence = Evidence(np.ones(1), np.zeros(n), value, costs)
    kept = needed(evidence, phases, margin)
    assert kept.items() <= phases.items()
    assert value_with(evidence, phases, kept) > margin
    for neuron in kept:
        fewer = {i: side for i, side in kept.items() if i != neuron}
        assert value_with(evidence, phases, fewer) <= margin


def test_clauses_of_which_one_phase_is_missing() -> None:
    clauses = Clauses(2, 5)
    assert clauses.look((1, 1)) == (None, None)
    clauses.learn({1: 1, 2: -1}, 0)
    clauses.hold((1, 1))
    assert clauses.look((1, 1)) == (None, ((2, -1), 0))
    clauses.hold((2, 1))
    assert clauses.look((1, 1)) == (None, None)
    clauses.release((2, 1))
    clauses.hold((2, -1))
    assert clauses.look((2, -1)) == (0, None)
    clauses.learn({3: 1}, 1)
    clauses.learn({4: 1}, 2)
    assert clauses.look((2, -1)) == (None, None)  # two are watched: the longer one is forgotten
    clauses.hold((3, 1))
    assert clauses.look((3, 1)) == (1, None)


@given(seeds, st.integers(1, 12), st.integers(1, 30))
def test_clauses_as_they_are_defined(seed: int, n: int, capacity: int) -> None:
    """Of random ones, while phases come and go: the oldest that is violated, else the oldest of
    which one phase is missing, of a neuron that has none; of those that are not forgotten."""
    dice, clauses = Dice(seed), Clauses(capacity, n)
    learnt: list[dict[int, int]] = []
    kept: list[int] = []
    held: dict[int, int] = {}
    for _ in range(60):
        neuron, side = int(dice.below(n, 1)), int(dice.below(2, 1)) * 2 - 1
        match int(dice.below(3, 1)):
            case 0:
                size = 1 + int(dice.below(min(n, 4), 1))
                some = {int(i): int(dice.below(2, 1)) * 2 - 1 for i in dice.below(n, size)}
                if len(kept) == capacity:
                    kept.sort(key=lambda name: (len(learnt[name]), -name))
                    kept = sorted(kept[: capacity // 2])
                clauses.learn(some, len(learnt))
                kept.append(len(learnt))
                learnt.append(some)
            case 1 if neuron in held:
                clauses.release((neuron, held.pop(neuron)))
            case _ if neuron not in held:
                held[neuron] = side
                clauses.hold((neuron, side))
        for literal in held.items():
            watched = [
                (name, learnt[name].items() - held.items())
                for name in kept
                if literal in learnt[name].items()
            ]
            violated = next((name for name, missing in watched if not missing), None)
            units = [(next(iter(left)), name) for name, left in watched if len(left) == 1]
            unit = next(((other, name) for other, name in units if other[0] not in held), None)
            assert clauses.look(literal) == (violated, unit if violated is None else None)
