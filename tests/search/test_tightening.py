"""l and u that a search tightens where all rows are at most 0, against points and programs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bounds import Relaxation
from bounds.deadline import NEVER
from bounds.search.relu_split.region import Reasons, reasons
from bounds.search.relu_split.slope_bounding import SlopeNodes
from bounds.search.relu_split.tightening import Tightening
from tests.search.test_relu_search import Run, deep, lowered, minimum
from tests.support.problems import Problem, points, problems

small = problems(batch=st.just(1))
FEW = 12
few = settings(max_examples=settings().max_examples // 2)


def tightened(relaxation: Relaxation, phases: dict[int, int]) -> tuple[SlopeNodes, Tightening]:
    nodes = SlopeNodes(relaxation, torch.device("cpu"))
    found = nodes.bound([phases], [nodes.root], [nodes.region], NEVER)
    return nodes, nodes.tightened(found, 0, phases, nodes.region, 0, NEVER)


def pre_activations(relaxation: Relaxation, nodes: SlopeNodes, x: Tensor) -> Tensor:
    """ẑ of the unstable neurons, (points, n)."""
    pre: list[Tensor] = []

    def keep(position: int, values: Tensor) -> Tensor:
        pre.append(values.flatten(1))
        return values.clamp(min=0)

    relaxation.network.evaluate(x, keep)
    return torch.stack([pre[k][:, i] for k, i in nodes.neurons], 1)


def rows_at(relaxation: Relaxation, x: Tensor) -> Tensor:
    y = relaxation.network(x).flatten(1)
    return y @ relaxation.C[0].flatten(1).T + relaxation.d[0]


@few
@given(small, st.floats(0.02, 0.6), st.integers(0, 3), st.integers(1, 2))
def test_no_point_of_the_disjunct_is_cut_off(
    problem: Problem, share: float, held: int, rows: int
) -> None:
    """Of points that have all rows at most 0 and the phases, none is beyond an end that holds on
    the network itself, nor is there any where a refutation does. (In float32, as ends are found,
    rows that are 0 everywhere may seem to be above it.)"""
    whole = problem.relax(intermediate="backward", slope="adaptive").convert(Tensor.detach)
    assume(whole.C.shape[1] >= rows)
    one = whole.take(torch.tensor([0]), torch.arange(rows))
    x = points(one.input_set, 256)[0]
    largest = rows_at(one, x).amax(1)
    one = lowered(one, float(largest.quantile(share)))
    nodes = SlopeNodes(one, torch.device("cpu"))
    assume(nodes.n > held)
    inside = x[(rows_at(one, x) <= 0).all(1)]
    at = pre_activations(one, nodes, inside)
    phases = {i: 1 if float(at[0, i]) >= 0 else -1 for i in range(held)}
    nodes, tightening = tightened(one, phases)
    sides = torch.tensor(list(phases.values())).double()
    at = at[(at[:, : len(phases)] * sides >= 0).all(1)]
    region, refutation = tightening.region, tightening.refutation
    if refutation is not None:
        found = reasons(refutation, [refutation.first], nodes.region)
        assert not (len(at) and all(nodes.hold(found)))
    if region.found is not None:
        numbers = region.numbers[region.numbers >= 0].tolist()
        if all(nodes.hold(reasons(region.found, numbers, nodes.region))):
            low, high = (torch.from_numpy(each) for each in region.numbers >= 0)
            assert bool((at >= region.lower)[:, low].all())
            assert bool((at <= region.upper)[:, high].all())


@few
@given(small, st.sampled_from([-0.2, -0.01, 0.01, 0.2]))
def test_a_node_that_is_refuted_has_no_point(problem: Problem, margin: float) -> None:
    whole = problem.relax(intermediate="backward", slope="adaptive").convert(Tensor.detach)
    assume(whole.unstable[0] <= FEW)
    one = whole.take(torch.tensor([0]), torch.tensor([0]))
    shifted = lowered(one, minimum(one) - margin * float(one.scale().max()))
    _, tightening = tightened(shifted, {})
    assert tightening.refutation is None or margin > 0


def test_a_search_needs_fewer_nodes_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    by_it = Run(deep(), bounding="slopes")
    monkeypatch.setattr(Tightening, "run", lambda *_: None)
    without = Run(deep(), bounding="slopes")
    assert by_it.closed
    assert without.closed
    assert by_it.splits.state.domains < without.splits.state.domains


def test_lemmas_that_do_not_hold_close_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor what uses them: only nodes that need none are closed."""
    original = SlopeNodes.hold

    def doubted(self: SlopeNodes, some: Sequence[Reasons]) -> list[bool]:
        holds = iter(original(self, some))
        return [
            next(holds) and not bool(side)
            for each in some
            for side in each.findings.side[torch.from_numpy(each.rows)].tolist()
        ]

    monkeypatch.setattr(SlopeNodes, "hold", doubted)
    run = Run(deep(), bounding="slopes")
    assert run.closed
    assert all(not each.uses and each.bound is None for each in run.tree.refutations)


def test_what_is_numbered_and_not_needed_is_not_recorded() -> None:
    run = Run(deep(), bounding="slopes")
    assert any(each.bound is not None for each in run.tree.refutations)
    for position, each in enumerate(run.tree.refutations):
        assert all(use < position for use in each.uses)
        for use in each.uses:
            used = run.tree.refutations[use]
            assert used.bound is not None
            assert used.phases.items() <= each.phases.items()


def test_nothing_is_explained_or_verified_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    original, numbers = SlopeNodes.hold, list[int]()

    def counted(self: SlopeNodes, some: Sequence[Reasons]) -> list[bool]:
        numbers.extend(number for each in some for number in each.numbers)
        return original(self, some)

    monkeypatch.setattr(SlopeNodes, "hold", counted)
    run = Run(deep(), bounding="slopes")
    assert run.closed
    assert len(numbers) == len(set(numbers)) >= len(run.tree.refutations)
