"""Wrong things at the door of every public call: each works, or is refused in one line."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bounds
import lp_reference
from bounds import BoundsError
from tests.support.refusals import refused

#: Thrown at every argument of every call.
WRONG: dict[str, Any] = {
    "None": None,
    "text": "7",
    "true": True,
    "zero": 0,
    "minus one": -1,
    "half": 1.5,
    "nan": math.nan,
    "inf": math.inf,
    "huge": 10**400,
    "fraction": Fraction(1, 3),
    "complex": 1j,
    "numpy float": np.float32(0.1),
    "numpy int": np.int64(1),
    "array": np.zeros((2, 3), dtype=np.float32),
    "scalar array": np.array(0.1),
    "list": [0.0, 1.0],
    "dict": {},
    "object": object(),
    "class": torch.Tensor,
    "dtype": torch.float16,
    "empty": torch.zeros(0),
    "tensor": torch.zeros(2, 3),
    "double": torch.zeros(2, 3, dtype=torch.float64),
    "half tensor": torch.zeros(2, 3, dtype=torch.float16),
    "integers": torch.zeros(2, 3, dtype=torch.int64),
    "labels": torch.zeros(2, dtype=torch.int32),
    "column": torch.zeros(2, 1, dtype=torch.int64),
    "five": torch.zeros(5, 3),
    "nans": torch.full((2, 3), math.nan),
    "truths": torch.zeros(2, 3, dtype=torch.bool),
    "complexes": torch.zeros(2, 3, dtype=torch.complex64),
    "sparse": torch.eye(2, 3).to_sparse(),
    "meta": torch.zeros(2, 3, device="meta"),
    "float8": torch.zeros(2, 3).to(torch.float8_e4m3fn),
    "module": nn.Linear(3, 2),
    "other module": nn.Linear(5, 2),
    "network": bounds.from_torch(nn.Linear(3, 2), (3,)),
    "other network": bounds.from_torch(nn.Linear(4, 2), (4,)),
    "ball": bounds.Ball(torch.zeros(2, 3), radius=0.1),
    "box": bounds.Box(torch.zeros(3, 3), torch.ones(2, 3)),
    "specification": bounds.margins(0, 2),
    "other specification": bounds.margins(0, 5),
    "generator": torch.Generator(),
}
with warnings.catch_warnings(action="ignore"):  # of torch, about these kinds
    WRONG["csr"] = torch.eye(2, 3).to_sparse_csr()
    WRONG["quantised"] = torch.quantize_per_tensor(torch.zeros(2, 3), 1.0, 0, torch.quint8)


def good() -> dict[str, tuple[Callable[..., object], dict[str, Any]]]:
    """Every public call, with arguments that work."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    network = bounds.from_torch(model, (3,)).detach()
    x, y = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    ball, rows = bounds.Ball(x, radius=0.1), bounds.margins(0, 2)
    relaxation = bounds.relax(network, ball, rows)
    set_ = {"radius": 0.1, "norm": 2, "lower": -1.0, "upper": 1.0}
    iterative = {"tolerance": 0.1, "iteration_limit": 5, "time_limit": 9.0, "max_memory": 2**20}
    training = {"intermediate": "backward", "projection": None, "reduction": "mean"}

    def box(lower: Any, upper: Any) -> object:
        return bounds.relax(network, bounds.Box(lower, upper), rows)

    def ball_of(x: Any, **options: Any) -> object:
        return bounds.relax(network, bounds.Ball(x, **options), rows)

    def specification(C: Any, d: Any) -> object:
        return bounds.relax(network, ball, bounds.Specification(C, d))

    def schedule(time: Any, **fields: Any) -> object:
        return bounds.RadiusSchedule(**fields)(time)

    def robust(model: Any, *arguments: Any, **options: Any) -> object:
        return bounds.RobustLoss(model)(*arguments, **options)

    answer = bounds.cascade([model], x, radius=0.1)
    dual = SimpleNamespace(dual_net=[SimpleNamespace(zl=torch.zeros(2, 4), zu=torch.ones(2, 4))])
    given = {"model": model, "x": x, "y": y, **set_}
    return {
        "Ball": (ball_of, {"x": x, **set_}),
        "Box": (box, {"lower": x, "upper": x + 1}),
        "Specification": (specification, {"C": torch.ones(1, 2), "d": torch.zeros(1)}),
        "margins": (bounds.margins, {"label": 0, "classes": 2}),
        "relax": (
            bounds.relax,
            {
                **{"network": network, "ball": ball, "specification": rows},
                **{"intermediate": "backward", "slope": "fixed", "max_memory": 2**20},
            },
        ),
        "solve": (
            bounds.solve,
            {"relaxation": relaxation, "method": "pdhg", **iterative, "sign_only": False}
            | {"sound": True},
        ),
        "certify": (
            bounds.certify,
            {**given, "timeout": 9.0, "seed": 0, "dtype": torch.float32, "deployed": None}
            | {"proof": None},
        ),
        "robust_loss": (bounds.robust_loss, {**given, **training}),
        "RobustLoss": (robust, {"model": model, "x": x, "y": y, "radius": 0.1}),
        "cascade": (bounds.cascade, {"models": [model], "x": x, **set_}),
        "wrong": (answer.wrong, {"y": y}),
        "fgs": (bounds.fgs, given),
        "pgd": (bounds.pgd, {**given, "steps": 2, "step": 0.1, "restarts": 1, "generator": None}),
        "RadiusSchedule": (
            schedule,
            {"time": 1, "start": 0, "end": 1, "length": 5, "begin": 0},
        ),
        "deployment_margin": (
            bounds.deployment_margin,
            {"relaxation": relaxation, "dtype": torch.float32},
        ),
        "Network": (network, {"x": x}),
        "lp_reference.solve": (
            lp_reference.solve,
            {"relaxation": relaxation, "solver": None, "milp": False, "time_limit": 9.0},
        ),
        "check": (
            bounds.check,
            {"certificate": "no such file", "model": network, "precision": 64, "exact": False}
            | {"trust_bounds": False},
        ),
        "check_proof": (
            bounds.check_proof,
            {"proof": "no such file", "model": network, "vnnlib": None, "precision": 64}
            | {"exact": False},
        ),
        "certify_vnnlib": (
            bounds.certify_vnnlib,
            {"model": network, "property": "no such file", "timeout": 9.0, "seed": 0}
            | {"device": "cpu", "dtype": torch.float32, "deployed": None},
        ),
        "save": (relaxation_solved(relaxation).save, {"path": None}),
        "Claims": (
            lambda **given: bounds.audit(network, ball, bounds.Claims(**given)),
            {"ends": {"output": (x[:, :2] - 9, x[:, :2] + 9)}, "rows": rows},
        ),
        "Claims.load": (bounds.Claims.load, {"path": "no such file"}),
        "audit": (
            bounds.audit,
            {"network": network, "ball": ball, "claims": {"output": (x[:, :2] - 9, x[:, :2] + 9)}}
            | {"complete": False, "optima": True, "time_limit": 9.0, "seed": 0},
        ),
        "claims_of_auto_lirpa": (
            bounds.claims_of_auto_lirpa,
            {"network": network, "result": (x[:, :2], None), "C": torch.ones(2, 1, 2)}
            | {"model": None, "intermediate": None},
        ),
        "claims_of_convex_adversarial": (
            bounds.claims_of_convex_adversarial,
            {"network": network, "dual": dual, "rows": (torch.ones(2, 1, 2), x[:, :1])},
        ),
        "attribute": (
            bounds.attribute,
            {"network": network, "ball": ball, "rows": rows, "time_limit": 9.0, "seed": 0},
        ),
    }


def relaxation_solved(relaxation: bounds.Relaxation) -> bounds.Certificate:
    return bounds.solve(relaxation, method="fixed_slope").certificate


#: What would be done: a file of that name, and work without end.
FINE = {("path", "text"), ("proof", "text")} | {
    (name, "huge") for name in ("steps", "restarts", "iteration_limit")
}

CALLS = good()
ARGUMENTS = [(call, name) for call, (_, given) in CALLS.items() for name in given]


@pytest.mark.parametrize("call", CALLS)
def test_what_is_right_works(call: str) -> None:
    act, given = CALLS[call]
    if call not in ("check", "check_proof", "certify_vnnlib", "save", "Claims.load"):
        act(**given)


@pytest.mark.parametrize(("call", "argument"), ARGUMENTS)
def test_what_is_wrong_is_one_line(call: str, argument: str, tmp_path: Any) -> None:
    act, given = CALLS[call]
    for name, value in WRONG.items():
        if (argument, name) in FINE:
            continue
        with warnings.catch_warnings(action="ignore"):
            found = outcome(lambda value=value: act(**{**given, argument: value}))
        assert found is None or (
            isinstance(found, BoundsError) and "\n" not in str(found) and len(str(found)) < 500
        ), f"{name}: {type(found).__name__}: {found}"


def outcome(act: Callable[[], object]) -> Exception | None:
    try:
        act()
    except Exception as error:
        return error
    return None


def test_a_networks_copy_computes_the_same() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    network = bounds.from_torch(model, (3,))
    copied, x = copy.deepcopy(network), torch.rand(5, 3)
    assert torch.equal(copied(x), network(x))
    assert all(a is not b for a, b in zip(copied.parameters, network.parameters, strict=True))


def test_another_default_dtype() -> None:
    """What is computed is in the dtype of the inputs, whatever torch's default is."""
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(2, 3)
    torch.set_default_dtype(torch.float64)
    try:
        for norm in (1, 2, math.inf):
            options: dict[str, Any] = {"radius": 0.1, "norm": norm, "lower": 0.0, "upper": 1.0}
            assert bounds.pgd(model, x, 0, **options, steps=2).dtype == torch.float32
            assert bounds.fgs(model, x, 0, **options).dtype == torch.float32
            bounds.robust_loss(model, x, 0, **options)
            assert len(bounds.certify(model, x, 0, **options, dtype=torch.float32).verdicts) == 2
            ball = bounds.Ball(x, **options)
            relaxation = bounds.relax(bounds.from_torch(model, (3,)), ball, bounds.margins(0, 2))
            for method in ("fixed_slope", "optimised_slope", "exact"):
                found = bounds.solve(relaxation, method=method)  # type: ignore[arg-type]
                assert found.lower.dtype == (torch.float64 if method == "exact" else x.dtype)
    finally:
        torch.set_default_dtype(torch.float32)


def test_each_error_names_what_arrived_and_what_to_do() -> None:
    model, x = nn.Linear(3, 2), torch.zeros(2, 3)
    network, ball, rows = (
        bounds.from_torch(model, (3,)),
        bounds.Ball(x, radius=0.1),
        bounds.margins(0, 2),
    )
    relaxation = bounds.relax(network, ball, rows)
    error = bounds.InvalidInputError
    wrong: Any = model
    refused(lambda: bounds.relax(wrong, ball, rows), error, "relax got a Linear", "from_torch")
    wrong = x
    refused(
        lambda: bounds.relax(network, wrong, rows), error, "a tensor of torch.float32", "Ball(x"
    )
    wrong = "5"
    refused(
        lambda: bounds.solve(relaxation, time_limit=wrong), error, "time_limit='5'", "in seconds"
    )
    refused(
        lambda: bounds.solve(relaxation, iteration_limit=1.5),  # type: ignore[arg-type]
        *(error, "iteration_limit=1.5", "whole number"),
    )
    refused(lambda: bounds.solve(relaxation, max_memory=math.inf), error, "inf", "bytes")  # type: ignore[arg-type]
    refused(lambda: network(x.double()), error, "float32", "float64", ".to(")
