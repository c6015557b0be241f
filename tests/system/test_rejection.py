"""Input sets, specifications and options that are refused, with what arrived and the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bounds
from bounds import (
    Ball,
    InvalidInputError,
    Relaxation,
    ReluBounds,
    Specification,
    UnsupportedLayerError,
    margins,
)
from tests.support.refusals import Thunk, refused

X = torch.zeros(2, 3)
NETWORK = bounds.from_torch(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)), (3,))
SPECIFICATION = margins(label=0, classes=3)

# -- input sets


def bad(name: str) -> Tensor:
    x = X.clone()
    x[1, 2] = {"nan": math.nan, "inf": math.inf}[name]
    return x


BALLS: dict[str, tuple[Callable[[], Ball], list[str]]] = {
    "list": (lambda: Ball([0.0], radius=1.0), ["type list", "torch.as_tensor(x)"]),  # type: ignore[arg-type]
    "integers": (lambda: Ball(X.long(), radius=1.0), ["type torch.int64", "x.float()"]),
    "NaN x": (lambda: Ball(bad("nan"), radius=1.0), ["Ball(x)", "NaN or infinite", "remove"]),
    "infinite x": (lambda: Ball(bad("inf"), radius=1.0), ["Ball(x)", "NaN or infinite"]),
    "NaN radius": (lambda: Ball(X, radius=math.nan), ["Ball(radius)", "NaN or infinite"]),
    "infinite radius": (lambda: Ball(X, radius=math.inf), ["Ball(radius)", "NaN or infinite"]),
    "NaN in radii": (lambda: Ball(X, radius=bad("nan")), ["Ball(radius)", "NaN or infinite"]),
    "NaN lower": (lambda: Ball(X, radius=1.0, lower=math.nan), ["Ball(lower)", "NaN or infinite"]),
    "NaN upper": (lambda: Ball(X, radius=1.0, upper=bad("nan")), ["Ball(upper)", "NaN"]),
    "negative radius": (lambda: Ball(X, radius=-0.5), ["got -0.5", "at least 0"]),
    "a negative radius": (
        lambda: Ball(X, radius=torch.tensor([1.0, -2.0])),
        ["got -2.0", "at least 0"],
    ),
    "text radius": (
        lambda: Ball(X, radius="0.1"),  # type: ignore[arg-type]
        ["Ball(radius) got a str", "a number or a tensor"],
    ),
    "boolean radius": (lambda: Ball(X, radius=True), ["Ball(radius) got a bool", "a number"]),
    "empty radius": (lambda: Ball(X, radius=torch.zeros(0)), ["Ball(radius)", "real numbers"]),
    "complex radius": (lambda: Ball(X, radius=torch.tensor(1j)), ["Ball(radius)", "real numbers"]),
    "l3": (lambda: Ball(X, radius=1.0, norm=3), ["norm=3", "use 1, 2 or norm=float('inf')"]),
    "NaN norm": (lambda: Ball(X, radius=1.0, norm=math.nan), ["norm=nan", "norm=float('inf')"]),
    "boolean norm": (lambda: Ball(X, radius=1.0, norm=True), ["norm=True", "use 1, 2 or norm"]),
    "text norm": (
        lambda: Ball(X, radius=1.0, norm="2"),  # type: ignore[arg-type]
        ["norm='2'", "use 1, 2 or norm"],
    ),
}


@pytest.mark.parametrize("name", BALLS)
def test_ball(name: str) -> None:
    act, fragments = BALLS[name]
    refused(act, InvalidInputError, *fragments)


RESOLVED: dict[str, tuple[Ball, list[str]]] = {
    "shape": (Ball(torch.zeros(2, 4), radius=1.0), ["(2, 4)", "expected (3,)", "reshape x"]),
    "axes": (Ball(torch.zeros(1, 2, 3), radius=1.0), ["(1, 2, 3)", "expected (3,)", "reshape x"]),
    "empty batch": (Ball(torch.zeros(0, 3), radius=1.0), ["(0, 3)", "empty batch", "at least one"]),
    "box above": (
        Ball(X, radius=0.1, lower=0.5),
        ["input 0", "no point in common", "check that x"],
    ),
    "box below": (Ball(X, radius=0.1, upper=-0.5), ["input 0", "no point in common", "check that"]),
    "box the wrong way round": (
        Ball(X, radius=1.0, lower=0.5, upper=-0.5),
        ["input 0", "no point in common", "lower ≤ upper"],
    ),
    "box off one input": (
        Ball(torch.tensor([[0.0] * 3, [0.0, 9.0, 0.0]]), radius=1.0, lower=0.0, upper=1.0),
        ["input 1", "no point in common"],
    ),
    "shape of radius": (
        Ball(X, radius=torch.ones(4)),
        ["Ball(radius) has shape (4,)", "a number, (2,)", "broadcasts to (2, 3)"],
    ),
    "axes of radius": (Ball(X, radius=torch.ones(1, 2, 3)), ["Ball(radius) has shape (1, 2, 3)"]),
    "shape of lower": (Ball(X, radius=1.0, lower=-torch.ones(4)), ["Ball(lower) has shape (4,)"]),
    "ambiguous radius": (
        Ball(torch.zeros(3, 3), radius=torch.ones(3)),
        ["Ball(radius) of shape (3,)", "one number an input or one a coordinate", "(3, 1)"],
    ),
    "l1 and a radius a coordinate": (
        Ball(X, radius=torch.ones(2, 3), norm=1),
        ["Ball(radius) has shape (2, 3)", "a number or (2,)", "norm=1", "for norm=float('inf')"],
    ),
    "l2 and radii of other inputs": (
        Ball(X, radius=torch.ones(3), norm=2),
        ["Ball(radius) has shape (3,)", "a number or (2,)", "norm=2"],
    ),
    "l2 ball beside the corner of its box": (
        Ball(torch.tensor([[0.0] * 3, [2.0] * 3]), radius=1.7, norm=2, upper=1.0),
        ["input 1", "no point in common", "check that x"],
    ),
    "l1 ball beside the corner of its box": (
        Ball(torch.tensor([[0.0] * 3, [2.0] * 3]), radius=2.9, norm=1, upper=1.0),
        ["input 1", "no point in common", "check that x"],
    ),
    "ambiguous upper": (
        Ball(torch.zeros(3, 3), radius=1.0, upper=torch.ones(3)),
        ["Ball(upper) of shape (3,)", "one number an input or one a coordinate", "(3, 1)"],
    ),
}


@pytest.mark.parametrize("name", RESOLVED)
def test_resolved_ball(name: str) -> None:
    ball, fragments = RESOLVED[name]
    refused(
        lambda: bounds.relax(NETWORK, ball, SPECIFICATION),
        InvalidInputError,
        *fragments,
    )


# -- specifications

C = torch.ones(2, 3)
SPECIFICATIONS: dict[str, tuple[Thunk, list[str]]] = {
    "label too large": (lambda: margins(label=3, classes=3), ["has 3,", "0 … 2", "3 classes"]),
    "negative label": (lambda: margins(label=-1, classes=3), ["-1", "0 … 2", "3 classes"]),
    "one label too large": (
        lambda: margins(label=torch.tensor([0, 7]), classes=3),
        ["7", "0 … 2", "3 classes"],
    ),
    "float label": (
        lambda: margins(label=1.0, classes=3),  # type: ignore[arg-type]
        ["torch.float32", "expected integers"],
    ),
    "float labels": (
        lambda: margins(label=torch.zeros(2), classes=3),
        ["torch.float32", "expected integers"],
    ),
    "boolean label": (lambda: margins(label=True, classes=3), ["torch.bool", "integers"]),
    "labels of two axes": (
        lambda: margins(label=torch.zeros(2, 2, dtype=torch.long), classes=3),
        ["(2, 2)", "a number or (batch,)"],
    ),
    "no label": (lambda: margins(label=torch.zeros(0).long(), classes=3), ["(0,)", "(batch,)"]),
    "one class": (lambda: margins(label=0, classes=1), ["classes=1", "whole number from 2"]),
    "integers": (
        lambda: Specification(C.long()),
        ["type torch.int64", "floating-point", "C.double()"],
    ),
    "list": (lambda: Specification([[1.0]]), ["type list", "torch.as_tensor(C)"]),  # type: ignore[arg-type]
    "NaN rows": (lambda: Specification(C * math.nan), ["Specification(C)", "NaN or infinite"]),
    "infinite d": (
        lambda: Specification(C, torch.full((2,), math.inf)),
        ["Specification(d)", "NaN or infinite"],
    ),
    "one axis": (lambda: Specification(torch.ones(3)), ["shape (3,)", "(rows, outputs)"]),
    "no rows": (lambda: Specification(torch.ones(0, 3)), ["shape (0, 3)", "none of them 0"]),
    "shape of d": (
        lambda: Specification(C, torch.ones(3)),
        ["Specification(d) has shape (3,)", "expected (2,)", "one number a row"],
    ),
    "columns": (
        lambda: bounds.relax(NETWORK, Ball(X, radius=1.0), Specification(torch.ones(2, 4))),
        ["4 columns", "3 outputs"],
    ),
    "margins of other classes": (
        lambda: bounds.relax(NETWORK, Ball(X, radius=1.0), margins(label=0, classes=10)),
        ["10 columns", "3 outputs"],
    ),
    "batch": (
        lambda: bounds.relax(NETWORK, Ball(X, radius=1.0), Specification(torch.ones(5, 1, 3))),
        ["5 inputs", "the ball has 2"],
    ),
}


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_specification(name: str) -> None:
    act, fragments = SPECIFICATIONS[name]
    refused(act, InvalidInputError, *fragments)


# -- relaxations and methods


def relaxed(**options: Any) -> Relaxation:
    return bounds.relax(NETWORK, Ball(X, radius=0.5), SPECIFICATION, **options)


def given(**changes: Any) -> Thunk:
    """The relaxation with fields of its own in place of computed ones."""
    good = relaxed()
    fields = {
        name: getattr(good, name) for name in ("network", "input_set", "C", "d", "relu_bounds")
    }
    return lambda: Relaxation(**{**fields, **changes})


def relu_bounds(lower: float, upper: float, *shape: int) -> tuple[ReluBounds, ...]:
    return (ReluBounds(torch.full(shape, lower), torch.full(shape, upper)),)


RELAXATIONS: dict[str, tuple[Thunk, list[str]]] = {
    "intermediate": (
        lambda: relaxed(intermediate="best"),
        ["intermediate='best'", "'interval'", "'backward'"],
    ),
    "slope": (lambda: relaxed(slope="wavy"), ["slope='wavy'", "'fixed'", "'adaptive'"]),
    "dtype": (
        lambda: bounds.relax(NETWORK, Ball(X.double(), radius=1.0), SPECIFICATION),
        ["network in torch.float32", "inputs in torch.float64", "convert one with .to"],
    ),
    "bounds crossed": (
        given(relu_bounds=relu_bounds(1.0, -1.0, 2, 4)),
        ["bounds of ReLU '1'", "l > u", "the wrong way round"],
    ),
    "NaN bounds": (given(relu_bounds=relu_bounds(math.nan, 1.0, 2, 4)), ["ReLU '1'", "NaN"]),
    "infinite bounds": (
        given(relu_bounds=relu_bounds(-math.inf, 1.0, 2, 4)),
        ["lower bounds of '1'", "NaN or infinite", "use float64"],
    ),
    "shape of bounds": (
        given(relu_bounds=relu_bounds(-1.0, 1.0, 2, 5)),
        ["lower bounds of '1'", "(2, 5)", "expected (2, 4)"],
    ),
    "number of bounds": (given(relu_bounds=()), ["bounds for 0 ReLUs", "has 1"]),
    "shape of d": (given(d=torch.zeros(2, 5)), ["d of shape (2, 5)", "expected (2, 2)"]),
    "NaN row": (given(C=torch.full((2, 2, 3), math.nan)), ["C has NaN", "use float64"]),
}


@pytest.mark.parametrize("name", RELAXATIONS)
def test_relaxation(name: str) -> None:
    act, fragments = RELAXATIONS[name]
    refused(act, InvalidInputError, *fragments)


@pytest.mark.parametrize("intermediate", ["interval", "backward"])
def test_overflow(intermediate: str) -> None:
    """Finite weights whose products are not."""
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1e30)
    network = bounds.from_torch(model, (3,))
    how: Any = {"intermediate": intermediate}
    refused(
        lambda: bounds.relax(network, Ball(X + 1, radius=1.0), SPECIFICATION, **how),
        InvalidInputError,
        "torch.float32",
        "overflow",
    )


SOLVES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "method": ({"method": "magic"}, ["method='magic'", "'exact'", "'fixed_slope'"]),
    "tolerance of 0": ({"tolerance": 0.0}, ["tolerance=0.0", "(0, 1)"]),
    "tolerance of 1": ({"tolerance": 1.0}, ["tolerance=1.0", "(0, 1)"]),
    "negative tolerance": ({"tolerance": -1e-9}, ["tolerance=-1e-09", "(0, 1)"]),
    "NaN tolerance": ({"tolerance": math.nan}, ["tolerance=nan", "(0, 1)"]),
    "no iterations": ({"iteration_limit": 0}, ["iteration_limit=0", "at least 1"]),
    "no time": ({"time_limit": 0.0}, ["time_limit=0.0", "a positive time in seconds"]),
    "NaN time": ({"time_limit": math.nan}, ["time_limit=nan", "a positive time"]),
    **{
        f"{option} of {method}": (
            {"method": method, option: value},
            [f"method='{method}'", f"{option}={value}", "leave it out"],
        )
        for method in ("fixed_slope", "adaptive_slope")
        for option, value in (
            ("tolerance", 0.1),
            ("iteration_limit", 5),
            ("time_limit", 1.0),
            ("sign_only", True),
        )
    },
}


@pytest.mark.parametrize("name", SOLVES)
def test_solve(name: str) -> None:
    options, fragments = SOLVES[name]
    refused(lambda: bounds.solve(relaxed(), **options), InvalidInputError, *fragments)


@pytest.mark.parametrize("method", ["interior_point", "simplex"])
def test_balls_that_are_no_polyhedra_are_refused(method: Any) -> None:
    relaxation = bounds.relax(NETWORK, Ball(X, radius=0.5, norm=2), SPECIFICATION)
    refused(
        lambda: bounds.solve(relaxation, method=method),
        InvalidInputError,
        *(f"method={method!r}", "L2Ball", "method='pdhg'"),
    )


def test_solve_of_something_else() -> None:
    other: Any = NETWORK
    fragments = "got a Network", "expected a Relaxation", "bounds.relax(net, ball, spec)"
    refused(lambda: bounds.solve(other), InvalidInputError, *fragments)


def test_unknown_option() -> None:
    with pytest.raises(TypeError, match="tolerence"):
        bounds.solve(relaxed(), tolerence=1e-3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="intermediates"):
        relaxed(intermediates="backward")


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        bounds.solve(relaxed(), "exact")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        Ball(X, 0.1)  # type: ignore[call-arg]


def test_every_error_is_the_packages_own() -> None:
    for error in (InvalidInputError, UnsupportedLayerError):
        assert issubclass(error, bounds.BoundsError)
    assert issubclass(InvalidInputError, ValueError)
