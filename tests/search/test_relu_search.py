"""Whole searches by phases of ReLUs, against integer programs and points of the network."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
import lp_reference
from benchmarks.competition.clauses import network_of
from bounds import Relaxation
from bounds.certification.relu_splits import Bounding, ReluSplits
from bounds.deadline import NEVER
from bounds.search.relu_split.bounding import NodeLP
from bounds.search.relu_split.slope_bounding import SlopeNodes
from bounds.search.relu_split.soundness import refuted
from bounds.search.relu_split.tightening import Tightening
from bounds.search.relu_tree import ReluTree, needed
from bounds.search.root import optimised_root
from bounds.search.search import Search
from bounds.solvers.interior_point.condense import condense
from bounds.solvers.simplex.warm import Ending, Vertex, WarmLP
from tests.support.problems import Problem, points, problems
from tests.support.referee import random_net

#: Unstable neurons of an integer program that HiGHS solves at once.
FEW = 16
small = problems(batch=st.just(1))
BOUNDINGS: tuple[Bounding, ...] = get_args(Bounding)
either = pytest.mark.parametrize("bounding", BOUNDINGS)


class Run:
    """A search of one disjunct of all rows, which confirms what the network itself says."""

    def __init__(
        self, relaxation: Relaxation, *, limit: float = 3000, bounding: Bounding = "lp"
    ) -> None:
        self.relaxation, self.found = relaxation, list[Tensor]()
        self.told: list[Search] = []
        self.splits = ReluSplits(
            *(relaxation, self.confirm, lambda k, starts: False, self.told.append, 1, limit),
            bounding,
        )
        rows = list(range(relaxation.C.shape[1]))
        self.closed = self.splits.excluded(0, rows, NEVER)

    def confirm(self, x: Tensor) -> bool:
        inputs = self.relaxation.input_set
        inside = bool(((inputs.lower <= x) & (x <= inputs.upper)).all())
        met = inside and bool((values(self.relaxation, x) <= 0).all())
        self.found += [x] if met else []
        return met

    @property
    def tree(self) -> ReluTree:
        return self.splits.trees[0]


def values(relaxation: Relaxation, x: Tensor) -> Tensor:
    """The rows at points (points, *input_shape); (points, rows)."""
    y = relaxation.network(x).flatten(1)
    return y @ relaxation.C[0].flatten(1).T + relaxation.d[0]


def lowered(relaxation: Relaxation, by: float) -> Relaxation:
    """The rows less `by`."""
    return replace(relaxation, d=relaxation.d - by)


def minimum(relaxation: Relaxation) -> float:
    return float(lp_reference.solve(relaxation, milp=True).value[0, 0])


def agrees(run: Run, least: float) -> None:
    """That the search says the sign of the minimum, unless that is close to 0."""
    scale = float(run.relaxation.scale().max())
    state = run.splits.state
    assert state.ended in ("closed", "found", "precision"), state
    assert (state.ended == "closed") is run.closed
    assert not (run.closed and least < -1e-9 * scale)
    assert (state.ended == "found") is bool(run.found)
    if abs(least) > 1e-5 * scale:
        assert state.ended == ("closed" if least > 0 else "found")
    shares = [told.closed for told in run.told]
    assert shares == sorted(shares)
    assert all(0 <= share < 1 for share in shares)
    if run.closed:
        assert (state.open, state.worst, state.closed) == (0, math.inf, 1.0)
        assert_covers(run.tree)
        assert_refutes(run.relaxation, run.tree)


def assert_covers(tree: ReluTree) -> None:
    """That every leaf's refutation needs no more than the phases on its path."""
    stack, seen = [(0, {})], 0
    while stack:
        node, path = stack.pop()
        if node in tree.leaves:
            seen += 1
            own = tree.refutations[tree.leaves[node]].phases
            assert own.items() <= path.items()
        else:
            neuron, active, dead = tree.splits[node]
            assert neuron not in path
            stack += [(active, {**path, neuron: 1}), (dead, {**path, neuron: -1})]
    assert seen == len(tree.leaves)
    assert needed(tree.refutations, tree.leaves.values()) == list(range(len(tree.refutations)))


def assert_refutes(relaxation: Relaxation, tree: ReluTree) -> None:
    """That points of the network with a refutation's phases have the weighted row where it says, or
    if it uses what holds in the disjunct alone, are outside of that."""
    least = refuted(relaxation, tree.refutations, earlier=tree.refutations)
    x = points(relaxation.input_set, 64)[0]
    pre: list[Tensor] = []

    def keep(position: int, values: Tensor) -> Tensor:
        pre.append(values.flatten(1))
        return values.clamp(min=0)

    relaxation.network.evaluate(x, keep)
    rows = values(relaxation, x)
    for refutation, bound in zip(tree.refutations, least, strict=True):
        assert bound > 0
        held = torch.ones(len(x), dtype=torch.bool)
        for (layer, neuron), side in refutation.phases.items():
            held &= side * pre[layer][:, neuron] >= 0
        if refutation.bound is None and not refutation.uses:
            assert bool(((rows @ refutation.weights)[held] >= bound).all())
        elif refutation.bound is None:
            assert not bool((rows[held] <= 0).all(1).any())


@given(
    small,
    st.sampled_from([-0.3, -0.01, -1e-9, 0.0, 1e-9, 0.01, 0.3]),
    st.booleans(),
    st.sampled_from(BOUNDINGS),
)
def test_the_verdict_is_the_sign_of_the_minimum(
    problem: Problem, margin: float, optimised: bool, bounding: Bounding
) -> None:
    relaxation = problem.relax(intermediate="backward", slope="adaptive").convert(Tensor.detach)
    assume(relaxation.unstable[0] <= FEW)
    one = relaxation.take(torch.tensor([0]), torch.tensor([0]))
    least, scale = minimum(one), float(one.scale().max())
    shifted = lowered(one, least - margin * scale)
    root = optimised_root(shifted, keep=False)[0] if optimised else shifted
    agrees(Run(root, bounding=bounding), margin * scale)


@settings(max_examples=settings().max_examples // 2)
@given(small, st.sampled_from([-0.1, -1e-9, 1e-9, 0.1]), st.sampled_from(BOUNDINGS))
def test_a_conjunction_is_decided_as_a_whole(
    problem: Problem, margin: float, bounding: Bounding
) -> None:
    """The larger of two rows is one row of a network with two more ReLUs."""
    relaxation = problem.relax(intermediate="backward", slope="adaptive").convert(Tensor.detach)
    assume(relaxation.C.shape[1] >= 2 and relaxation.unstable[0] <= FEW)
    both = relaxation.take(torch.tensor([0]), torch.tensor([0, 1]))
    C, d = both.C[0].flatten(1), both.d[0]
    rows, largest = nn.Linear(C.shape[1], 3).double(), nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        rows.weight.copy_(torch.stack([C[0] - C[1], C[1], -C[1]]))
        rows.bias.copy_(torch.stack([d[0] - d[1], d[1], -d[1]]))
        largest.weight.copy_(torch.tensor([[1.0, 1.0, -1.0]]))
    model = nn.Sequential(*problem.model, nn.Flatten(), rows, nn.ReLU(), largest)
    network = bounds.from_torch(model, problem.architecture.input_shape).detach()
    one = bounds.Specification(torch.ones(1, 1, dtype=torch.float64))
    least = minimum(bounds.relax(network, problem.ball, one, slope="adaptive"))
    scale = float(both.scale().max())
    agrees(Run(lowered(both, least - margin * scale), bounding=bounding), margin * scale)


def combinatorial(seed: int, *, inputs: int = 8, clauses: int = 24) -> Relaxation:
    """Whether a formula has no solution: where it has one, the row is below 0."""
    network = network_of(seed, inputs=inputs, clauses=clauses)
    box = bounds.Box(torch.zeros(1, inputs).double(), torch.ones(1, inputs).double())
    return bounds.relax(network, box, bounds.margins(0, classes=2))


@either
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("clauses", [20, 60])
def test_clauses_are_satisfiable_or_not(seed: int, clauses: int, bounding: Bounding) -> None:
    relaxation = combinatorial(seed, clauses=clauses)
    run = Run(relaxation, bounding=bounding)
    assert run.splits.state.ended == ("closed" if minimum(relaxation) > 0 else "found")


def test_what_is_learnt_closes_other_nodes() -> None:
    """Fewer LPs than leaves: some are closed by what was refuted elsewhere."""
    run = Run(combinatorial(1, inputs=40, clauses=172))
    assert run.closed
    assert len(run.tree.refutations) < len(run.tree.leaves)


# -- how it ends -----------------------------------------------------------------------------------


def deep(seed: int = 5) -> Relaxation:
    """One input of a network whose LP is far from its minimum, which is 0.1."""
    network = random_net(4, 12, 12, 1, seed=seed)
    ball = bounds.Ball(torch.zeros(1, 4).double(), radius=1.0)
    relaxation = bounds.relax(network, ball, bounds.Specification(torch.ones(1, 1).double()))
    return lowered(relaxation, minimum(relaxation) - 0.1)


@either
def test_it_ends_with_its_nodes(bounding: Bounding) -> None:
    whole, run = Run(deep(), bounding=bounding), Run(deep(), limit=2, bounding=bounding)
    assert whole.closed
    assert whole.splits.state.domains > 2
    assert (run.closed, run.splits.state.ended, run.splits.state.domains) == (False, "domains", 2)
    assert run.splits.state.open > 1
    assert run.splits.state.worst < 0
    assert whole.told[-1].ended == "open"


@either
def test_the_same_search_makes_the_same_tree(bounding: Bounding) -> None:
    first, second = (Run(deep(), bounding=bounding) for _ in range(2))
    assert first.tree.splits == second.tree.splits
    assert first.tree.leaves == second.tree.leaves


def test_a_solver_that_breaks_down_closes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    original = WarmLP.run

    def broken(self: WarmLP, **limits: float) -> Vertex:
        vertex = original(self, **limits)  # type: ignore[arg-type]
        nothing = np.full_like(vertex.nu, np.nan)
        return replace(vertex, nu=nothing, ending=Ending.INFEASIBLE, ray=nothing)

    monkeypatch.setattr(WarmLP, "run", broken)
    run = Run(deep(), limit=200)
    assert not run.closed
    assert (run.splits.state.ended, run.splits.state.worst) == ("precision", -math.inf)


def test_an_lp_ends_where_it_does_whatever_came_before() -> None:
    """A search that was stopped and goes on has not solved the LPs of before."""
    root = deep()
    often = SlopeNodes(root, torch.device("cpu"))
    assert often.n > 2
    for i in range(often.n):
        phases = {i: 1, (i + 1) % often.n: -1}
        expected = SlopeNodes(root, torch.device("cpu")).finish(phases, 0, NEVER)
        found = often.finish(phases, 0, NEVER)
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert found.x.tolist() == expected.x.tolist()
            assert (found.refutation is None) == (expected.refutation is None)
            if found.refutation is not None and expected.refutation is not None:
                assert found.refutation.nu.tolist() == expected.refutation.nu.tolist()


def test_slopes_that_are_no_numbers_close_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    original = SlopeNodes.bound

    def broken(self: SlopeNodes, *given: object) -> object:
        found = original(self, *given)  # type: ignore[arg-type]
        nothing = torch.full_like(found.nu, torch.nan)
        return replace(found, nu=nothing, value=torch.ones_like(found.value))

    monkeypatch.setattr(SlopeNodes, "bound", broken)
    monkeypatch.setattr(SlopeNodes, "finish", lambda *_: None)
    monkeypatch.setattr(Tightening, "run", lambda *_: None)
    run = Run(deep(), limit=200, bounding="slopes")
    assert not run.closed
    assert run.splits.state.ended == "domains"


@either
def test_numbers_beyond_float32_are_searched_in_float64(bounding: Bounding) -> None:
    whole = deep()
    large = replace(whole, C=1e60 * whole.C, d=1e60 * whole.d)
    assert Run(large, bounding=bounding).closed


def test_multipliers_that_prove_nothing_close_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree is closed as far as the search knows; soundly evaluated, it is not."""
    original = NodeLP.evaluate

    def wrong(self: NodeLP, *given: object) -> object:
        found = original(self, *given)  # type: ignore[arg-type]
        return replace(found, value=1.0)

    monkeypatch.setattr(NodeLP, "evaluate", wrong)
    run = Run(lowered(deep(), 10.0))
    assert not run.closed
    assert (run.splits.state.ended, run.splits.state.open) == ("precision", 1)


@either
def test_refutations_are_weighed_by_what_they_say(bounding: Bounding) -> None:
    """Two rows whose sum is positive, though neither is."""
    network = bounds.from_torch(nn.Sequential(nn.ReLU()), (1,), dtype=torch.float64).detach()
    ball = bounds.Ball(torch.zeros(1, 1).double(), radius=1.0)
    rows = bounds.Specification(
        torch.tensor([[1.0], [-1.0]]).double(), torch.tensor([-0.2, 0.4]).double()
    )
    relaxation = bounds.relax(network, ball, rows)
    run = Run(relaxation, bounding=bounding)
    assert run.closed
    assert run.splits.state.domains == 1
    weights = run.tree.refutations[0].weights
    assert torch.allclose(weights, torch.tensor([0.5, 0.5]).double(), atol=1e-6)
    [least] = refuted(relaxation, run.tree.refutations).tolist()
    assert least == pytest.approx(0.1, abs=1e-6)


def test_the_largest_of_rows_by_a_warm_lp() -> None:
    network = random_net(3, 6, 4, seed=2)
    ball = bounds.Ball(torch.zeros(1, 3).double(), radius=1.0)
    C = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).double()
    relaxation = bounds.relax(network, ball, bounds.Specification(C))
    lp = condense(relaxation)
    assert lp is not None
    node = NodeLP(lp)
    found = node.bound({}, seconds=None)
    assert found.evidence is not None
    # By minimax, no λ has a larger optimum: single rows are special ones.
    single = bounds.solve(relaxation, method="exact").upper.max()
    assert found.evidence.value >= float(single) - 1e-9
    mixed = bounds.Specification(torch.from_numpy(found.evidence.weights)[None] @ C)
    optimum = bounds.solve(bounds.relax(network, ball, mixed), method="exact")
    assert float(optimum.lower) == pytest.approx(found.evidence.value, abs=1e-6)
