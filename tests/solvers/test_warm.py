"""LPs with splits, against cvxpy, which states them from the weights."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import cvxpy as cp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
import lp_reference
from bounds import Relaxation, Status
from bounds.deadline import NEVER
from bounds.highs import QuietHighs
from bounds.network.affine import Linear
from bounds.network.graph import AffineNode
from bounds.search.relu_split.bounding import NodeLP
from bounds.search.relu_split.slope_bounding import SlopeNodes
from bounds.solvers.interior_point.condense import CondensedLP, condense
from bounds.solvers.simplex.warm import Ending, Side, WarmLP
from lp_reference.quiet import quiet_highs
from tests.checker.test_checker import checked
from tests.solvers.test_splits import METHODS, phases_at
from tests.support.certificates import reasons
from tests.support.networks import Dice
from tests.support.problems import points
from tests.support.referee import random_model, random_net

WIDTHS = (5, 9, 7, 3)
Splits = dict[tuple[int, int], Side]


def relaxation(seed: int, norm: float) -> Relaxation:
    x = Dice(seed + 1).normal(1, WIDTHS[0])
    ball = bounds.Ball(x, radius=0.5 if norm == math.inf else 1.0, norm=norm)
    rows = bounds.Specification(Dice(seed + 2).normal(3, WIDTHS[-1]))
    return bounds.relax(random_net(*WIDTHS, seed=seed), ball, rows)


def split_lp(problem: Relaxation, rows: list[int], splits: Splits) -> float:
    """The optimum of the largest of these rows with z = ẑ ≥ 0 or z = 0 ≥ ẑ for each split (ReLU,
    neuron); inf where there is no feasible point."""
    lower, upper = problem.input_set.lower[0].numpy(), problem.input_set.upper[0].numpy()
    x = cp.Variable(WIDTHS[0])
    constraints = [x >= lower, x <= upper]
    if isinstance(problem.input_set, bounds.sets.norm_balls.L1Ball):
        radius = float(problem.input_set.radius)
        constraints.append(cp.norm1(x - problem.input_set.centre[0].numpy()) <= radius)
    layers = [node.operation for node in problem.network.nodes if isinstance(node, AffineNode)]
    value = x
    for k, layer in enumerate(layers):
        assert isinstance(layer, Linear)
        assert layer.offset is not None
        value = layer.weight.numpy() @ value + layer.offset.numpy()
        if k == len(layers) - 1:
            break
        neurons, z = problem.relu_bounds[k], cp.Variable(layer.output_shape[0])
        for i in range(layer.output_shape[0]):
            low, high = float(neurons.lower[0, i]), float(neurons.upper[0, i])
            if low >= 0:
                constraints.append(z[i] == value[i])
            elif high <= 0:
                constraints.append(z[i] == 0)
            else:
                face = (high - low) * z[i] <= high * (value[i] - low)
                constraints += [z[i] >= 0, z[i] >= value[i], face]
            match splits.get((k, i), Side.BOTH):
                case Side.ACTIVE:
                    constraints += [z[i] == value[i], value[i] >= 0]
                case Side.DEAD:
                    constraints += [z[i] == 0, value[i] <= 0]
        value = z
    largest = cp.Variable()
    constraints.append(problem.C[0, rows].numpy() @ value + problem.d[0, rows].numpy() <= largest)
    program = cp.Problem(cp.Minimize(largest), constraints)
    with quiet_highs():
        program.solve(solver=cp.HIGHS)
    assert program.status in ("optimal", "infeasible")
    return float(program.value)


def dual_value(
    lp: CondensedLP, row: int, nu: np.ndarray, sides: dict[int, Side], *, scale: float = 1.0
) -> float:
    """d(ν), the minimum of each split neuron over the vertices that are left; scale: of the
    objective, 0 for what a ray adds."""
    d = lp.c_b.shape[2]
    AL, e, lower, upper = (t[0].numpy() for t in (lp.AL, lp.e, lp.lower, lp.upper))
    price = nu @ AL
    on_b = scale * lp.c_b[0, row].numpy() + price[:d]
    on_z = scale * lp.c_z[0, row].numpy() + price[d:]
    value = scale * float(lp.c_0[0, row]) + e @ nu + np.minimum(on_b, 0).sum()
    for i in range(len(e)):
        side, vertices = sides.get(i, Side.BOTH), [0.0]
        if side is not Side.ACTIVE:
            vertices.append(-nu[i] * lower[i])
        if side is not Side.DEAD:
            vertices.append((on_z[i] - nu[i]) * upper[i])
        value += min(vertices)
    return float(value)


@given(
    seed=st.integers(0, 10**6),
    norm=st.sampled_from([math.inf, 1.0]),
    data=st.data(),
)
def test_split_lps_have_the_optima_of_cvxpy(seed: int, norm: float, data: st.DataObject) -> None:
    """One model for all: rows, splits and their undoing one after the other."""
    problem = relaxation(seed, norm)
    lp = condense(problem)
    assert lp is not None
    names = [
        (k, int(index))
        for k, (indices, real) in enumerate(lp.chosen)
        for index in indices[0][real[0]]
    ]
    warm, first = WarmLP(lp), lp.layers[0]
    for _ in range(3):
        row = data.draw(st.integers(0, 2))
        drawn = data.draw(
            st.dictionaries(st.integers(0, len(names) - 1), st.sampled_from(Side), max_size=6)
            if names
            else st.just({})
        )
        sides = {first + i: side for i, side in drawn.items()}
        warm.minimise(lp.c_b[0, row].numpy(), lp.c_z[0, row].numpy())
        for i in range(len(names)):
            warm.split(first + i, drawn.get(i, Side.BOTH))
        vertex = warm.run()
        optimum = split_lp(problem, [row], {names[i]: side for i, side in drawn.items()})
        if math.isinf(optimum):
            assert vertex.ending is Ending.INFEASIBLE
            assert vertex.ray is not None
            assert dual_value(lp, row, vertex.ray, sides, scale=0.0) > 0
            beyond = vertex.nu + 1e4 * vertex.ray
            assert dual_value(lp, row, beyond, sides) > dual_value(lp, row, vertex.nu, sides)
            continue
        assert vertex.ending is Ending.OPTIMAL
        unit = max(1.0, abs(optimum))
        value = vertex.objective + float(lp.c_0[0, row])
        assert abs(value - optimum) <= 1e-6 * unit
        assert abs(dual_value(lp, row, vertex.nu, sides) - optimum) <= 1e-6 * unit
        attained = lp.c_b[0, row].numpy() @ vertex.b + lp.c_z[0, row].numpy() @ vertex.z
        assert abs(attained - vertex.objective) <= 1e-9 * unit
        # The point keeps to its sides, and to the definitions of ẑ.
        pre = lp.AL[0].numpy() @ np.concatenate([vertex.b, vertex.z]) + lp.e[0].numpy()
        for i, side in sides.items():
            if side is Side.ACTIVE:
                assert abs(vertex.z[i] - pre[i]) <= 1e-6
            if side is Side.DEAD:
                assert vertex.z[i] == 0
                assert pre[i] <= 1e-6


@given(seed=st.integers(0, 10**6), norm=st.sampled_from([math.inf, 1.0]), data=st.data())
def test_dual_equals_lp_on_split_conjunctions(seed: int, norm: float, data: st.DataObject) -> None:
    """The best weights λ of the rows, and the best ν for them: by minimax, the least that the
    largest row can be."""
    problem = relaxation(seed, norm)
    lp = condense(problem)
    assert lp is not None
    names = [
        (k, int(index))
        for k, (indices, real) in enumerate(lp.chosen)
        for index in indices[0][real[0]]
    ]
    node, first = NodeLP(lp), lp.layers[0]
    slopes = SlopeNodes(problem, torch.device("cpu"))
    phases = st.dictionaries(
        st.integers(0, max(0, len(names) - 1)), st.sampled_from([1, -1]), max_size=6
    )
    for _ in range(2):
        drawn = data.draw(phases if names else st.just({}))
        found = node.bound({first + i: side for i, side in drawn.items()}, seconds=None).evidence
        sides = {names[i]: Side.ACTIVE if side > 0 else Side.DEAD for i, side in drawn.items()}
        optimum = split_lp(problem, [0, 1, 2], sides)
        assert found is not None
        assert (found.weights >= 0).all()
        assert found.weights.sum() == pytest.approx(1.0)
        # Above its margin a node is closed, however far; below, this is the optimum.
        unit = max(1.0, abs(optimum)) if math.isfinite(optimum) else 1.0
        assert found.value <= optimum + 1e-6 * unit
        assert found.value >= min(optimum, node.margin) - 1e-6 * unit
        place = {name: i for i, name in enumerate(slopes.neurons)}
        by_slopes = {place[names[i]]: side for i, side in drawn.items()}
        raised = slopes.bound([by_slopes], [slopes.root], [slopes.region], NEVER)
        assert bool((raised.weights >= 0).all())
        assert float(raised.weights.sum()) == pytest.approx(1.0, abs=1e-5)
        assert float(raised.value) <= optimum + 1e-5 * unit


class Largest(nn.Module):
    """The largest of some rows of a model's outputs."""

    def __init__(self, model: nn.Module, rows: Tensor) -> None:
        super().__init__()
        self.model, self.rows = model, rows

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.model(x), self.rows).amax(1, keepdim=True)


@settings(max_examples=settings().max_examples // 10)
@given(seed=st.integers(0, 10**6), norm=st.sampled_from([math.inf, 1.0]))
def test_dual_equals_lp_on_conjunctions_by_every_method(seed: int, norm: float) -> None:
    """As one row, of a network that takes the largest: max(a, b) = b + relu(a − b), which is
    minimised, is what the triangle has at its lower faces. λ is in the multipliers of its ReLUs."""
    problem = relaxation(seed, norm)
    model = Largest(random_model(*WIDTHS, seed=seed), problem.C[0])
    network = bounds.from_torch(model, WIDTHS[:1]).detach()
    one = bounds.Specification(torch.ones(1, 1).double())
    ball = bounds.Ball(
        Dice(seed + 1).normal(1, WIDTHS[0]), radius=0.5 if norm == math.inf else 1.0, norm=norm
    )
    whole = bounds.relax(network, ball, one)
    layers = len(problem.relu_bounds)
    problem = replace(problem, relu_bounds=whole.relu_bounds[:layers])
    phases = phases_at(whole, points(whole.input_set, 1, seed), seed)
    phases[layers:] = [torch.zeros_like(phase) for phase in phases[layers:]]
    sides = {
        (k, i): Side.ACTIVE if phase[0, i] > 0 else Side.DEAD
        for k, phase in enumerate(phases[:layers])
        for i in phase[0].nonzero().flatten().tolist()
    }
    side = whole.split(phases)
    optimum = split_lp(problem, [0, 1, 2], sides)
    unit = max(1.0, abs(optimum))
    referee = lp_reference.solve(side)
    assert abs(float(referee.value[0, 0]) - optimum) <= 1e-6 * unit
    for method, options in METHODS.items():
        limit = {"iteration_limit": 300} if method == "pdhg" else options
        solution, check = checked(side, method=method, **limit)
        assert check.accepted, (method, reasons(check))
        assert solution.lower <= optimum + 1e-6 * unit, method
        if method in ("interior_point", "simplex"):
            assert solution.lower >= optimum - 1e-5 * unit, (method, solution)
        elif solution.status == Status.OPTIMAL:
            assert solution.lower >= optimum - 2e-3 * unit, (method, solution)


def test_a_split_goes_on_from_the_last_basis() -> None:
    problem = relaxation(3, math.inf)
    lp = condense(problem)
    assert lp is not None
    warm = WarmLP(lp)
    warm.minimise(lp.c_b[0, 0].numpy(), lp.c_z[0, 0].numpy())
    root = warm.run()
    gaps = root.z - np.maximum(lp.AL[0].numpy() @ np.concatenate([root.b, root.z]), 0)
    neuron = int(np.abs(gaps).argmax())
    warm.split(neuron, Side.DEAD)
    child = warm.run()
    warm.forget()
    assert child.pivots < warm.run().pivots
    warm.split(neuron, Side.BOTH)
    assert warm.run().objective == pytest.approx(root.objective, abs=1e-9)


def test_a_bound_ends_a_run() -> None:
    lp = condense(relaxation(4, math.inf))
    assert lp is not None
    warm = WarmLP(lp)
    for row in (0, 1):
        warm.minimise(lp.c_b[0, row].numpy(), lp.c_z[0, row].numpy())
        optimum = warm.run().objective
        warm.forget()
        vertex = warm.run(bound=optimum - 1.0)
        assert vertex.ending is Ending.ABOVE
        nothing: dict[int, Side] = {}
        assert dual_value(lp, row, vertex.nu, nothing) >= optimum - 1.0 + float(lp.c_0[0, row])
        assert warm.run().objective == pytest.approx(optimum, abs=1e-9)


def test_no_variable_is_no_problem() -> None:
    """No ReLU that is unstable, and an input that cannot move."""
    net = bounds.from_torch(torch.nn.Linear(2, 1).double(), (2,)).detach()
    x = torch.ones(1, 2, dtype=torch.float64)
    rows = bounds.Specification(torch.ones(1, 1, dtype=torch.float64))
    lp = condense(bounds.relax(net, bounds.Box(x, x), rows))
    assert lp is not None
    warm = WarmLP(lp)
    warm.minimise(lp.c_b[0, 0].numpy(), lp.c_z[0, 0].numpy())
    vertex = warm.run()
    assert vertex.objective == 0
    assert len(vertex.nu) == len(vertex.b) == 0


def test_a_run_without_a_solution_has_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What HiGHS returns where it has failed: empty lists."""
    lp = condense(relaxation(4, math.inf))
    assert lp is not None
    warm = WarmLP(lp)
    failed = SimpleNamespace(col_value=[], row_dual=[])
    monkeypatch.setattr(QuietHighs, "getSolution", lambda self: failed)
    vertex = warm.run()
    assert vertex.nu.shape == vertex.z.shape == (lp.e.shape[1],)
    assert np.isnan(vertex.nu).all()
    assert np.isnan(vertex.b).all()
    assert np.isnan(vertex.z).all()
