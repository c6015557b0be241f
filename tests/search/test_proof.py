"""What a search notes for a proof, and what of it goes to the file."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bounds
from bounds.search import visible
from bounds.search.proof import CaseProof, Leaf, Proof, in_order
from bounds.search.relu_tree import Refutation
from bounds.search.tree import CUT, OPEN, SPLIT, Tree
from tests.support.networks import Dice, seeds
from tests.support.proofs import refutation, unstable_neurons
from tests.support.referee import random_relaxation
from tests.support.refusals import refused


@given(seeds, st.integers(1, 4), st.integers(0, 12))
def test_trees_in_the_order_of_the_file(seed: int, roots: int, batches: int) -> None:
    """Some open nodes are split, a batch at a time, in any order; the rest are closed. Walked from
    the file's order, each tree has the same splits and leaves as from its own."""
    dice, tree, open_ = Dice(seed), Tree(roots), list(range(roots))
    children: dict[int, tuple[int, int]] = {}
    for batch in range(batches):
        some = [open_.pop(int(dice.below(len(open_), 1))) for _ in range(min(2, len(open_)))]
        first = tree.split(
            torch.tensor(some), torch.tensor([3 * batch, 1][: len(some)]), dice.normal(len(some))
        )
        for k, node in enumerate(some):
            children[node] = first + k, first + len(some) + k
            open_ += children[node]
    rules = dice.below(4, len(open_))
    tree.close(torch.tensor(open_), torch.where(rules == 3, CUT, rules), 2)
    noted, leaves, splits = tree.nodes, tree.leaves, tree.splits
    for root, part in enumerate(in_order(tree)):
        seen, queue, split = 0, [root], 0
        while queue:
            node = queue.pop(0)
            assert part.rule[seen] == noted.rule[node] != OPEN
            if node in children:
                assert part.rule[seen] == SPLIT
                assert (part.coordinate[seen], part.place[seen]) == splits[node][:2]
                # Its children come after all that are waiting, the lower one first.
                assert 2 * split + 1 == seen + len(queue) + 1
                queue += children[node]
                split += 1
            else:
                name = "cut" if part.rule[seen] == CUT else ["fixed", "adaptive"][part.rule[seen]]
                assert name == leaves[node][0]
                assert name == "cut" or part.row[seen] == leaves[node][1]
            seen += 1
        assert seen == len(part.rule)


def test_a_tree_that_is_open_proves_nothing() -> None:
    with pytest.raises(AssertionError, match="an open node"):
        in_order(Tree(1))


@pytest.mark.parametrize(("slack", "bits"), [(1e-1, 16), (1e-6, 32), (1e-12, 64)])
def test_multipliers_are_as_narrow_as_will_do(slack: float, bits: int) -> None:
    """The less a refutation is above 0, the more digits it takes."""
    relaxation = random_relaxation(4, 10, 10, 2, seed=2, batch=1)
    phases = dict(zip(unstable_neurons(relaxation)[:2], (1, -1), strict=True))
    weights = torch.ones(1).double()
    _, value = refutation(relaxation, phases, weights)
    lifted = bounds.Relaxation(
        relaxation.network,
        relaxation.input_set,
        relaxation.C,
        relaxation.d + slack - value,
        relaxation.relu_bounds,
        "backward",
        "fixed",
    )
    found, value = refutation(lifted, phases, weights)
    assert value == pytest.approx(slack, abs=1e-13)
    [flat] = visible.narrow(lifted, [0], [found])
    assert 8 * flat.itemsize == bits
    # What does not hold at all stays as it is.
    worse = bounds.Relaxation(
        lifted.network,
        lifted.input_set,
        lifted.C,
        lifted.d - 1,
        lifted.relu_bounds,
        "backward",
        "fixed",
    )
    [flat] = visible.narrow(worse, [0], [found])
    np.testing.assert_array_equal(flat, torch.cat(found.multipliers).numpy())


def test_what_is_too_large_for_few_bits() -> None:
    """ν of 10⁵ is infinite in float16, and nothing there."""
    network = bounds.from_torch(torch.nn.ReLU(), (1,), dtype=torch.float64)
    one = torch.ones(1, 1).double()
    rows = bounds.Specification(1e5 * one, 2e5 * one[0])
    relaxation = bounds.relax(network, bounds.Box(-one, one), rows)
    nu = torch.tensor([3e-5]).double()
    for size, bits in ((1.0, 16), (1e5 / 3e-5, 32)):
        found = Refutation({(0, 0): 1}, one[0], (size * nu,))
        [flat] = visible.narrow(relaxation, [0], [found])
        assert (8 * flat.itemsize, math.isfinite(flat[0])) == (bits, True)


@given(seeds)
def test_the_reserve_is_more_than_rounding_and_little_else(seed: int) -> None:
    relaxation = random_relaxation(3, 8, 8, 3, seed=seed)
    kept = visible.reserve(relaxation)
    assert kept.shape == relaxation.d.shape
    size = 1 + relaxation.ranges()[-1].magnitude.max()
    assert (kept > 2**-45).all()
    assert (kept < 1e-8 * size).all()


def test_bounds_that_nobody_could_derive_again_are_refused() -> None:
    relaxation = random_relaxation(3, 8, 2, batch=1)
    given_ = bounds.relax(
        relaxation.network,
        bounds.Box(relaxation.input_set.lower, relaxation.input_set.upper),
        bounds.margins(0, 2),
        intermediate="lp",
    )
    refused(
        lambda: Proof().add(0, CaseProof(given_, [[0]], [Leaf("fixed", 0)])),
        bounds.InvalidInputError,
        "intermediate='lp', expected 'interval' or 'backward'",
    )
