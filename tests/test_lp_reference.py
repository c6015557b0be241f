"""The referee against its own ground truth: hand-computed optima, forward passes, other solvers."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import clarabel
import cvxpy as cp
import highspy
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor, nn

import bounds
import lp_reference
from bounds.affine import (
    Affine,
    Convolution,
    Linear,
    Reshape,
    Scale,
    Shape,
    convolution_output_shape,
)
from bounds.network import AffineNode, InputNode, Network, Node, ReluNode, SumNode
from lp_reference import milp, solvers
from lp_reference.matrices import affine_matrix
from tests.networks import Dice
from tests.problems import Problem, points, problems


def random_net(*widths: int, seed: int = 0, scale: float = 1.0) -> Network:
    """Dense layers with ReLUs between them; every weight and bias times `scale`."""
    dice, layers = Dice(seed), []
    for inputs, outputs in itertools.pairwise(widths):
        layer = nn.Linear(inputs, outputs).double()
        with torch.no_grad():
            layer.weight.copy_(dice.normal(outputs, inputs) * scale / math.sqrt(inputs))
            layer.bias.copy_(dice.normal(outputs) * scale / 4)
        layers += [layer, nn.ReLU()]
    return Network.from_torch(nn.Sequential(*layers[:-1]), widths[:1]).detach()


def random_relaxation(
    *widths: int, seed: int = 0, scale: float = 1.0, batch: int = 2, radius: float = 0.5
) -> bounds.Relaxation:
    x = Dice(seed + 1).normal(batch, widths[0])
    return bounds.relax(
        random_net(*widths, seed=seed, scale=scale),
        bounds.Ball(x, radius=radius),
        bounds.margins(0, widths[-1]),
    )


@pytest.fixture
def hand_made() -> bounds.Relaxation:
    """Five ReLUs of one and the same x in [-1, 1], told apart by the bounds they claim.

    z0 is unstable with l, u = -2, 2, so its upper face is z0 <= (x + 2) / 2. z1 is active and z2
    dead, for other x than these: only the claimed bounds count. z3 and z4 have l = u, active and
    dead.
    """
    model = nn.Sequential(nn.Linear(1, 5), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.fill_(0.0)
    rows = torch.tensor(
        [
            [1.0, 0, 0, 0, 0],
            [-1.0, 0, 0, 0, 0],
            [1.0, -0.75, 0, 0, 0],
            [1.0, -2.0, 0, 0, 0],
            [-1.0, 0.75, 0, 0, 0],
            [0, 1.0, 0, 0, 0],
            [0, 0, -1.0, 0, 0],
            [0, 0, 1.0, 0, 0],
            [0, 0, 0, 1.0, 0],
            [0, 0, 0, 0, -1.0],
            [0, 0, 0, 0, 0],
        ],
        dtype=torch.float64,
    )
    lower = torch.tensor([[-2.0, 0.0, -3.0, 0.5, -0.5]], dtype=torch.float64)
    upper = torch.tensor([[2.0, 3.0, 0.0, 0.5, -0.5]], dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    return bounds.Relaxation(
        Network.from_torch(model, (1,)),
        bounds.Box(-one, one),
        rows.unsqueeze(0),
        torch.zeros(1, len(rows), dtype=torch.float64),
        (bounds.ReluBounds(lower, upper),),
    )


#: The optima of the rows above, and the binding faces of z0 where the optimum determines them.
HAND_MADE = [0.0, -1.5, 0.0, -1.0, -1.25, -1.0, 0.0, 0.0, -1.0, 0.0, 0.0]
FACES = {1: "upper face of relu '1' neuron 0", 3: "z >= ẑ of relu '1' neuron 0"}


# -- matrices --------------------------------------------------------------------------------------


def convolution(
    input_shape: Shape,
    channels: int,
    kernel: Shape,
    stride: Shape,
    padding: Shape,
    dilation: Shape,
    groups: int = 1,
    bias: bool = True,
) -> Convolution:
    dice = Dice(3)
    weight = dice.normal(channels, input_shape[0] // groups, *kernel)
    shape = convolution_output_shape(input_shape, weight, stride, padding, dilation)
    offset = dice.normal(channels) if bias else None
    return Convolution(input_shape, shape, weight, offset, stride, padding, dilation, groups)


OPERATIONS: dict[str, Affine] = {
    "linear": Linear((5,), (3,), Dice(0).normal(3, 5), Dice(1).normal(3)),
    "linear without bias": Linear((5,), (3,), Dice(0).normal(3, 5)),
    "linear on the last axis": Linear(
        (2, 4, 5), (2, 4, 3), Dice(0).normal(3, 5), Dice(1).normal(3)
    ),
    "scale by a number": Scale((2, 3), (2, 3), Dice(0).normal(), Dice(1).normal()),
    "scale by channel": Scale((2, 3, 4), (2, 3, 4), Dice(0).normal(2, 1, 1), Dice(1).normal(4)),
    "scale without shift": Scale((2, 3), (2, 3), Dice(0).normal(2, 3)),
    "reshape": Reshape((2, 3, 4), (4, 6)),
    "conv1d": convolution((1, 7), 2, (3,), (1,), (0,), (1,)),
    "conv1d, everything": convolution((4, 11), 6, (3,), (2,), (3,), (2,), 2),
    "conv2d": convolution((2, 5, 6), 3, (3, 2), (1, 1), (0, 0), (1, 1)),
    "conv2d, stride that skips the end": convolution((1, 6, 7), 2, (2, 3), (3, 2), (0, 0), (1, 1)),
    "conv2d, padding": convolution((2, 4, 3), 2, (3, 3), (1, 1), (2, 1), (1, 1), bias=False),
    "conv2d, dilation": convolution((1, 7, 6), 2, (3, 2), (1, 1), (0, 0), (2, 3)),
    "conv2d, groups": convolution((6, 4, 4), 4, (2, 2), (1, 1), (0, 0), (1, 1), 2),
    "conv2d, everything": convolution((6, 8, 7), 9, (3, 2), (2, 3), (2, 1), (2, 1), 3),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_matrix_is_the_operation(operation: Affine) -> None:
    x = Dice(7).normal(4, *operation.input_shape)
    matrix, bias = affine_matrix(operation)
    assert matrix.shape == (math.prod(operation.output_shape), math.prod(operation.input_shape))
    assert matrix.dtype == bias.dtype == np.float64
    got = (matrix @ x.flatten(1).numpy().T).T + bias
    np.testing.assert_allclose(got, operation.forward(x).flatten(1).numpy(), rtol=0, atol=1e-13)


def test_matrix_is_float64_and_keeps_tiny_coefficients() -> None:
    numbers = torch.tensor([1.0, 2.0**-100], dtype=torch.float32)
    matrix, bias = affine_matrix(Scale((2,), (2,), numbers, numbers))
    assert matrix.toarray().tolist() == [[1.0, 0.0], [0.0, 2.0**-100]]
    assert bias.tolist() == [1.0, 2.0**-100]
    assert matrix.dtype == bias.dtype == np.float64


# -- rows and names --------------------------------------------------------------------------------


def node_values(network: Network, x: Tensor) -> np.ndarray:
    """Every node's value for one input, flattened as the variables of the LP are."""
    values: list[Tensor] = []
    for node in network.nodes:
        match node:
            case InputNode():
                values.append(x.unsqueeze(0))
            case AffineNode(parents=(parent,), operation=operation):
                values.append(operation.forward(values[parent]))
            case SumNode(parents=parents):
                values.append(torch.stack([values[parent] for parent in parents]).sum(0))
            case ReluNode(parents=(parent,)):
                values.append(values[parent].relu())
    return torch.cat([value.flatten() for value in values]).detach().numpy()


@settings(max_examples=max(1, settings.default.max_examples // 2))
@given(problems())
def test_the_network_itself_is_feasible(problem: Problem) -> None:
    """And there is one equation for every variable but the inputs and the unstable neurons."""
    relaxation = problem.relax(intermediate="interval")
    for index, inputs in enumerate(points(problem.box, 4)):
        lp = lp_reference.assemble(relaxation, index)
        assert len(lp.equality_rhs) == lp.size - len(lp.lower) - relaxation.unstable[index]
        assert len(lp.inequality_rhs) == 3 * relaxation.unstable[index]
        equality, inequality = lp.row_scale
        for x in inputs:
            v = node_values(relaxation.network, x)
            assert (lp.lower <= v[: len(lp.lower)]).all()
            assert (v[: len(lp.upper)] <= lp.upper).all()
            error = (lp.equality @ v - lp.equality_rhs) / equality
            np.testing.assert_allclose(error, 0, atol=1e-12)
            above = (lp.inequality @ v - lp.inequality_rhs) / inequality
            assert above.max(initial=0.0) <= 1e-12
            outputs = relaxation.network(x.unsqueeze(0)).flatten()
            rows = relaxation.C[index].flatten(1) @ outputs
            got = [lp.objective(row) @ v for row in range(len(rows))]
            np.testing.assert_allclose(got, rows.detach(), rtol=1e-12, atol=1e-12 * equality.max())


def test_rows_of_the_hand_made_relaxation(hand_made: bounds.Relaxation) -> None:
    lp = lp_reference.assemble(hand_made)
    x, pre, z = np.eye(11)[:1], np.eye(11)[1:6], np.eye(11)[6:]
    equality = [*(pre - x), z[1] - pre[1], z[3] - pre[3], z[2], z[4]]
    np.testing.assert_array_equal(lp.equality.toarray(), equality)
    np.testing.assert_array_equal(lp.equality_rhs, np.zeros(9))
    inequality = [-z[0], pre[0] - z[0], z[0] - pre[0] / 2]
    np.testing.assert_array_equal(lp.inequality.toarray(), inequality)
    np.testing.assert_array_equal(lp.inequality_rhs, [0, 0, 1])
    assert [lp.row_name(row) for row in range(12)] == [
        "value of affine '0' neuron 0",
        "value of affine '0' neuron 1",
        "value of affine '0' neuron 2",
        "value of affine '0' neuron 3",
        "value of affine '0' neuron 4",
        "z = ẑ of relu '1' neuron 1",
        "z = ẑ of relu '1' neuron 3",
        "z = 0 of relu '1' neuron 2",
        "z = 0 of relu '1' neuron 4",
        "z >= 0 of relu '1' neuron 0",
        "z >= ẑ of relu '1' neuron 0",
        "upper face of relu '1' neuron 0",
    ]
    assert [lp.variable_name(i) for i in (0, 1, 5, 6, 10)] == [
        "input 'input' neuron 0",
        "affine '0' neuron 0",
        "affine '0' neuron 4",
        "relu '1' neuron 0",
        "relu '1' neuron 4",
    ]
    for call, number in ((lp.row_name, 12), (lp.row_name, -1), (lp.variable_name, 11)):
        with pytest.raises(bounds.InvalidInputError, match=rf"{call.__name__} got {number}"):
            call(number)


def test_nodes_of_one_name_are_told_apart() -> None:
    layer = nn.Linear(2, 2).double()
    network = Network.from_torch(nn.Sequential(layer, nn.ReLU(), layer), (2,))
    ball = bounds.Ball(torch.zeros(2, dtype=torch.float64), radius=1.0)
    lp = lp_reference.assemble(bounds.relax(network, ball, bounds.margins(0, 2)))
    assert [lp.variable_name(i) for i in (2, 4, 6)] == [
        "affine '0' (node 1) neuron 0",
        "relu '1' neuron 0",
        "affine '0' (node 3) neuron 0",
    ]


def test_a_sum_may_take_one_node_twice() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + x

    network = Network.from_torch(nn.Sequential(Twice()), (2,), dtype=torch.float64)
    ball = bounds.Ball(torch.tensor([3.0, 5.0], dtype=torch.float64), radius=1.0)
    specification = bounds.Specification(torch.eye(2, dtype=torch.float64))
    solution = lp_reference.solve(bounds.relax(network, ball, specification))
    np.testing.assert_allclose(solution.value, [[4.0, 8.0]])


def test_unknown_operations_and_nodes_are_refused(hand_made: bounds.Relaxation) -> None:
    rotation: Any = type("Rotation", (Affine,), dict.fromkeys(Affine.__abstractmethods__))
    product = type("ProductNode", (Node,), {})
    first, _, last = hand_made.network.nodes
    for node, name in (
        (AffineNode("odd", (5,), (0,), rotation((1,), (5,))), "Rotation"),
        (product("odd", (5,), (0,)), "ProductNode"),
    ):
        network = Network((first, node, last))
        with pytest.raises(bounds.UnsupportedLayerError, match=name):
            lp_reference.solve(replace(hand_made, network=network))


def test_none_of_the_code_of_bounds_is_shared(
    monkeypatch: pytest.MonkeyPatch, hand_made: bounds.Relaxation
) -> None:
    def called(*_: object) -> None:
        raise AssertionError("lp_reference called the code that it is there to check")

    for operation in (Affine, Linear, Convolution, Scale, Reshape):
        for name in ("forward", "linear", "adjoint", "absolute"):
            monkeypatch.setattr(operation, name, called)
    for name in ("__call__", "evaluate", "backward"):
        monkeypatch.setattr(Network, name, called)
    for name in ("minimum", "argmin"):
        monkeypatch.setattr(bounds.Box, name, called)
    for name in ("minimum", "face", "slope"):
        monkeypatch.setattr(bounds.ReluBounds, name, property(called))
    assert lp_reference.solve(hand_made).value[0, 1] == pytest.approx(-1.5)


# -- optima ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["HIGHS", "CLARABEL"])
def test_hand_computed_optima(hand_made: bounds.Relaxation, solver: str) -> None:
    d = torch.arange(len(HAND_MADE), dtype=torch.float64)
    solution = lp_reference.solve(replace(hand_made, d=d.unsqueeze(0)), solver=solver)
    expected = np.array([HAND_MADE]) + d.numpy()
    assert (solution.status == "optimal").all()
    np.testing.assert_allclose(solution.value, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(solution.dual_value, expected, rtol=0, atol=1e-9)
    gaps = [[residuals.absolute.gap for residuals in solution.residuals[0]]]
    np.testing.assert_array_equal(solution.value - solution.dual_value, gaps)
    assert np.any(gaps) or solver == "HIGHS"
    assert solution.x.shape == (1, len(HAND_MADE), 1)
    np.testing.assert_allclose(solution.x[0, [1, 3, 4, 5], 0], [1, 1, -1, -1], atol=1e-9)
    lp = lp_reference.assemble(hand_made)
    for row, name in FACES.items():
        multipliers = solution.points[0, row].inequality
        binding = [
            lp.row_name(len(lp.equality_rhs) + i) for i in np.flatnonzero(multipliers > 1e-6)
        ]
        assert binding == [name]


@settings(max_examples=max(1, settings.default.max_examples // 2))
@given(problems())
def test_two_solvers_agree_and_prove_it(problem: Problem) -> None:
    relaxation = problem.relax(intermediate="backward")
    simplex = lp_reference.solve(relaxation, solver="HIGHS")
    interior = lp_reference.solve(relaxation, solver="CLARABEL")
    for solution, tolerance in ((simplex, 1e-10), (interior, 1e-7)):
        assert (solution.status == "optimal").all()
        assert solution.value.shape == relaxation.d.shape
        size = np.maximum(1, np.abs(simplex.value))
        assert (np.abs(solution.value - simplex.value) <= 1e-7 * size).all()
        assert (np.abs(solution.value - solution.dual_value) <= tolerance * size).all()
        worst = [r.relative.worst for r in solution.residuals.flat]
        assert max(worst) <= tolerance


@pytest.mark.parametrize("solver", ["HIGHS", "CLARABEL"])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_layers_that_multiply_magnitudes(solver: str, scale: float) -> None:
    """Unscaled, HiGHS fails on one of these LPs and CLARABEL calls all of them unbounded."""
    relaxation = random_relaxation(6, 20, 20, 20, 4, scale=scale, radius=0.3)
    solution = lp_reference.solve(relaxation, solver=solver)
    assert (solution.status == "optimal").all()
    np.testing.assert_allclose(solution.dual_value, solution.value, rtol=1e-7, atol=0)


def test_tiny_coefficients_reach_the_solver() -> None:
    """By default HiGHS would drop the first one and return 0."""
    weight = torch.diag(torch.tensor([1e-10, 1.0], dtype=torch.float64))
    nodes = (
        InputNode("input", (2,), ()),
        AffineNode("tiny", (2,), (0,), Linear((2,), (2,), weight)),
    )
    ball = bounds.Ball(torch.zeros(2, dtype=torch.float64), radius=1.0)
    specification = bounds.Specification(torch.eye(2, dtype=torch.float64))
    solution = lp_reference.solve(bounds.relax(Network(nodes), ball, specification))
    np.testing.assert_allclose(solution.value, [[-1e-10, -1.0]], rtol=1e-6)


def test_each_input_has_its_own_rows_and_bounds() -> None:
    dice = Dice(5)
    network, x = random_net(3, 6, 4, 3), dice.normal(3, 3)
    C, d = dice.normal(3, 2, 3), dice.normal(3, 2)
    radius = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)[:, None]
    together = lp_reference.solve(
        bounds.relax(network, bounds.Ball(x, radius=radius), bounds.Specification(C, d))
    )
    for i in range(3):
        ball = bounds.Ball(x[i], radius=radius[i])
        alone = lp_reference.solve(
            bounds.relax(network, ball, bounds.Specification(C[i], d[i])), solver="CLARABEL"
        )
        np.testing.assert_allclose(together.value[i], alone.value[0], rtol=0, atol=1e-8)
    expected = (C[0] @ network(x[:1])[0] + d[0]).detach()
    np.testing.assert_allclose(together.value[0], expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(together.x[0], x[[0, 0]])


@pytest.mark.parametrize("options", [{}, {"solver": "CLARABEL"}, {"milp": True}])
def test_networks_without_unstable_neurons_or_rows(options: dict[str, Any]) -> None:
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    ball = bounds.Ball(x, radius=1.0)
    identity = Network((InputNode("input", (2,), ()),))
    relaxation = bounds.relax(identity, ball, bounds.margins(0, 2))
    solution = lp_reference.solve(relaxation, **options)
    np.testing.assert_allclose(solution.value, [[1.0]], rtol=1e-9)
    np.testing.assert_allclose(solution.dual_value, [[1.0]], rtol=1e-9)
    affine = Network.from_torch(nn.Linear(2, 2).double(), (2,))
    relaxation = bounds.relax(affine, bounds.Ball(x, radius=0.0), bounds.margins(0, 2))
    y = affine(x.unsqueeze(0))[0].detach()
    np.testing.assert_allclose(
        lp_reference.solve(relaxation, **options).value, [[y[0] - y[1]]], rtol=1e-9
    )
    none = replace(relaxation, C=relaxation.C[:, :0], d=relaxation.d[:, :0])
    solution = lp_reference.solve(none, **options)
    assert solution.value.shape == solution.status.shape == (1, 0)


def test_float32_is_solved_in_float64() -> None:
    """The LP of the rounded numbers themselves, which carry gradients here."""
    network = random_net(3, 8, 8, 3).to(torch.float32)
    x = Dice(2).normal(2, 3).float().requires_grad_()
    relaxation = bounds.relax(network, bounds.Ball(x, radius=0.5), bounds.margins(0, 3))
    assert relaxation.C.dtype == torch.float32
    single, double = lp_reference.solve(relaxation), lp_reference.solve(relaxation.double())
    assert single.value.dtype == np.float64
    np.testing.assert_array_equal(single.value, double.value)


# -- the network itself ----------------------------------------------------------------------------


def breakpoints(network: Network, lower: float, upper: float) -> Tensor:
    """For one scalar input, points between which the network is linear, and both ends."""
    grid = torch.tensor([lower, upper], dtype=torch.float64)
    for layer in range(len(network.relus)):
        found: list[Tensor] = []

        def relu(_: int, pre: Tensor, found: list[Tensor] = found) -> Tensor:
            found.append(pre)
            return pre.relu()

        network.evaluate(grid.unsqueeze(1), relu)
        left, right = found[layer][:-1], found[layer][1:]
        share = left / (left - right)
        crossing = grid[:-1, None] + share * grid.diff()[:, None]
        grid = torch.cat([grid, crossing[left * right < 0]]).sort().values
    return grid


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.5, 1.0, 30.0])
def test_milp_is_the_minimum_of_the_network(seed: int, scale: float) -> None:
    network = random_net(1, 8, 6, 3, seed=seed, scale=scale)
    ball = bounds.Ball(torch.full((1,), 0.1, dtype=torch.float64), radius=2.0)
    relaxation = bounds.relax(network, ball, bounds.margins(0, 3))
    grid = breakpoints(network, 0.1 - 2.0, 0.1 + 2.0)
    values = network(grid.unsqueeze(1)) @ relaxation.C[0].T
    expected = values.min(0).values.numpy()
    solution = lp_reference.solve(relaxation, milp=True)
    assert (solution.status == "optimal").all()
    np.testing.assert_allclose(solution.value[0], expected, rtol=1e-9)
    np.testing.assert_allclose(solution.dual_value[0], expected, rtol=1e-9)
    at = network(torch.from_numpy(solution.x[0])) @ relaxation.C[0].T
    np.testing.assert_allclose(at.diagonal(), expected, rtol=1e-9)
    # The relaxation is not tight here, so an LP would not pass for the MILP.
    lp = lp_reference.solve(relaxation)
    assert (lp.value < solution.value - 1e-3 * scale).any()


@settings(max_examples=max(1, settings.default.max_examples // 4))
@given(problems())
def test_milp_lies_between_the_lp_and_samples(problem: Problem) -> None:
    relaxation = problem.relax(intermediate="backward")
    assume(max(relaxation.unstable) <= 10)
    lp, exact = lp_reference.solve(relaxation), lp_reference.solve(relaxation, milp=True)
    assert (exact.status == "optimal").all()
    tiny = 1e-8 * np.maximum(1, np.abs(lp.value))
    assert (lp.value <= exact.value + tiny).all()
    for index, inputs in enumerate(points(problem.box, 30)):
        outputs = relaxation.network(inputs).flatten(1)
        rows = outputs @ relaxation.C[index].flatten(1).T + relaxation.d[index]
        assert (exact.value[index] <= rows.detach().numpy().min(0) + tiny[index]).all()


def test_milp_refuses_what_it_cannot_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    relaxation = random_relaxation(3, 8, 3, radius=1.0, batch=1)
    (unstable,) = relaxation.unstable
    monkeypatch.setattr(milp, "LIMIT", unstable)
    assert lp_reference.solve(relaxation, milp=True).status[0, 0] == "optimal"
    monkeypatch.setattr(milp, "LIMIT", unstable - 1)
    with pytest.raises(bounds.InvalidInputError, match=f"{unstable} unstable .* smaller radius"):
        lp_reference.solve(relaxation, milp=True)
    with pytest.raises(bounds.InvalidInputError, match=r"solver='CLARABEL'.*'HIGHS' only"):
        lp_reference.solve(relaxation, milp=True, solver="CLARABEL")


# -- failure is never a number ---------------------------------------------------------------------


def assert_no_number(solution: lp_reference.ReferenceSolution, status: str) -> None:
    assert (solution.status == status).all()
    for numbers in (solution.value, solution.dual_value, solution.x):
        assert np.isnan(numbers).all()
    for things in (solution.residuals, solution.points):
        assert (np.equal(things, None)).all()


def test_an_inaccurate_optimum_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    loose = dict.fromkeys(("reduced_tol_gap_abs", "reduced_tol_gap_rel", "reduced_tol_feas"), 1e6)
    tight = solvers.TIGHT["CLARABEL"]
    monkeypatch.setitem(solvers.TIGHT, "CLARABEL", tight | loose | {"max_iter": 5})
    relaxation = random_relaxation(4, 8, 8, 3, radius=1.0)
    assert_no_number(lp_reference.solve(relaxation, solver="CLARABEL"), "optimal_inaccurate")


@pytest.mark.parametrize("milp", [False, True])
def test_a_limit_is_no_success(monkeypatch: pytest.MonkeyPatch, milp: bool) -> None:
    limits = {"simplex_iteration_limit": 0, "mip_max_nodes": 0, "presolve": "off"}
    monkeypatch.setitem(solvers.TIGHT, "HIGHS", solvers.TIGHT["HIGHS"] | limits)
    relaxation = random_relaxation(4, 8, 8, 3, radius=1.0)
    assert_no_number(lp_reference.solve(relaxation, milp=milp), "user_limit")


def test_an_infeasible_lp_is_no_success(hand_made: bounds.Relaxation) -> None:
    """Claimed bounds -2 <= x <= 2 of an unstable neuron that no x in [5, 6] meets."""
    five = torch.full((1, 1), 5.0, dtype=torch.float64)
    elsewhere = replace(hand_made, box=bounds.Box(five, five + 1))
    for solver in ("HIGHS", "CLARABEL"):
        assert_no_number(lp_reference.solve(elsewhere, solver=solver), "infeasible")


@pytest.mark.parametrize(
    "error",
    [cp.error.SolverError("failed"), ValueError("Cannot unpack invalid solution: kUnknown")],
)
def test_a_solver_that_fails_is_no_success(
    monkeypatch: pytest.MonkeyPatch, hand_made: bounds.Relaxation, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cp.Problem, "solve", fail)
    assert_no_number(lp_reference.solve(hand_made), "solver_error")


def test_options_that_a_solver_refuses_are_not_silent(
    monkeypatch: pytest.MonkeyPatch, hand_made: bounds.Relaxation
) -> None:
    monkeypatch.setitem(solvers.TIGHT, "HIGHS", {"primal_feasibility_tolerance": 1e-11})
    with pytest.raises(ValueError, match="primal_feasibility_tolerance"):
        lp_reference.solve(hand_made)


def test_the_time_limit_is_for_all(hand_made: bounds.Relaxation) -> None:
    for solver in solvers.TIME_LIMIT.keys() & set(cp.installed_solvers()):
        assert_no_number(
            lp_reference.solve(hand_made, solver=solver, time_limit=1e-9), "user_limit"
        )
    assert (lp_reference.solve(hand_made, time_limit=60.0).status == "optimal").all()


def test_the_time_limit_reaches_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spy_on_highs(monkeypatch, "time_limit")
    relaxation = random_relaxation(3, 8, 3, batch=1)
    lp_reference.solve(relaxation, time_limit=60.0)
    assert 50 < seen[1]["time_limit"] < seen[0]["time_limit"] < 60


def test_refusals(hand_made: bounds.Relaxation) -> None:
    solve: Any = lp_reference.solve
    for message, call in {
        r"solver='SIMPLEX'.*no solver of that name.*'CLARABEL'.*'HIGHS'": lambda: solve(
            hand_made, solver="SIMPLEX"
        ),
        r"time_limit=0\b.*positive": lambda: solve(hand_made, time_limit=0),
        r"time_limit=nan.*positive": lambda: solve(hand_made, time_limit=float("nan")),
        r"solver='SCIPY', time_limit.*'HIGHS'": lambda: solve(
            hand_made, solver="SCIPY", time_limit=1.0
        ),
        r"solve got a Network, expected a Relaxation": lambda: solve(hand_made.network),
        r"assemble got a Network, expected a Relaxation": lambda: lp_reference.assemble(
            hand_made.network  # type: ignore[arg-type]
        ),
        r"assemble\(index\) got 1, expected an integer from 0 to 0": lambda: lp_reference.assemble(
            hand_made, 1
        ),
    }.items():
        with pytest.raises(bounds.InvalidInputError, match=message):
            call()


# -- options ---------------------------------------------------------------------------------------


def spy_on_highs(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[dict[str, Any]]:
    """What HiGHS itself says of its options whenever it starts."""
    seen = []

    class Spy(highspy.Highs):
        def run(self) -> Any:
            seen.append({name: self.getOptionValue(name)[1] for name in names})
            return super().run()

    monkeypatch.setattr(highspy, "Highs", Spy)
    return seen


def test_highs_gets_its_tolerances(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = solvers.TIGHT["HIGHS"] | solvers.INTEGER
    seen = spy_on_highs(monkeypatch, *expected)
    lp_reference.solve(random_relaxation(3, 8, 3, radius=1.0, batch=1), milp=True)
    assert seen == [expected, expected]


def test_clarabel_gets_its_tolerances(
    monkeypatch: pytest.MonkeyPatch, hand_made: bounds.Relaxation
) -> None:
    expected, seen, start = solvers.TIGHT["CLARABEL"], [], clarabel.DefaultSolver

    def spy(*arguments: Any) -> Any:
        seen.append({name: getattr(arguments[-1], name) for name in expected})
        return start(*arguments)

    monkeypatch.setattr(clarabel, "DefaultSolver", spy)
    lp_reference.solve(hand_made, solver="CLARABEL")
    assert seen == [expected] * len(HAND_MADE)


@pytest.mark.parametrize("solver", sorted(solvers.TIGHT.keys() & set(cp.installed_solvers())))
def test_every_solver_takes_its_options(hand_made: bounds.Relaxation, solver: str) -> None:
    for time_limit in (None, 60.0) if solver in solvers.TIME_LIMIT else (None,):
        solution = lp_reference.solve(hand_made, solver=solver, time_limit=time_limit)
        assert (solution.status == "optimal").all()
        np.testing.assert_allclose(solution.value, [HAND_MADE], rtol=0, atol=1e-7)


# -- residuals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_residuals_detect_each_violation(scale: float) -> None:
    relaxation = random_relaxation(3, 6, 6, 2, scale=scale, batch=1)
    solution = lp_reference.solve(relaxation)
    lp, point = lp_reference.assemble(relaxation), solution.points[0, 0]
    assert lp_reference.residuals(lp, 0, point) == solution.residuals[0, 0]
    assert solution.residuals[0, 0].relative.worst <= 1e-12
    outputs, z, upper_face = lp.size - 1, lp.triangles.post[0], -1
    equality, inequality = lp.row_scale

    def move(field: str, entry: int, amount: float) -> lp_reference.Residuals:
        moved = getattr(point, field).copy()
        moved[entry] += amount
        return lp_reference.residuals(lp, 0, replace(point, **{field: moved}))

    eps = 1e-4
    found = move("primal", outputs, eps * lp.scale[outputs])
    assert found.relative.equality == pytest.approx(eps)
    assert found.absolute.equality == pytest.approx(eps * lp.scale[outputs])
    assert move("primal", z, -100 * lp.scale[z]).relative.inequality >= 90
    assert move("primal", 0, 100 * lp.scale[0]).relative.box >= 90
    objective = lp.objective_scale(0)
    found = move("inequality", upper_face, -100 * objective / inequality[upper_face])
    assert found.relative.sign >= 90
    found = move("equality", 0, eps * objective / equality[0])
    assert found.relative.stationarity >= 0.9 * eps
    # A feasible dual point with all the reduced costs right, but the wrong vertex.
    corner = np.where(point.primal[:3] == lp.lower, lp.upper, lp.lower)
    wrong = node_values(relaxation.network, torch.from_numpy(corner))
    found = lp_reference.residuals(lp, 0, replace(point, primal=wrong))
    assert max(found.relative.equality, found.relative.inequality, found.relative.box) <= 1e-12
    assert found.relative.complementarity > 1e-3
    assert found.relative.gap == pytest.approx(found.absolute.gap / objective)
    assert found.absolute.gap == pytest.approx(lp.objective(0) @ wrong - solution.dual_value[0, 0])


def test_every_residual_counts_in_the_worst() -> None:
    names = lp_reference.Violations.__dataclass_fields__
    for name in names:
        fields = dict.fromkeys(names, 0.0)
        assert lp_reference.Violations(**fields | {name: 2.0}).worst == 2.0
        assert math.isnan(lp_reference.Violations(**fields | {name: math.nan}).worst)
    assert lp_reference.Violations(**dict.fromkeys(names, 0.0) | {"gap": -3.0}).worst == 3.0


def test_residuals_refuse_points_of_another_lp(hand_made: bounds.Relaxation) -> None:
    lp = lp_reference.assemble(hand_made)
    point = lp_reference.KKTPoint(np.zeros(11), np.zeros(9), np.zeros(3))
    assert lp_reference.residuals(lp, 0, point).absolute.stationarity == 1.0
    for field in ("primal", "equality", "inequality"):
        other = replace(point, **{field: np.zeros(2)})
        with pytest.raises(bounds.InvalidInputError, match=rf"{field}\) of shape \(2,\)"):
            lp_reference.residuals(lp, 0, other)
