"""`bounds.check_proof` accepts what searches prove, and trees that split ReLUs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from torch import nn

import bounds
from benchmarks.competition.instances import instances
from bounds.certification import one_input, run
from bounds.checker import boxes as boxes_of_trees
from bounds.checker import closely, proof
from bounds.checker.batch import Batch
from bounds.checker.boxes import BoxTrees
from bounds.checker.passes import Passes
from bounds.intermediate import forward
from bounds.models import load_digits_images, load_digits_model
from bounds.read.vnnlib import parse_vnnlib
from bounds.search.relu_tree import ReluTree
from bounds.search.root import optimised_root
from bounds.search.search import BoxSearch
from tests.support.layers import Dense
from tests.support.networks import Architecture, Dice, architectures, seeds
from tests.support.proofs import (
    Arrays,
    Statement,
    contents,
    edit,
    hard_property,
    reasons,
    save,
    unstable_neurons,
    whole_tree,
)
from tests.support.referee import random_net, random_relaxation
from tests.support.refusals import refused
from tests.support.vnnlib_texts import file


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches of drawn networks end after a few hundred boxes."""
    monkeypatch.setattr(
        one_input, "BoxSearch", lambda *given, **named: BoxSearch(*given, **{**named, "limit": 60})
    )


# -- what certify writes


@pytest.mark.usefixtures("short")
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    architectures(), seeds, st.sampled_from([0.01, 0.1, 0.3]), st.booleans(),
    st.sampled_from([forward.DEAR, 0]),
)  # fmt: skip
def test_what_is_unsat_is_proved_again(
    tmp_path_factory: pytest.TempPathFactory,
    architecture: Architecture,
    seed: int,
    radius: float,
    split: bool,
    dear: int,
) -> None:
    """dear: with 0, boxes that are split have no backward bounds while neurons are unstable."""
    network = architecture.network()
    x = Dice(seed).normal(3, *network.input_shape) / 2
    labels = network(x).flatten(1).argmax(1)
    path = tmp_path_factory.mktemp("proof") / "proof"
    method = "input_split" if split else "no_split"
    with patch.object(forward, "DEAR", dear):
        found = bounds.certify(network, x, labels, radius=radius, method=method, proof=path)
    proved = found.verified.nonzero().flatten().tolist()
    assert (found.proof is None) == (not proved)
    if found.proof is not None:
        check = bounds.check_proof(path, network)
        assert check.accepted, reasons(check)
        assert [case.number for case in check.cases] == proved
        assert [case.label for case in check.cases] == labels[proved].tolist()
        assert check.leaves == found.proof.leaves
        assert found.proof.bytes == path.stat().st_size


def test_a_search_whose_boxes_are_cut(tmp_path: Path) -> None:
    """About a hundred leaves of all kinds, at some 15 bytes each."""
    network, property = hard_property()
    found = bounds.certify_vnnlib(network, property, proof=tmp_path / "proof")
    assert found.verdict == "unsat"
    assert found.proof is not None
    kinds = contents(tmp_path / "proof")[1]["node.kind"]
    assert set(kinds.tolist()) == {0, 1, 2, 3}
    assert found.proof.leaves == (len(kinds) + 1) / 2 > 50
    assert found.proof.bytes - 1400 < 15 * found.proof.leaves
    watched: list[tuple[int, int]] = []
    check = bounds.check_proof(
        tmp_path / "proof", network, vnnlib=property, watch=lambda *how: watched.append(how)
    )
    assert check.accepted, reasons(check)
    assert check.vnnlib == property.name
    assert watched[-1] == (len(kinds), len(kinds))


# -- trees that split ReLUs


@settings(max_examples=20)
@given(seeds, st.integers(0, 3), st.sampled_from(["one", "mixed"]), st.sampled_from([1.0, 30.0]))
def test_a_tree_of_phases_is_proved_where_each_leaf_is(
    tmp_path_factory: pytest.TempPathFactory, seed: int, depth: int, rows: str, scale: float
) -> None:
    """And is not where the LP of one leaf is below 0, be it by a little."""
    relaxation = random_relaxation(3, 8, 8, 3, seed=seed, batch=1, scale=scale)
    neurons = unstable_neurons(relaxation)[:depth]
    assume(len(neurons) == depth)
    dice = Dice(seed)
    weights = torch.eye(2).double() if rows == "one" else dice.uniform(2, 2)
    weights = weights / weights.sum(1, keepdim=True)
    path = tmp_path_factory.mktemp("proof") / "proof"
    _, values = whole_tree(relaxation, neurons, list(weights), Dice(seed))
    size = 1 + max(map(abs, values))
    # λ sums up to one, so that all values rise by as much as every row does.
    for slack in (1e-3, 1e-8, -1e-8):
        lifted = replace(relaxation, d=relaxation.d + size * slack - min(values))
        tree, found = whole_tree(lifted, neurons, list(weights), Dice(seed))
        assert (min(found) > 0) == (slack > 0)
        written = save(path, lifted, tree)
        check = bounds.check_proof(path, lifted.network)
        assert written.leaves == check.leaves == 2**depth
        assert check.accepted == (slack > 0), reasons(check)


@given(
    seeds,
    st.sampled_from([(4, 10, 10, 10, 2), (3, 8, 8, 8, 8, 2)]),
    st.integers(0, 2),
    st.sampled_from([0.3, 1.0]),
)
@settings(max_examples=15)
def test_a_tree_whose_root_has_optimised_bounds(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    widths: tuple[int, ...],
    depth: int,
    radius: float,
) -> None:
    """Their multipliers are in the file."""
    relaxation = random_relaxation(*widths, seed=seed, batch=1, radius=radius)
    root, kept = optimised_root(relaxation)
    neurons = unstable_neurons(root)[:depth]
    assume(len(neurons) == depth)
    weights = [torch.ones(1).double()]
    _, values = whole_tree(root, neurons, weights, Dice(0))
    size = 1 + max(map(abs, values))
    path = tmp_path_factory.mktemp("proof") / "proof"
    for slack in (1e-7, -1e-7):
        lifted = replace(root, d=root.d + size * slack - min(values))
        tree, found = whole_tree(lifted, neurons, weights, Dice(0))
        assert (min(found) > 0) == (slack > 0)
        save(path, lifted, tree, kept)
        check = bounds.check_proof(path, root.network)
        assert check.accepted == (slack > 0), reasons(check)


RECIPES: dict[str, dict[str, str]] = {
    "interval": {"intermediate": "interval"},
    "fixed": {},
    "adaptive": {"slope": "adaptive"},
    "optimised": {},
}


@settings(max_examples=25)
@given(architectures(), seeds, st.sampled_from([0.05, 0.3, 1.0]), st.sampled_from([*RECIPES]),
       st.integers(0, 2))  # fmt: skip
@example(Architecture((1,), (Dense(2),), 0), 0, 0.3, "optimised", 0)  # without a ReLU
def test_trees_of_any_network(
    tmp_path_factory: pytest.TempPathFactory,
    architecture: Architecture,
    seed: int,
    radius: float,
    recipe: str,
    depth: int,
) -> None:
    """Convolutions, residual blocks and all else that is drawn, with l and u of each recipe."""
    network, dice = architecture.network(), Dice(seed)
    x = dice.normal(1, *network.input_shape)
    rows = bounds.Specification(dice.normal(2, math.prod(network.output_shape)))
    box = bounds.Box(x - radius, x + radius)
    root = bounds.relax(network, box, rows, **RECIPES[recipe])  # type: ignore[arg-type]
    kept = None
    if recipe == "optimised":
        root, kept = optimised_root(root)
    neurons = unstable_neurons(root)[:depth]
    assume(len(neurons) == depth)
    weights = [torch.tensor([0.5, 0.5]).double(), torch.tensor([1.0, 0.0]).double()]
    _, values = whole_tree(root, neurons, weights, Dice(0))
    size = 1 + max(map(abs, values))
    path = tmp_path_factory.mktemp("proof") / "proof"
    for slack in (1e-6, -1e-6):
        lifted = replace(root, d=root.d + size * slack - min(values))
        tree, _ = whole_tree(lifted, neurons, weights, Dice(0))
        save(path, lifted, tree, kept)
        check = bounds.check_proof(path, network)
        assert check.accepted == (slack > 0), reasons(check)


def test_stated_bounds_are_proved_too(tmp_path: Path) -> None:
    """With other multipliers they are looser, and the leaf is not proved; others do not fit."""
    root, kept = optimised_root(random_relaxation(4, 10, 10, 10, 2, seed=1, batch=1, radius=1.0))
    assert sum(len(each.neuron) for each in kept) > 5
    _, [value] = whole_tree(root, [], [torch.ones(1).double()], Dice(0))
    lifted = replace(root, d=root.d + 1e-6 - value)
    tree, _ = whole_tree(lifted, [], [torch.ones(1).double()], Dice(0))
    path, network = tmp_path / "proof", root.network
    save(path, lifted, tree, kept)
    assert bounds.check_proof(path, network).accepted
    forgeries: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray], str]] = {
        "signs": ("bound.multipliers", lambda nu: -nu, "1 of 1 leaves"),
        "ends": ("bound.of", lambda of: of ^ 1, "1 of 1 leaves"),
        "none": ("bound.multipliers", lambda nu: 0 * nu, "1 of 1 leaves"),
        "NaN": ("bound.multipliers", lambda nu: nu * np.float32(np.nan), "not finite"),
        "fewer": ("bound.multipliers", lambda nu: nu[:-1], "too few numbers"),
        "more": ("bound.multipliers", lambda nu: np.append(nu, nu[:1]), "expected"),
        "bits": ("bound.present", lambda bits: bits[:-1], "too few numbers"),
        "neurons": ("bound.of", lambda of: of + 20, "of a neuron of another ReLU"),
        "counts": ("bound.counts", lambda counts: counts[::-1], "of a neuron of another ReLU"),
        "recipe": ("case.bounds", lambda recipe: recipe - 1, "1 of 1 leaves"),
        "no recipe": ("case.bounds", lambda recipe: recipe + 1, "a recipe for its bounds"),
    }
    for name, (tensor, change, reason) in forgeries.items():

        def forged(
            statement: Statement,
            arrays: Arrays,
            tensor: str = tensor,
            change: Callable[[np.ndarray], np.ndarray] = change,
        ) -> None:
            arrays[tensor] = change(arrays[tensor])

        check = bounds.check_proof(edit(path, forged), network)
        assert not check.accepted, name
        assert reason in reasons(check), (name, reasons(check))


def test_optimised_bounds_need_their_multipliers() -> None:
    root, _ = optimised_root(random_relaxation(3, 8, 8, 2, batch=1))
    tree = ReluTree(leaves={0: 0}, refutations=[])
    refused(
        lambda: save(Path("proof"), root, tree),
        bounds.InvalidInputError,
        "intermediate='optimised'",
        "bounds.search.root",
    )


# -- published networks


@pytest.mark.parametrize(
    ("suite", "model", "property", "leaves"),
    [
        ("acasxu", "ACASXU_run2a_1_1_batch_2000.onnx", "prop_1.vnnlib", 10),
        ("acasxu", "ACASXU_run2a_2_2_batch_2000.onnx", "prop_3.vnnlib", 50),
        ("rl_benchmarks", "cartpole.onnx", "cartpole_case_safe_9.vnnlib", 1),
        (
            "collins_rul_cnn",
            "NN_rul_small_window_20.onnx",
            "robustness_2perturbations_delta5_epsilon10_w20.vnnlib",
            2,
        ),
    ],
)
def test_published_properties(
    shared_data: Path, tmp_path: Path, suite: str, model: str, property: str, leaves: int
) -> None:
    [instance] = [
        each
        for each in instances(shared_data, suite)
        if (each.model.name, each.property.name) == (model, property)
    ]
    path = tmp_path / "proof"
    found = bounds.certify_vnnlib(instance.model, instance.property, proof=path)
    assert found.verdict == "unsat"
    check = bounds.check_proof(path, instance.model, vnnlib=instance.property)
    assert check.accepted, reasons(check)
    assert check.leaves >= leaves


def test_the_shipped_model(tmp_path: Path) -> None:
    """By one pass and by LPs; ReLU trees of a single leaf, whose ν are rounded."""
    images, labels = load_digits_images()
    network = bounds.from_torch(load_digits_model("digits_robust"), (1, 8, 8), dtype=torch.float64)
    given = {"radius": 0.1, "lower": 0.0, "upper": 1.0}
    path = tmp_path / "proof"
    found = bounds.certify(network, images[:3], labels[:3], **given, proof=path)
    assert found.verdicts == ("unsat", "unsat", "sat")
    check = bounds.check_proof(path, network)
    assert check.accepted, reasons(check)
    assert [(case.number, case.label) for case in check.cases] == [(0, 6), (1, 5)]
    assert np.isclose(check.cases[0].upper - check.cases[0].lower, 0.2).any()


# -- what is refused


def test_no_file_where_nothing_is_proved(tmp_path: Path) -> None:
    x = torch.zeros(1, 2).double()
    network = bounds.from_torch(torch.nn.Identity(), (2,), dtype=torch.float64)
    found = bounds.certify(network, x, 0, radius=0.5, proof=tmp_path / "proof")
    assert (found.verdict, found.proof) == ("sat", None)
    assert not (tmp_path / "proof").exists()


def test_what_has_no_proof_yet(tmp_path: Path) -> None:
    network = bounds.from_torch(torch.nn.Identity(), (2,), dtype=torch.float64)
    x, path = torch.tensor([[2.0, 0.0]]).double(), tmp_path / "proof"
    refused(
        lambda: bounds.certify(network, x, 0, radius=0.5, norm=1, proof=path),
        bounds.InvalidInputError,
        "use norm=inf",
    )
    tenth = file([(">=", ("X", 0), "0"), ("<=", ("X", 0), "1"), (">=", ("X", 1), "0"),
                  ("<=", ("X", 1), "1"), (">=", ("*", "0.1", ("Y", 0)), "2")], 2, 2)  # fmt: skip
    refused(
        lambda: bounds.certify_vnnlib(network, parse_vnnlib(tenth), proof=path),
        bounds.InvalidInputError,
        "the coefficient",
        "which float64 does not hold",
    )
    refused(
        lambda: bounds.certify(network, x, 0, radius=0.5, proof=tmp_path / "no" / "proof"),
        bounds.InvalidInputError,
        "cannot write",
    )


# -- in balls, and in rationals


def test_in_balls_and_rationals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each leaf of both kinds of trees; what is proved of each, and what is not, is the same."""
    network, property = hard_property()
    boxes, phases = tmp_path / "boxes", tmp_path / "phases"
    bounds.certify_vnnlib(network, property, proof=boxes)
    relaxation = random_relaxation(3, 8, 8, 3, seed=4, batch=1)
    neurons, weights = unstable_neurons(relaxation)[:2], list(torch.eye(2).double())
    _, values = whole_tree(relaxation, neurons, weights, Dice(0))
    for slack in (1e-6, -1e-6):
        lifted = replace(relaxation, d=relaxation.d + slack - min(values))
        save(phases, lifted, whole_tree(lifted, neurons, weights, Dice(0))[0])
        assert bounds.check_proof(phases, lifted.network, exact=True).accepted == (slack > 0)
        with monkeypatch.context() as change:
            change.setattr(Batch, "mixtures", lambda *_: np.full(4, -np.inf))
            check = bounds.check_proof(phases, lifted.network)
            assert check.accepted == (slack > 0)
            assert slack > 0 or "1 of 4 leaves" in reasons(check)
            change.setattr(proof, "LEAVES", 3)
            assert not bounds.check_proof(phases, lifted.network).accepted
    assert bounds.check_proof(boxes, network, vnnlib=property, exact=True).accepted
    # Leaves that float64 leaves open, of boxes that it has cut.
    monkeypatch.setattr(BoxTrees, "_by_row", lambda self, batch, of, part, kind: kind < 0)
    assert bounds.check_proof(boxes, network, vnnlib=property, precision=200).accepted
    shifted = edit(boxes, lambda statement, arrays: arrays["row.d"].__isub__(0.1))
    for exact in (False, True):
        assert not bounds.check_proof(shifted, network, exact=exact).accepted


def test_an_image_is_bounded_once_for_all_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = bounds.from_torch(load_digits_model("digits_robust"), (1, 8, 8), dtype=torch.float64)
    x, y = (part[:3] for part in load_digits_images())
    bounds.certify(network, x.double(), y, radius=0.02, proof=tmp_path / "proof")
    sizes: list[int] = []

    def counted(passes: Passes, lower: np.ndarray, *rest: np.ndarray, **how: Any) -> Batch:
        sizes.append(len(lower))
        return Batch(passes, lower, *rest, **how)

    monkeypatch.setattr(boxes_of_trees, "Batch", counted)
    assert bounds.check_proof(tmp_path / "proof", network).accepted
    assert sizes == [3]


@pytest.mark.parametrize(("limit", "what"), [("NUMBERS", "input and ReLU numbers"),
                                             ("SMALL", "leaves")])  # fmt: skip
def test_only_small_ones_in_rationals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, what: str
) -> None:
    network = bounds.from_torch(torch.nn.Identity(), (2,), dtype=torch.float64)
    x = torch.tensor([[2.0, 0.0]]).double()
    bounds.certify(network, x, 0, radius=0.5, proof=tmp_path / "proof")
    monkeypatch.setattr(closely, limit, 0)
    refused(
        lambda: bounds.check_proof(tmp_path / "proof", network, exact=True),
        bounds.InvalidInputError,
        f"{what}, expected at most 0: leave it out",
    )


def test_bounds_that_the_time_cut_short_prove_nothing_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are found anew, which may be tighter and prove less."""
    network, x, path = random_net(3, 5, 5, 2), torch.zeros(1, 3).double(), tmp_path / "proof"
    rows = bounds.Specification(torch.tensor([[1.0, -1.0]]).double(), torch.tensor([9.0]).double())

    def late(*args: Any, time_limit: float | None, **options: Any) -> bounds.Relaxation:
        return bounds.relax(*args, time_limit=1e-9, **options)

    monkeypatch.setattr(run, "relax", late)
    assert bounds.certify(network, x, rows=rows, radius=1.0).verdict == "unsat"
    found = bounds.certify(network, x, rows=rows, radius=1.0, proof=path)
    assert (found.verdict, found.proof, path.exists()) == ("unknown", None, False)


@pytest.mark.parametrize("seed", [35, 57, 121])
def test_what_one_pass_shows_on_better_bounds_only(tmp_path: Path, seed: int) -> None:
    """Of disjuncts of which some need a search, and others just its root: the checker's own pass,
    over its own l and u, does not prove these."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((6, 16, 16, 16, 8)):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        model, x = nn.Sequential(*layers[:-1]).double(), torch.randn(1, 6).double()
    path, label = tmp_path / "proof.safetensors", int(model(x).argmax())
    found = bounds.certify(model, x, label, radius=0.3, method="relu_split", proof=path)
    assert (found.verdict, found.methods) == ("unsat", ("relu_split",))
    network = bounds.from_torch(model, (6,), dtype=torch.float64)
    assert bounds.check_proof(path, network).accepted
