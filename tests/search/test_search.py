"""Whole searches of drawn networks: against their exact minimum, and against rational points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
import lp_reference
from bounds import deadline
from bounds.deadline import NEVER, Deadline
from bounds.intermediate import forward
from bounds.search import bounding
from bounds.search.bounding import Question
from bounds.search.domains import signs_of
from bounds.search.search import Attack, BoxSearch, Search
from bounds.search.tree import Tree
from bounds.sets.box import Box
from tests.support.networks import Dice, seeds
from tests.support.rational import evaluate, fractions

#: Boxes that a search of a drawn network may bound.
LIMIT = 4000


@dataclass
class Scene:
    """A drawn MLP on a box of one to three inputs, and rows in disjuncts of one or two. forward:
    whether l and u are carried forward."""

    model: nn.Sequential
    box: Box
    C: Tensor
    d: Tensor
    pairs: bool
    forward: bool = False

    @staticmethod
    def draw(seed: int, inputs: int, hidden: int, *, pairs: bool = False) -> Scene:
        dice, layers = Dice(seed), []
        for before, after in itertools.pairwise([inputs, *[hidden] * 2, 2]):
            layer = nn.Linear(before, after).double()
            layer.weight.data = dice.normal(after, before) / math.sqrt(before)
            layer.bias.data = dice.normal(after) / 4
            layers += [layer, nn.ReLU()]
        middle = dice.normal(1, inputs) / 2
        reach = dice.uniform(1, inputs)
        rows = 4 if pairs else 2
        return Scene(
            nn.Sequential(*layers[:-1]),
            Box(middle - reach, middle + reach),
            dice.normal(rows, 2),
            torch.zeros(rows).double(),
            pairs,
        )

    @property
    def network(self) -> bounds.Network:
        return bounds.from_torch(self.model, tuple(self.box.lower.shape[1:])).detach()

    @property
    def relaxation(self) -> bounds.Relaxation:
        return bounds.relax(self.network, self.box, bounds.Specification(self.C, self.d))

    @property
    def minima(self) -> Tensor:
        """Of each row, exactly."""
        return torch.from_numpy(lp_reference.solve(self.relaxation, milp=True).value[0])

    def question(self) -> Question:
        together = 2 if self.pairs else 1
        C, d = (each.unflatten(0, (-1, together)) for each in (self.C, self.d))
        return Question(self.network, C, d, forward=self.forward)

    def search(self, attack: Attack | None = None, **options: Any) -> BoxSearch:
        question = self.question()
        signs = signs_of(self.relaxation.relu_bounds, torch.zeros(1, 1, dtype=torch.int8))
        return BoxSearch(
            question,
            self.box,
            signs,
            dict.fromkeys(range(len(question.d)), -math.inf),
            attack=attack or Hunter(self).attack,
            **{"limit": LIMIT, **options},
        )

    def unsafe(self, x: list[Fraction]) -> bool:
        """Whether all rows of a disjunct are at most 0 at a point, over the rationals."""
        y = evaluate(self.model, x)
        values = [
            sum(map(Fraction.__mul__, fractions(row), y), Fraction(float(d)))
            for row, d in zip(self.C, self.d, strict=True)
        ]
        together = 2 if self.pairs else 1
        parts = (values[k : k + together] for k in range(0, len(values), together))
        return any(max(part) <= 0 for part in parts)


@dataclass
class Hunter:
    """Confirms exactly what is true over the rationals."""

    scene: Scene
    found: list[Tensor] = field(default_factory=list)

    @property
    def attack(self) -> Attack:
        return Attack(self.confirm, lambda k, box, starts: self.confirm(starts[0]), 100)

    def confirm(self, points: Tensor) -> bool:
        for x in points:
            inside = bool(((self.scene.box.lower[0] <= x) & (x <= self.scene.box.upper[0])).all())
            if inside and self.scene.unsafe(fractions(x)):
                self.found.append(x)
        return bool(self.found)


drawn = st.tuples(seeds, st.integers(1, 3), st.integers(1, 8))
#: How dear backward bounds may be besides those that are carried forward: as ever, or not at all;
#: None where there are no others.
prices = st.sampled_from([None, forward.DEAR, 0])


@given(drawn, st.sampled_from([-0.3, -0.01, -1e-9, 0.0, 1e-9, 0.01, 0.3]), prices)
def test_the_verdict_is_the_sign_of_the_minimum(
    shape: tuple[int, int, int], by: float, price: int | None
) -> None:
    """Each row is moved so that its minimum is `by`, of either sign or none."""
    scene = Scene.draw(*shape)
    scene.d = by - scene.minima
    hunter = Hunter(scene)
    scene.forward = price is not None
    with patch.object(forward, "DEAR", price):
        found = scene.search(hunter.attack).run(NEVER)
    assert (found.ended == "found") == bool(hunter.found)
    if found.ended == "closed":
        assert by > -1e-7
        assert (found.open, found.worst) == (0, math.inf)
    elif found.ended == "found":
        assert by < 1e-7
    else:
        assert found.open > 0
        assert found.worst <= by + 1e-7
    if abs(by) >= 0.01:
        assert found.ended == ("closed" if by > 0 else "found")


@settings(max_examples=settings().max_examples // 2)
@given(drawn, st.floats(-0.5, 0.5), prices)
def test_no_rational_point_contradicts_a_closed_tree(
    shape: tuple[int, int, int], by: float, price: int | None
) -> None:
    """Disjuncts of two rows. Where all trees are closed, nothing is unsafe anywhere; and every leaf
    is right about the points that it is asked about, whatever the others are."""
    scene = Scene.draw(*shape, pairs=True)
    scene.d = by - scene.minima.unflatten(0, (-1, 2)).amax(1).repeat_interleave(2)
    tree, dice = Tree(2), Dice(shape[0])
    scene.forward = price is not None
    with patch.object(forward, "DEAR", price):
        found = scene.search(tree=tree).run(NEVER)
    splits, leaves = tree.splits, tree.leaves
    assert not splits.keys() & leaves.keys()
    if found.ended == "closed":  # every part of every split is closed
        children = {child for split in splits.values() for child in split[2:]}
        assert splits.keys() | leaves.keys() == {0, 1} | children
    share = dice.uniform(40, *scene.box.lower.shape[1:])
    share[::4] = share[::4].round()
    points = scene.box.lower + share * (scene.box.upper - scene.box.lower)
    for x in torch.minimum(torch.maximum(points, scene.box.lower), scene.box.upper):
        exact = fractions(x)
        assert found.ended != "closed" or not scene.unsafe(exact)
        for disjunct in (0, 1):
            _right_about(scene, exact, disjunct, splits, leaves)


def _right_about(
    scene: Scene,
    x: list[Fraction],
    disjunct: int,
    splits: dict[int, tuple[int, float, int, int]],
    leaves: dict[int, tuple[str, int]],
) -> None:
    """A point that meets the disjunct comes to no leaf, on whichever way down."""
    rows = slice(2 * disjunct, 2 * disjunct + 2)
    one = Scene(scene.model, scene.box, scene.C[rows], scene.d[rows], pairs=True)
    unsafe, nodes = one.unsafe(x), [disjunct]
    while nodes:
        node = nodes.pop()
        assert not (unsafe and node in leaves)
        if node in splits:
            coordinate, place, low, high = splits[node]
            nodes += [low] * (x[coordinate] <= Fraction(place))
            nodes += [high] * (x[coordinate] >= Fraction(place))


@given(drawn)
def test_boxes_that_lie_at_each_other_share_their_face(shape: tuple[int, int, int]) -> None:
    """Without cuts, the closed boxes of a closed tree cover the whole box, corners of parts
    included."""
    scene, seen = Scene.draw(*shape), []
    scene.d = 0.05 - scene.minima
    original = bounding.bound

    def watching(question: Question, domains: Any, *rest: Any) -> Any:
        found = original(question, domains, *rest)
        closed = found.best > 0
        seen.append((domains.lower[closed], domains.upper[closed], domains.disjunct[closed]))
        return found

    with pytest.MonkeyPatch.context() as change:
        change.setattr("bounds.search.search.bound", watching)
        change.setattr("bounds.search.search.clip", lambda lower, upper, *_: (lower, upper))
        found = scene.search().run(NEVER)
    if found.ended != "closed":
        return
    lower, upper, disjunct = (torch.cat(each) for each in zip(*seen, strict=True))
    points = torch.cat((lower, upper, (lower + upper) / 2))
    for k in range(2):
        own = disjunct == k
        inside = (points.unsqueeze(1) >= lower[own]) & (points.unsqueeze(1) <= upper[own])
        assert inside.all(2).any(1).all()


@settings(max_examples=settings().max_examples // 3)
@given(drawn)
def test_the_same_search_makes_the_same_tree(shape: tuple[int, int, int]) -> None:
    scene = Scene.draw(*shape)
    scene.d = 1e-3 - scene.minima
    trees = [Tree(2), Tree(2)]
    first, second = (scene.search(tree=tree).run(NEVER) for tree in trees)
    assert first == second
    assert trees[0].splits == trees[1].splits
    assert trees[0].leaves == trees[1].leaves


# -- how a search can end


def hard() -> Scene:
    """Minima of 1e-9, which takes many boxes."""
    scene = Scene.draw(5, 3, 8)
    scene.d = 1e-9 - scene.minima
    return scene


def test_it_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes with every look at the clock."""
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    monkeypatch.setattr(deadline, "time", clock)
    states: list[Search] = []
    search = hard().search(watch=states.append)
    found = search.run(Deadline(15))
    assert found.ended == "time"
    assert found.open > 0
    assert found.worst < 1e-9
    assert search.state == found
    assert [state.ended for state in states] == ["open"] * len(states)
    shares = [state.closed for state in states]
    assert shares == sorted(shares)
    assert 0 < shares[-1] < 1
    assert found.domains == states[-1].domains > 1


def test_it_ends_with_its_memory() -> None:
    found = hard().search(capacity=1000).run(NEVER)
    assert found.ended == "memory"
    assert found.open > 0


def test_it_ends_with_its_boxes() -> None:
    found = hard().search(limit=10).run(NEVER)
    assert found.ended == "domains"
    assert 10 <= found.domains < 30


def zero(inputs: int = 1) -> Scene:
    """A row that is 0 wherever x ≤ 0, and no counterexample to a strict one."""
    model = nn.Sequential(nn.Linear(inputs, 1), nn.ReLU(), nn.Linear(1, 2)).double()
    for parameter in model.parameters():
        parameter.data.zero_()
    model[0].weight.data[0, 0] = 1.0
    model[2].weight.data[0, 0] = 1.0
    one = torch.ones(1, inputs).double()
    C = torch.tensor([[1.0, 0.0]]).double()
    return Scene(model, Box(-one, one), C, torch.zeros(1).double(), False)


NONE = Attack(lambda points: False, lambda k, box, starts: False, 1)


def test_it_ends_where_nothing_can_be_excluded() -> None:
    found = zero(2).search(NONE, limit=math.inf).run(NEVER)
    assert found.ended == "refused"
    assert found.open > 0


def test_it_ends_where_boxes_have_no_middle() -> None:
    """Neighbouring numbers on either side of the only root of a row."""
    scene = zero()
    scene.box = Box(torch.zeros(1, 1).double(), torch.full((1, 1), 5e-324).double())
    found = scene.search(NONE).run(NEVER)
    assert found.ended == "precision"
    assert found.open == 1


def test_broken_bounds_close_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene.draw(0, 2, 4)
    scene.d = 5 - scene.minima
    found = scene.search().run(NEVER)
    assert (found.ended, found.closed) == ("closed", 1.0)
    original = bounding.relu_bounds
    breaks: list[Callable[[Tensor], Tensor]] = [
        lambda bound: bound * math.nan,
        lambda bound: bound * math.inf,
        lambda bound: bound + 100.0,  # contradicts the network
    ]
    for change in breaks:

        def broken(*given: Any, change: Callable[[Tensor], Tensor] = change, **options: Any) -> Any:
            found = original(*given, **options)
            layers = tuple(bounds.ReluBounds(change(k.lower), k.upper) for k in found.layers)
            return SimpleNamespace(layers=layers)

        monkeypatch.setattr(bounding, "relu_bounds", broken)
        found = scene.search(NONE, limit=50).run(NEVER)
        assert found.ended == "domains"
