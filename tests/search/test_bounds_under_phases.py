"""Refutations that are bounds, or use them: what `refuted` makes of them is the dual function, and
no bound that it proves excludes a point of the network."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import bounds
from bounds.search import visible
from bounds.search.relu_split.soundness import refuted
from bounds.search.relu_tree import Bound, Refutation, needed
from tests.support.bounded_proofs import Dense, bound_of, chain, dense, usable
from tests.support.networks import Dice, seeds
from tests.support.problems import points
from tests.support.proofs import unstable_neurons

ONE = torch.ones(1).double()


def drawn(problem: Dense, dice: Dice, count: int) -> list[Refutation]:
    """Of any multipliers, phases and ends, each of which uses all it may of the earlier ones."""
    neurons, found = unstable_neurons(problem.relaxation), list[Refutation]()
    lower, upper = zip(*problem.root, strict=True)
    for _ in range(count):
        some = dice.below(4, len(neurons)).tolist()
        phases = {n: 2 * kind - 1 for n, kind in zip(neurons, some, strict=True) if kind < 2}
        k, i = neurons[int(dice.below(len(neurons), 1))]
        side, share = int(2 * dice.below(2, 1) - 1), [0.0, -0.0, 0.3, 0.9, 1.5]
        end = (lower if side > 0 else upper)[k][i] * share[int(dice.below(5, 1))]
        bound = Bound((k, i), side, float(end)) if dice.below(3, 1) else None
        weights = dice.uniform(len(problem.d))
        nu = []
        for l, u in problem.root:
            own = dice.normal(len(l)) * torch.from_numpy((l < 0) & (u > 0))
            nu.append(own * (dice.below(3, len(l)) > 0))
        held = phases if dice.below(2, 1) else dict(list(phases.items())[:2])
        found.append(Refutation(held, weights, tuple(nu), usable(held, found), bound))
    return found


@given(seeds, st.integers(2, 30))
def test_the_value_is_the_dual_function(seed: int, count: int) -> None:
    """Just below it, wherever anything is left."""
    problem, dice = dense(3, 7, 7, 3, seed=seed, radius=1.0), Dice(seed)
    some = drawn(problem, dice, count)
    values = refuted(problem.relaxation, some, earlier=some).tolist()
    compared = 0
    for one, value in zip(some, values, strict=True):
        ends = problem.left(dict(one.phases), one.used(some), one.bound)
        if all((l <= u).all() for l, u in ends):
            nu = [each.numpy() for each in one.multipliers]
            expected = problem.value(ends, one.weights.numpy(), nu)
            assert expected - 1e-10 * (1 + abs(expected)) <= value <= expected
            compared += 1
    assert compared > 0


@settings(max_examples=15)
@given(seeds, st.sampled_from([-0.5, -0.1, 0.05]), st.integers(0, 2))
def test_no_bound_excludes_a_point_of_the_network(seed: int, lift: float, depth: int) -> None:
    """Bounds by LPs; and nor do they with ends that are stronger, where `refuted` has them."""
    problem, dice = dense(2, 5, 5, 3, seed=seed, radius=1.0), Dice(seed)
    problem = problem.lifted(lift - problem.refutation({})[1])
    chosen = unstable_neurons(problem.relaxation)[:depth]
    phases = {neuron: int(2 * dice.below(2, 1) - 1) for neuron in chosen}
    found = chain(problem, phases, 1, dice)
    assume(found)
    stronger = [
        replace(one, bound=replace(bound_of(one), end=bound_of(one).end * float(share)))
        for one, share in zip(found, dice.uniform(len(found)), strict=True)
    ]
    x = points(problem.relaxation.input_set, 64)[0]
    pre: list[Tensor] = []

    def keep(position: int, values: Tensor) -> Tensor:
        pre.append(values)
        return values.clamp(min=0)

    problem.relaxation.network.evaluate(x, keep)
    rows = problem.relaxation.network(x) @ problem.relaxation.C[0].T + problem.relaxation.d[0]
    met = (rows <= 0).all(1)
    assert (refuted(problem.relaxation, found, earlier=found) > 0).all()
    for some in (found, stronger):
        holds = (refuted(problem.relaxation, some, earlier=found) > 0).tolist()
        for one, proved in zip(some, holds, strict=True):
            if proved:
                bound = bound_of(one)
                (k, i), side, end = bound.neuron, bound.side, bound.end
                assert side * end <= problem.truth(dict(one.phases), (k, i), side) + 1e-7
                held = met.clone()
                for (layer, neuron), sign in one.phases.items():
                    held &= sign * pre[layer][:, neuron] >= 0
                assert (side * pre[k][held, i] >= side * end).all()


@pytest.mark.parametrize("seed", [0, 3, 8])
def test_multipliers_of_bounds_are_narrowed_too(seed: int) -> None:
    """As far as they still prove the same, with what they use."""
    problem = dense(3, 6, 6, 3, seed=seed, radius=1.0)
    problem = problem.lifted(-0.01 - problem.refutation({})[1])
    found = chain(problem, {}, 1, Dice(0))
    assert any(one.uses for one in found)
    rows = list(range(len(problem.d)))
    flat = visible.narrow(problem.relaxation, rows, found, earlier=found)
    assert {each.itemsize for each in flat} > {2}
    sizes = [len(l) for l, _ in problem.root]
    narrowed = [
        replace(one, multipliers=torch.from_numpy(each.astype(float)).split(sizes))
        for one, each in zip(found, flat, strict=True)
    ]
    assert (refuted(problem.relaxation, narrowed, earlier=found) > 0).all()


# -- what is no bound, and no use


@pytest.mark.parametrize(
    ("side", "end"),
    [(1, 0.5), (-1, -0.5), (1, math.nan), (-1, math.inf), (1, -math.inf), (0, 0.0), (2, -1.0)],
)
def test_what_is_no_bound(side: int, end: float) -> None:
    with pytest.raises(ValueError, match="a bound of side"):
        Bound((0, 0), side, end)


def test_what_cannot_be_used() -> None:
    bound, plus, minus = Bound((0, 1), 1, -1.0), {(0, 0): 1}, {(0, 0): -1}
    lemma, other = (Refutation(each, ONE, (), (), bound) for each in (plus, {}))
    plain = Refutation(plus, ONE, ())
    some = [lemma, other, plain]
    assert Refutation(plus, ONE, (), (0, 1)).used(some) == [bound, bound]
    for phases, position in ((minus, 0), ({}, 0), (plus, 2), (plus, 3), (plus, -1)):
        with pytest.raises(ValueError, match="a refutation"):
            Refutation(phases, ONE, (), (position,)).used(some)


def test_what_leaves_rest_on() -> None:
    """In order, and only what has a proof."""
    bound = Bound((0, 1), 1, -1.0)

    def uses(*positions: int, refutes: bool = False) -> Refutation:
        return Refutation({}, ONE, (), positions, None if refutes else bound)

    some = [uses(), uses(), uses(1), uses(), uses(2, refutes=True), uses(0, refutes=True)]
    assert needed(some, [4, 4]) == [1, 2, 4]
    assert needed(some, [5, 4]) == [0, 1, 2, 4, 5]
    with pytest.raises(ValueError, match="cites a bound"):
        needed(some, [2])
    for wrong in ([uses(0), uses(0, refutes=True)], [uses(1), uses(0), uses(0, refutes=True)]):
        with pytest.raises(ValueError, match="does not come before it"):
            needed(wrong, [len(wrong) - 1])


def test_only_unstable_neurons_are_bounded() -> None:
    network = bounds.from_torch(torch.nn.ReLU(), (2,), dtype=torch.float64)
    box = bounds.Box(torch.tensor([[-1.0, 1.0]]).double(), torch.tensor([[1.0, 2.0]]).double())
    relaxation = bounds.relax(network, box, bounds.margins(0, 2))
    for i, holds in ((0, True), (1, False)):
        bound = Refutation({}, ONE, (torch.zeros(2).double(),), (), Bound((0, i), 1, -0.5))
        using = Refutation({}, ONE, (torch.zeros(2).double(),), (0,))
        for one in (bound, using):
            if holds:
                assert refuted(relaxation, [one], earlier=[bound]).isfinite().all()
            else:
                with pytest.raises(ValueError, match="that is not unstable"):
                    refuted(relaxation, [one], earlier=[bound])
