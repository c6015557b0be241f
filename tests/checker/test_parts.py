"""The parts of the checker: its matrices, its support functions, its points, its rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import bounds
from bounds.checker.arithmetic import (
    ball_precision,
    balls,
    larger,
    midpoints,
    proved_above,
    proved_below,
    rationals,
    smaller,
)
from bounds.checker.evidence import InputSet, Rejected
from bounds.checker.graph import Graph, plain
from bounds.checker.input_sets import contains, minimum, require_points
from bounds.checker.operations import bias, matrix
from bounds.network.affine import Affine
from bounds.network.graph import InputNode, Network, Node
from tests.network.test_affine import KINDS, dense, every_kind
from tests.sets.test_norm_balls import Drawn, drawn, magnitude
from tests.support.networks import Architecture, Dice, architectures, seeds
from tests.support.refusals import refused


def close(found: np.ndarray, expected: Tensor) -> None:
    np.testing.assert_allclose(midpoints(found), expected.numpy(), rtol=1e-12, atol=1e-12)


@every_kind
@given(data=st.data())
def test_matrices_are_those_of_the_operations(kind: str, data: st.DataObject) -> None:
    operation = data.draw(KINDS[kind])
    W, dice = dense(operation), Dice(data.draw(seeds))
    outputs, inputs = W.shape
    x, y = dice.normal(3, inputs), dice.normal(2, outputs)
    made = matrix(operation, balls())
    close(made.forward(balls().numbers(x.numpy())), x @ W.mT)
    close(made.backward(balls().numbers(y.numpy())), y @ W)
    absolute = matrix(operation, balls(), np.abs)
    close(absolute.forward(balls().numbers(x.numpy())), x @ W.abs().mT)
    at_zero = operation.forward(torch.zeros(1, *operation.input_shape, dtype=W.dtype)).flatten()
    assert (bias(operation) == at_zero.numpy()).all()


@given(architecture=architectures(), seed=seeds)
def test_both_walks_are_those_of_the_network(architecture: Architecture, seed: int) -> None:
    """Forward with ReLUs, and backward with the same ReLUs as gates: the same value."""
    network, dice = architecture.network(), Dice(seed)
    x = dice.normal(2, *network.input_shape)
    graph = Graph(network, balls())
    gates = []

    def relu(k: int, pre: np.ndarray) -> np.ndarray:
        gates.append(midpoints(pre)[0] > 0)
        return larger(pre, balls().zeros())

    flat = balls().numbers(x.flatten(1).numpy())
    expected = network(x).flatten(1)
    scale = float(expected.abs().max()) + 1
    output = graph.forward(flat[:1], plain, relu)
    np.testing.assert_allclose(midpoints(output), expected[:1].numpy(), atol=1e-10 * scale)
    ones = balls().numbers(np.ones((1, output.shape[1])))
    constant, at_input = graph.backward(
        len(graph.nodes) - 1, ones, lambda k, c: np.where(gates[k], c, balls().zeros())
    )
    value = float((constant + (at_input * flat[:1]).sum(1))[0])
    assert value == pytest.approx(float(expected[0].sum()), abs=1e-10 * scale)


@given(drawn())
def test_the_support_function_of_balls_within_boxes(case: Drawn) -> None:
    ball, c = case.ball(), case.rows()
    expected = ball.minimum(c)
    slack = 1e-10 * (magnitude(ball, c) + c.abs().flatten(2).amax(2) * ball.radius.unsqueeze(1))
    for index in range(3):
        points = InputSet(
            f"l{case.norm}",
            *(end[index].flatten().numpy() for end in (ball.lower, ball.upper, ball.centre)),
            float(ball.radius[index]),
        )
        with ball_precision(128):
            found = minimum(balls(), points, balls().numbers(c[index].flatten(1).numpy()))
        least = np.array([proved_below(value) for value in found])
        assert (np.abs(least - expected[index].numpy()) <= slack[index].numpy() + 1e-300).all()


def test_the_support_function_of_a_box() -> None:
    points = InputSet("box", np.array([-1.0, 0.5]), np.array([2.0, 0.5]), np.zeros(2), 0.0)
    c = balls().numbers(np.array([[1.0, 2.0], [-3.0, -1.0], [0.0, 0.0]]))
    assert [float(value) for value in minimum(balls(), points, c)] == [0.0, -6.5, 0.0]


def test_points_lie_in_a_set_exactly_or_not_at_all() -> None:
    lower, upper, centre = np.full(2, -1.0), np.full(2, 1.0), np.array([0.1, 0.0])
    third = math.nextafter(0.1 + 0.2, 1.0)
    cases = [
        ("box", 0.0, [1.0, -1.0], True),
        ("box", 0.0, [math.nextafter(1.0, 2.0), 0.0], False),
        ("l1", 0.25, [0.1, 0.25], True),
        ("l1", 0.25, [0.1, math.nextafter(0.25, 1.0)], False),
        ("l1", 0.25, [0.1 + 2**-56, 0.25], False),
        ("l2", 0.25, [0.1, -0.25], True),
        ("l2", 0.25, [0.1 + 2**-56, 0.25], False),
        ("l2", 9.0, [1.0, third], True),
        ("l2", 9.0, [1.0, -1.5], False),
    ]
    for kind, radius, x, inside in cases:
        points = InputSet(kind, lower, upper, centre, radius)
        assert contains(points, np.array(x)) == inside, (kind, x)


def test_empty_sets_are_rejected() -> None:
    one, zero = np.ones(2), np.zeros(2)
    for points, reason in (
        (InputSet("box", one, zero, zero, 0.0), "lower end above"),
        (InputSet("l1", zero, one, zero, -1.0), "radius is -1.0"),
        (InputSet("l1", one, one, zero, 1.9), "no point in common"),
        (InputSet("l2", one, one, zero, 1.4), "no point in common"),
    ):
        with pytest.raises(Rejected, match=reason):
            require_points(points)
    require_points(InputSet("l1", one, one, zero, 2.0))
    require_points(InputSet("l2", one, one, zero, 1.5))


def test_the_smaller_of_overlapping_balls_holds_both_choices() -> None:
    first = np.array([arb(0, 1), arb(3), arb("nan")], dtype=object)
    second = np.array([arb(0.5, 1), arb(2), arb(0)], dtype=object)
    low, high = smaller(first, second), larger(first, second)
    assert low[0].contains(arb(-1))
    assert low[0].contains(arb(1))
    assert high[0].contains(arb(1.5))
    assert (low[1], high[1]) == (2, 3)
    assert low[2].is_nan()
    assert high[2].is_nan()


@given(numerator=st.integers(-(10**40), 10**40), denominator=st.integers(1, 10**40))
def test_bounds_are_rounded_outwards_and_no_further(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    with ball_precision(128):
        ball = arb(numerator) / arb(denominator)
        below, above = proved_below(ball), proved_above(ball)
    assert Fraction(below) <= exact <= Fraction(above)
    assert above <= math.nextafter(math.nextafter(below, math.inf), math.inf)


def test_what_has_no_end_has_no_bound() -> None:
    for ball in (arb("nan"), arb("inf"), arb("-inf"), arb(0, "inf"), arb("1e400")):
        assert proved_below(ball) == -math.inf
        assert proved_above(-ball) == math.inf
    assert proved_below(arb("-1e-400")) < 0 < proved_above(arb("1e-400"))


def test_rationals_are_the_float64_exactly() -> None:
    [tenth] = rationals().numbers(np.array([0.1]))
    assert Fraction(int(tenth.p), int(tenth.q)) == Fraction(0.1)


class Unknown(Affine):
    """An operation that nobody has heard of."""

    offset = None
    linear = adjoint = absolute = convert = fan_in = fan_out = None  # type: ignore[assignment]


def test_what_the_checker_does_not_know_is_refused_by_name() -> None:
    refused(
        lambda: matrix(Unknown((2,), (2,)), balls()),
        bounds.UnsupportedLayerError,
        "Unknown",
        "bounds/checker/operations.py",
    )
    nodes = (InputNode("x", (2,), ()), Node("mystery", (2,), (0,)))
    refused(
        lambda: Graph(Network(nodes), balls()),
        bounds.UnsupportedLayerError,
        "Node in 'mystery'",
        "bounds/checker/graph.py",
    )


@dataclass
class _Blocked:
    """An import system without python-flint."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.split(".")[0] == "flint":
            raise ImportError(name)


def test_without_python_flint_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "flint"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Blocked(), *sys.meta_path])
    refused(
        lambda: bounds.check("file", "model"),
        bounds.BoundsError,
        "python-flint",
        "pip install relu-bounds[check]",
    )
