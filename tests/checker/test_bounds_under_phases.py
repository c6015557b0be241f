"""Proofs whose refutations are bounds, or use them: what the checker accepts of them, and why it
does not accept others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import bounds
from bounds.checker import closely
from bounds.checker.batch import Batch
from bounds.search.relu_split.soundness import refuted
from bounds.search.relu_tree import Bound, Neuron, Refutation, ReluTree, needed
from tests.checker.test_proof_edits import accepted, edits, put, tensor
from tests.support.bounded_proofs import SLACK, Dense, bound_of, chain, dense
from tests.support.networks import Architecture, Dice, architectures, seeds
from tests.support.proofs import (
    Arrays,
    Edit,
    Statement,
    contents,
    edit,
    reasons,
    refutation,
    save,
    unstable_neurons,
    whole_tree,
)
from tests.support.refusals import refused

USES = {"refutation.bound", "refutation.end", "refutation.uses", "use.refutation"}
#: Of which bounds prove what the LP of the root does not.
PROBLEM = dense(3, 6, 6, 3, seed=8, radius=1.0)


def tree_of(
    problem: Dense, neurons: Sequence[Neuron], dice: Dice, rounds: int = 1
) -> tuple[ReluTree, float]:
    """All phases of these, each leaf by bounds under some of its phases; and the least value of a
    leaf's LP."""
    skeleton, _ = whole_tree(
        problem.relaxation, neurons, [torch.ones(len(problem.d)).double()], dice
    )
    tree, least = ReluTree(splits=skeleton.splits), math.inf
    for node, number in skeleton.leaves.items():
        phases = dict(skeleton.refutations[number].phases)
        tree.refutations += chain(problem, phases, rounds, dice, tree.refutations)
        leaf, value = problem.refutation(phases, tree.refutations)
        tree.leaves[node] = len(tree.refutations)
        tree.refutations.append(leaf)
        least = min(least, value)
    return tree, least


def hard(problem: Dense, margin: float) -> Dense:
    """With rows of which the LP of the root has the largest at −margin, at least."""
    return problem.lifted(-margin - problem.refutation({})[1])


@settings(max_examples=10)
@given(seeds, st.integers(0, 2), st.sampled_from([0.02, 0.1, 0.3]), st.booleans())
def test_a_tree_is_proved_where_each_leaf_is_by_its_bounds(
    tmp_path_factory: pytest.TempPathFactory, seed: int, depth: int, margin: float, exact: bool
) -> None:
    problem = hard(dense(2, 5, 5, 3, seed=seed, radius=1.0), margin)
    neurons = unstable_neurons(problem.relaxation)[:depth]
    tree, least = tree_of(problem, neurons, Dice(seed))
    assume(abs(least) > 1e-7)
    path = tmp_path_factory.mktemp("proof") / "proof"
    save(path, problem.relaxation, tree)
    check = bounds.check_proof(path, problem.relaxation.network, exact=exact)
    assert check.accepted == (least > 0), reasons(check)


RECIPES: list[dict[str, Any]] = [{"intermediate": "interval"}, {}, {"slope": "adaptive"}]


@settings(max_examples=10)
@given(
    architectures(), seeds, st.sampled_from([0.05, 0.3]), st.integers(0, 2),
    st.sampled_from([0.0, 1e-9]),
)  # fmt: skip
def test_bounds_on_any_network(
    tmp_path_factory: pytest.TempPathFactory,
    architecture: Architecture,
    seed: int,
    radius: float,
    recipe: int,
    end: float,
) -> None:
    """One neuron is split, and of another, that ẑ ≥ 0 is shown, or nearly so, as the refutation of
    ẑ ≤ 0; it is used then."""
    network, dice = architecture.network(), Dice(seed)
    x = dice.normal(1, *network.input_shape)
    rows = bounds.Specification(dice.normal(2, math.prod(network.output_shape)))
    root = bounds.relax(network, bounds.Box(x - radius, x + radius), rows, **RECIPES[recipe])
    neurons = unstable_neurons(root)
    assume(len(neurons) >= 2)
    (first, second), weights = (neurons[0], neurons[-1]), torch.tensor([0.5, 0.5]).double()

    def made(relaxation: bounds.Relaxation) -> tuple[ReluTree, float]:
        tree, values = ReluTree(splits={0: (first, 1, 2)}), []
        for node, side in ((1, 1), (2, -1)):
            dead, low = refutation(relaxation, {first: side, second: -1}, weights)
            active, high = refutation(relaxation, {first: side, second: 1}, weights)
            bound = Bound(second, 1, -end)
            tree.leaves[node] = 2 * node - 1
            tree.refutations += [
                replace(dead, phases={first: side}, bound=bound),
                replace(active, phases={first: side}, uses=(2 * node - 2,)),
            ]
            values += [low, high]
        return tree, min(values)

    _, least = made(root)
    size = 1 + abs(least)
    path = tmp_path_factory.mktemp("proof") / "proof"
    for slack in (1e-5, -1e-5):
        lifted = replace(root, d=root.d + size * slack - least)
        tree, value = made(lifted)
        values = refuted(lifted, tree.refutations, earlier=tree.refutations)
        assume(bool((values > 0).all()) == (value > 0))  # unless ν times the end is that large
        save(path, lifted, tree)
        check = bounds.check_proof(path, network)
        assert check.accepted == (value > 0), reasons(check)


# -- one proof, and what is not one


HARD = hard(PROBLEM, 0.05)


@pytest.fixture(scope="module")
def tree() -> ReluTree:
    """Of two leaves, and bounds under no phase, and under those of either leaf."""
    found, least = tree_of(HARD, unstable_neurons(HARD.relaxation)[:1], Dice(1))
    assert least > 0
    return found


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory, tree: ReluTree) -> Path:
    path = tmp_path_factory.mktemp("bounds") / "proof"
    save(path, HARD.relaxation, tree)
    return path


def test_only_what_leaves_rest_on_is_written(tmp_path: Path) -> None:
    """And nothing of bounds where no leaf does."""
    problem, path = HARD, tmp_path / "proof"
    known = chain(problem, {}, 1, Dice(0))
    leaf, value = problem.refutation({}, known)
    assert value > 0
    first = bound_of(known[0])
    unused = replace(known[0], bound=replace(first, end=first.end * 1.5))
    tree = ReluTree(leaves={0: 1 + len(known)}, refutations=[unused])
    tree.refutations += [
        replace(each, uses=tuple(number + 1 for number in each.uses)) for each in [*known, leaf]
    ]
    save(path, problem.relaxation, tree)
    arrays = contents(path)[1]
    assert arrays["refutation.bound"].astype(bool).tolist() == [True] * len(known) + [False]
    assert arrays["refutation.end"].tolist() == [bound_of(each).end for each in known]
    assert arrays["refutation.uses"].tolist() == [len(each.uses) for each in [*known, leaf]]
    assert arrays["use.refutation"].tolist() == [n for each in [*known, leaf] for n in each.uses]
    assert bounds.check_proof(path, problem.relaxation.network).accepted
    easy = problem.lifted(0.1)
    alone, value = easy.refutation({})
    assert value > 0
    save(path, easy.relaxation, ReluTree(leaves={0: 1}, refutations=[known[0], alone]))
    assert not USES & contents(path)[1].keys()
    assert bounds.check_proof(path, problem.relaxation.network).accepted


def without_uses(statement: Statement, arrays: Arrays) -> None:
    arrays["refutation.uses"][:] = 0
    arrays["use.refutation"] = arrays["use.refutation"][:0]


def last_use(value: int) -> Edit:
    """Of the last refutation, which uses bounds under one phase."""
    return put("use.refutation", -1, value)


def own_number(statement: Statement, arrays: Arrays) -> None:
    """The last of those that are used is used by itself."""
    user = np.repeat(np.arange(len(arrays["refutation.uses"])), arrays["refutation.uses"])
    one = np.flatnonzero(arrays["refutation.bound"][user] > 0)[-1]
    arrays["use.refutation"][one] = user[one]


def other_phase(statement: Statement, arrays: Arrays) -> None:
    """What has the phase of one leaf needs that of the other, and is used all the same."""
    phases = np.cumsum(arrays["refutation.phases"]) - arrays["refutation.phases"]
    used = arrays["use.refutation"].astype(int)
    one = int(used[arrays["refutation.phases"][used] > 0][-1])
    arrays["phase.literal"][int(phases[one])] ^= 1


def a_leaf_of_a_bound(statement: Statement, arrays: Arrays) -> None:
    arrays["leaf.refutation"][0] = np.flatnonzero(arrays["refutation.bound"])[0]


EDITS: dict[str, tuple[Edit, str]] = {
    "used by nothing": (without_uses, "not proved"),
    "stronger": (tensor("refutation.end", lambda t: t * (1 - 1e-3)), "not proved"),
    "one is stronger": (put("refutation.end", 0, 0.0), "not proved"),
    "upper for lower": (
        tensor("refutation.bound", lambda b: np.where(b > 0, ((b - 1) ^ 1) + 1, 0).astype(b.dtype)),
        "on the other side of 0",
    ),
    "turned": (tensor("refutation.end", lambda t: -t), "on the other side of 0"),
    "another neuron": (
        tensor("refutation.bound", lambda b: np.where(b > 0, (b + 1) % 24 + 1, 0).astype(b.dtype)),
        "not proved|on the other side of 0",
    ),
    "a neuron that is none": (put("refutation.bound", 0, 25), "that the network does not have"),
    "an end to NaN": (put("refutation.end", 0, np.nan), "not finite"),
    "an end to infinity": (put("refutation.end", 0, np.inf), "not finite"),
    "no end": (tensor("refutation.end", lambda t: t[1:]), "'refutation.end' of shape"),
    "one more end": (tensor("refutation.end", lambda t: np.append(t, 0.0)), "'refutation.end' of"),
    "one more refutation": (tensor("refutation.bound", lambda b: np.append(b, b[:1])), "of shape"),
    "one use less": (tensor("use.refutation", lambda u: u[1:]), "'use.refutation' of shape"),
    "a use more": (put("refutation.uses", 0, 1), "'use.refutation' of shape"),
    "of no refutation": (last_use(250), "that does not come before it"),
    "of itself": (own_number, "that does not come before it"),
    "of no bound": (tensor("refutation.bound", lambda b: 0 * b), "'refutation.end' of shape"),
    "of other phases": (other_phase, "a bound with phases that it does not have itself"),
    "a leaf of a bound": (a_leaf_of_a_bound, "a leaf names a bound"),
    "ν of bounds": (tensor("multipliers.f16", lambda v: -v), "not proved"),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edit_that_does_not_follow(proof: Path, case: str) -> None:
    network = PROBLEM.relaxation.network
    assert bounds.check_proof(proof, network).accepted
    change, reason = EDITS[case]
    check = bounds.check_proof(edit(proof, change), network)
    assert not check.accepted
    found = reasons(check)
    assert any(each in found for each in reason.split("|")), found


def test_every_end_counts(proof: Path, tree: ReluTree) -> None:
    """Where one is stronger than any multipliers prove it, be it by a little, it is not proved."""
    every, sides = tree.refutations, []
    places = [n for n in needed(every, tree.leaves.values()) if every[n].bound is not None]
    for at, number in enumerate(places):
        phases, bound, earlier = dict(every[number].phases), bound_of(every[number]), every[:number]
        steps = SLACK * 1.2 ** np.arange(60)
        for end in bound.end + bound.side * steps[steps <= abs(bound.end)]:
            if HARD.refutation(phases, earlier, replace(bound, end=end))[1] > -1e-9:
                continue
            sides.append(bound.side)
            stronger = edit(proof, put("refutation.end", at, end))
            for exact in (False, True):
                check = bounds.check_proof(stronger, PROBLEM.relaxation.network, exact=exact)
                assert not check.accepted
                assert "not proved" in reasons(check)
            break
    assert min(sides.count(1), sides.count(-1)) >= 3


def test_only_bounds_are_used(proof: Path) -> None:
    """A refutation that refutes holds under its phases as well; but it has no end."""

    def change(statement: Statement, arrays: Arrays) -> None:
        chosen = np.flatnonzero(arrays["refutation.bound"] == 0)[0]
        arrays["use.refutation"][-1] = chosen
        assert chosen < len(arrays["refutation.bound"]) - 1

    check = bounds.check_proof(edit(proof, change), PROBLEM.relaxation.network)
    assert not check.accepted
    assert "uses one that is no bound" in reasons(check)


def test_weaker_ends_are_proved_too(proof: Path) -> None:
    """By the same multipliers, though what uses them may not be."""
    near = edit(proof, tensor("refutation.end", lambda t: t * (1 + 1e-9)))
    assert bounds.check_proof(near, PROBLEM.relaxation.network).accepted


@pytest.mark.parametrize("name", sorted(USES))
def test_all_tensors_or_none(proof: Path, name: str) -> None:
    missing = edit(proof, lambda statement, arrays: arrays.pop(name))
    refused(
        lambda: bounds.check_proof(missing, PROBLEM.relaxation.network),
        bounds.InvalidInputError,
        f"lacks tensor {name!r}",
    )


@pytest.mark.parametrize("how", ["float64", "balls", "rationals"])
def test_what_rests_on_a_false_bound_falls_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The leaf uses a bound which follows from another, which is not so; the network does have an
    unsafe output."""
    problem, path = PROBLEM.lifted(-5.0), tmp_path / "proof"
    box = problem.relaxation.input_set
    middle = problem.relaxation.network((box.lower + box.upper) / 2)
    assert (middle @ problem.relaxation.C[0].T + problem.relaxation.d < 0).all()
    # More neurons of the first layer than inputs cannot all be 0 at once.
    ends = [Bound(n, s, 0.0) for n in unstable_neurons(problem.relaxation) if n[0] == 0
            for s in (1, -1)]  # fmt: skip
    zero = tuple(torch.zeros(len(l)).double() for l, _ in problem.root)
    weights = torch.tensor([1.0, 0.0]).double()
    wrong = [Refutation({}, weights, zero, (), end) for end in ends]
    following = [problem.refutation({}, wrong, end)[0] for end in ends]
    leaf = problem.refutation({}, following)[0]
    leaf = replace(leaf, uses=tuple(number + len(wrong) for number in leaf.uses))
    tree = ReluTree(leaves={0: 2 * len(ends)}, refutations=[*wrong, *following, leaf])
    values = refuted(problem.relaxation, tree.refutations, earlier=tree.refutations)
    assert (values > 0).tolist() == [False] * len(wrong) + [True] * (len(following) + 1)
    save(path, problem.relaxation, tree)
    if how == "balls":
        monkeypatch.setattr(Batch, "mixtures", lambda self, C, *_: np.full(len(C), -np.inf))
    check = bounds.check_proof(path, problem.relaxation.network, exact=how == "rationals")
    assert not check.accepted
    assert "1 of 1 leaves" in reasons(check)


def test_in_balls_and_rationals(proof: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same is proved, and what is not, is not; of more bounds than leaves."""
    network = PROBLEM.relaxation.network
    count = contents(proof)[1]["refutation.bound"].size
    assert bounds.check_proof(proof, network, exact=True).accepted
    stronger = [put("refutation.end", 0, 0.0), tensor("refutation.end", lambda t: t * (1 - 1e-3))]
    for change in stronger:
        assert not bounds.check_proof(edit(proof, change), network, exact=True).accepted
    with monkeypatch.context() as change_:
        change_.setattr(Batch, "mixtures", lambda self, C, *_: np.full(len(C), -np.inf))
        assert bounds.check_proof(proof, network).accepted
        for change in stronger:
            assert not bounds.check_proof(edit(proof, change), network).accepted
    monkeypatch.setattr(closely, "SMALL", count - 1)
    refused(
        lambda: bounds.check_proof(proof, network, exact=True),
        bounds.InvalidInputError,
        f"{count} refutations, expected at most {count - 1}: leave it out",
    )


@settings(max_examples=80)
@given(st.data(), st.floats(0, 1))
def test_no_edit_proves_what_is_false(proof: Path, data: st.DataObject, lower: float) -> None:
    """Rows so much lower that an input has both below 0; ends, uses and all else may be edited."""
    relaxation = PROBLEM.relaxation
    box, arrays = relaxation.input_set, contents(proof)[1]
    x = box.lower + (box.upper - box.lower) * Dice(0).uniform(2000, 3)
    values = (relaxation.network(x) @ relaxation.C[0].T).numpy() + arrays["row.d"]
    by = float(values.max(1).min()) + 1e-9 + lower
    change = data.draw(edits({name: arrays[name] for name in arrays if name != "row.d"}))

    def edited(statement: Statement, arrays: Arrays) -> None:
        arrays["row.d"] = arrays["row.d"] - by
        strengthened = data.draw(st.integers(0, 3)) / 3
        arrays["refutation.end"] = arrays["refutation.end"] * strengthened
        change(statement, arrays)
        for name in ("row.terms", "row.output", "row.coefficient", "case.lower", "case.upper"):
            arrays[name] = contents(proof)[1][name]

    assert not accepted(edit(proof, edited), relaxation.network, None)
