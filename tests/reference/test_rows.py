"""The referee's rows: matrices, names, and whom they hold for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import bounds
import lp_reference
from bounds.network.affine import Affine, Linear, Reshape, Scale, Shape, Transposed, transposed
from bounds.network.convolution import Convolution, convolution_output_shape
from bounds.network.graph import AffineNode, Network, Node
from bounds.network.indexing import Select
from bounds.sets.norm_balls import L1Ball, L2Ball, NormBall
from lp_reference.matrices import affine_matrix
from tests.support.networks import Dice
from tests.support.problems import NORMS, Problem, points, problems
from tests.support.referee import hand_made_relaxation, node_values


@pytest.fixture
def hand_made() -> bounds.Relaxation:
    return hand_made_relaxation()


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
    "select": Select((2, 3), (2, 2), torch.tensor([[5, 0], [3, 3]])),
    "padding with a number": transposed(
        Select((2, 4), (2, 2), torch.tensor([[1, 2], [5, 6]])), Dice(1).normal(2, 4)
    ),
    "sum of repeats": transposed(Select((3,), (2, 2), torch.tensor([[2, 0], [2, 2]]))),
    "transposed conv2d, everything": transposed(
        convolution((6, 8, 7), 9, (3, 2), (2, 3), (2, 1), (2, 1), 3), Dice(2).normal(6, 1, 1)
    ),
    "transposed linear, whose bias plays no part": transposed(
        Linear((2, 5), (2, 3), Dice(0).normal(3, 5), Dice(1).normal(3))
    ),
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


@settings(max_examples=max(1, settings.default.max_examples // 2))
@given(problems(norms=NORMS))
def test_the_network_itself_is_feasible(problem: Problem) -> None:
    """And there is one equation for every variable but the inputs and the unstable neurons."""
    relaxation = problem.relax(intermediate="interval")
    for index, inputs in enumerate(points(problem.input_set, 4)):
        lp = lp_reference.assemble(relaxation, index)
        assert len(lp.equality_rhs) == lp.size - len(lp.lower) - relaxation.unstable[index]
        assert len(lp.inequality_rhs) == 3 * relaxation.unstable[index]
        equality, inequality = lp.row_scale
        for x in inputs:
            v = node_values(relaxation.network, x)
            assert (lp.lower <= v[: len(lp.lower)]).all()
            assert (v[: len(lp.upper)] <= lp.upper).all()
            assert lp.ball is None or lp.ball.excess(v[: len(lp.upper)]) <= 1e-14
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
    network = bounds.from_torch(nn.Sequential(layer, nn.ReLU(), layer), (2,))
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

    network = bounds.from_torch(nn.Sequential(Twice()), (2,), dtype=torch.float64)
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
    def within_ball(norm: int) -> bounds.Relaxation:
        x = torch.zeros(1, 1).double()
        ball = bounds.Ball(x, radius=1.0, norm=norm).resolve((1,))
        return replace(hand_made, input_set=ball)

    relaxations = [hand_made, within_ball(1), within_ball(2)]

    def called(*_: object) -> None:
        raise AssertionError("lp_reference called the code that it is there to check")

    for operation in (Affine, Linear, Convolution, Scale, Reshape, Select, Transposed):
        for name in ("forward", "linear", "adjoint", "absolute"):
            monkeypatch.setattr(operation, name, called)
    for name in ("__call__", "evaluate", "backward"):
        monkeypatch.setattr(Network, name, called)
    for name in ("minimum", "argmin", "project", "contains"):
        monkeypatch.setattr(bounds.Box, name, called)
    for kind in (NormBall, L1Ball, L2Ball):
        for name, member in list(vars(kind).items()):
            if not name.startswith("__") and (callable(member) or isinstance(member, property)):
                monkeypatch.setattr(kind, name, property(called))
    for name in ("minimum", "face", "slope"):
        monkeypatch.setattr(bounds.ReluBounds, name, property(called))
    for affine in OPERATIONS.values():
        affine_matrix(affine)
    for relaxation in relaxations:
        assert lp_reference.solve(relaxation).value[0, 1] == pytest.approx(-1.5)
