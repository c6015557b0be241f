"""`bounds.check` rejects what was edited, by its digest or else by the mathematics."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bounds
import lp_reference
from bounds import Ball, Relaxation
from bounds.sets.norm_balls import L2Ball
from bounds.solution.certificate_file import network_digest
from tests.support.certificates import Arrays, Edit, Statement, edit, reasons, save
from tests.support.layers import Conv, Dense, Flatten, Relu, Residual
from tests.support.networks import Architecture
from tests.support.problems import NORMS, Problem, points, problems, seeds
from tests.system.test_soundness import attained

CONV = Conv(2, (3, 3), (1, 1), (1, 1), (1, 1), 1)
NETWORKS = {
    "dense": Architecture((4,), (Dense(8), Relu(), Dense(8), Relu(), Dense(3)), 1),
    "residual": Architecture(
        (2, 2, 3),
        (CONV, Relu(), Residual((CONV, Relu(), CONV), ()), Relu(), Flatten(), Dense(3)),
        2,
    ),
}


def relaxation(name: str = "dense", norm: float = math.inf) -> Relaxation:
    architecture = NETWORKS[name]
    x = torch.linspace(-0.6, 0.7, 2 * math.prod(architecture.input_shape)).double()
    ball = Ball(x.reshape(2, *architecture.input_shape), radius=0.5, norm=norm, lower=-0.7)
    return bounds.relax(architecture.network(), ball, bounds.margins(0, 3))


def add(name: str, step: float, at: tuple[int, ...] = (0, 0)) -> Edit:
    """One number of a tensor moved by so much, in units of its size."""

    def change(statement: Statement, arrays: Arrays) -> None:
        arrays[name][at] += step * (1 + abs(arrays[name][at]))

    return change


def replace(name: str, value: object) -> Edit:
    return lambda statement, arrays: statement.update({name: value})


def first_unstable(step: float, end: str) -> Edit:
    """l or u of the first unstable neuron of the second ReLU moved inwards."""

    def change(statement: Statement, arrays: Arrays) -> None:
        lower, upper = arrays["relu.1.lower"], arrays["relu.1.upper"]
        at = tuple(np.argwhere((lower < 0) & (upper > 0))[0])
        arrays[f"relu.1.{end}"][at] += step * (upper[at] - lower[at])

    return change


def as_box(statement: Statement, arrays: Arrays) -> None:
    statement["input_set"] = "box"
    del arrays["input.centre"], arrays["input.radius"]


def swapped_rows(statement: Statement, arrays: Arrays) -> None:
    arrays["C"] = np.ascontiguousarray(arrays["C"][:, ::-1])


def swapped_inputs(statement: Statement, arrays: Arrays) -> None:
    for name in ("input.lower", "input.upper"):
        arrays[name] = np.ascontiguousarray(arrays[name][::-1])


def no_multipliers(statement: Statement, arrays: Arrays) -> None:
    arrays["multipliers.1"][:] = 0.0


EDITS: dict[str, tuple[float, Edit, str]] = {
    "lower": (math.inf, add("lower", 1e-9), "input 0, row 0: the lower bound is claimed as"),
    "lower of another": (math.inf, add("lower", 1e-9, (1, 1)), "input 1, row 1: the lower bound"),
    "upper": (math.inf, add("upper", -1e-9), "input 0, row 0: the upper bound is claimed as"),
    "l": (math.inf, first_unstable(1e-9, "lower"), "input 0: the lower bound of neuron"),
    "u": (math.inf, first_unstable(-1e-9, "upper"), "input 0: the upper bound of neuron"),
    "l of the first": (math.inf, add("relu.0.lower", 1e-9), "of ReLU 0 ("),
    "multipliers": (math.inf, no_multipliers, "the lower bound is claimed as"),
    "x": (math.inf, add("x", 10.0), "row 0: its point x does not lie in the input set"),
    "x of a ball": (1, add("x", 10.0), "its point x does not lie in the input set"),
    "x of a round ball": (2, add("x", 10.0), "its point x does not lie in the input set"),
    "C": (math.inf, swapped_rows, "is claimed as"),
    "d": (math.inf, add("d", -1e-6), "input 0, row 0: the lower bound is claimed as"),
    "more d": (math.inf, add("d", 1e-6), "input 0, row 0: the upper bound is claimed as"),
    "box": (math.inf, add("input.upper", 1e-6), "input 0: the "),
    "crossed box": (math.inf, add("input.upper", -10.0), "the box has its lower end above"),
    "inputs": (math.inf, swapped_inputs, "input 1: the "),
    "radius": (1, add("input.radius", 1e-3, (0,)), "input 0: the "),
    "round radius": (2, add("input.radius", 1e-3, (0,)), "input 0: the "),
    "negative radius": (2, add("input.radius", -9.0, (1,)), "input 1: its input set is empty"),
    "centre far away": (1, add("input.centre", 99.0), "no point in common"),
    "another set": (1, as_box, "bound of neuron"),
    "intermediate": (
        math.inf,
        lambda s, a: s.update(intermediate="interval", slope=None),
        "bound of neuron",
    ),
    "given": (math.inf, lambda s, a: s.update(intermediate="given", slope=None), "trust-bounds"),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("case", EDITS)
def test_an_edit_is_rejected(tmp_path: Path, name: str, case: str) -> None:
    norm, change, reason = EDITS[case]
    problem, path = relaxation(name, norm), tmp_path / "certificate"
    save(path, problem, method="pdhg" if norm == 2 else "exact")
    honest = bounds.check(path, problem.network)
    assert honest.accepted, reasons(honest)
    check = bounds.check(edit(path, change), problem.network)
    assert not check.accepted
    assert reason in reasons(check)
    unsealed = bounds.check(edit(path, change, sealed=False), problem.network)
    assert "edited or damaged since it was saved" in reasons(unsealed)
    assert unsealed.lower.shape == (0, 0)
    assert not unsealed.verified.any()


def test_l_u_that_are_proved_alone_count(tmp_path: Path) -> None:
    """An input whose l or u is rejected proves nothing; the others are what they were."""
    problem, path = relaxation(), tmp_path / "certificate"
    save(path, problem)
    honest = bounds.check(path, problem.network)
    check = bounds.check(edit(path, first_unstable(0.1, "lower")), problem.network)
    assert (check.lower[0] == -np.inf).all()
    assert (check.upper[0] == np.inf).all()
    assert (check.gap[0] == np.inf).all()
    assert not check.verified[0]
    assert (check.lower[1] == honest.lower[1]).all()
    assert [each.row for each in check.rejections] == [None]


def test_looser_claims_are_accepted(tmp_path: Path) -> None:
    problem, path = relaxation(), tmp_path / "certificate"
    save(path, problem)
    honest = bounds.check(path, problem.network)

    def nothing(statement: Statement, arrays: Arrays) -> None:
        arrays["lower"][0, 0], arrays["upper"][0, 0] = -np.inf, np.inf
        arrays["x"][0, 0] += 100.0
        arrays["lower"][1] -= 1.0

    check = bounds.check(edit(path, nothing), problem.network)
    assert check.accepted, reasons(check)
    assert check.upper[0, 0] == np.inf
    assert (check.lower == honest.lower).all()


def test_another_model_is_rejected(tmp_path: Path) -> None:
    problem, path = relaxation(), tmp_path / "certificate"
    save(path, problem)

    def changed(step: float) -> bounds.Network:
        network = problem.network.to(torch.float64, copy=True)
        weight = network.parameters[-2]
        weight.view(-1)[0] = (
            torch.nextafter(weight.view(-1)[0], torch.tensor(9.0).double())
            if step == 0
            else weight.view(-1)[0] + step
        )
        return network

    check = bounds.check(path, changed(0.0))
    assert "of another network" in reasons(check)
    forged = edit(path, replace("network", network_digest(changed(0.01))))
    check = bounds.check(forged, changed(0.01))
    assert "is claimed as" in reasons(check)


@given(problem=problems(norms=NORMS), seed=seeds)
def test_whatever_the_evidence_what_is_proved_is_true(problem: Problem, seed: int) -> None:
    relaxation, rng = problem.relax(), np.random.default_rng(seed)

    def anything(statement: Statement, arrays: Arrays) -> None:
        for name, array in arrays.items():
            if name.startswith(("multipliers", "z")):
                arrays[name] = rng.normal(size=array.shape) * rng.choice(
                    [0.0, 0.1, 1.0, 1e3, 1e307]
                )
        count = arrays["x"].shape[1]
        arrays["x"] = points(relaxation.input_set, count, seed).numpy()
        arrays["lower"][:], arrays["upper"][:] = -np.inf, np.inf

    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "certificate", relaxation, method="fixed_slope")
        check = bounds.check(edit(Path(folder) / "certificate", anything), relaxation.network)
    assert check.accepted, reasons(check)
    reference = lp_reference.solve(relaxation)
    cone = isinstance(relaxation.input_set, L2Ball)
    found = reference.status == "optimal"
    slack = (1e-5 if cone else 1e-7) * (1 + np.abs(reference.value))
    assert (check.lower <= reference.value + slack)[found].all()
    assert (check.upper >= reference.value - slack)[found].all()


@given(problem=problems(norms=NORMS), seed=seeds, share=st.sampled_from([0.5, 0.1, 1e-3]))
def test_l_u_that_are_accepted_hold(problem: Problem, seed: int, share: float) -> None:
    """One neuron's bounds narrowed: rejected, or what is proved holds for the module all the
    same."""
    relaxation, rng = problem.relax(), np.random.default_rng(seed)

    def narrow(statement: Statement, arrays: Arrays) -> None:
        arrays["lower"][:], arrays["upper"][:] = -np.inf, np.inf
        ends = [name for name in arrays if name.startswith("relu.")]
        if ends:
            relu = str(rng.choice(ends)).rsplit(".", 1)[0]
            lower, upper = arrays[f"{relu}.lower"], arrays[f"{relu}.upper"]
            at = tuple(rng.integers(0, size) for size in lower.shape)
            step = share * (upper[at] - lower[at])
            if lower[at] < 0 < upper[at]:  # which it has to stay, or the lists would be too long
                lower[at] = min(lower[at] + step, lower[at] / 2)
                upper[at] = max(upper[at] - step, upper[at] / 2)

    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "certificate", relaxation, method="adaptive_slope")
        check = bounds.check(edit(Path(folder) / "certificate", narrow), relaxation.network)
    sampled = attained(problem.model, relaxation, points(relaxation.input_set, 100)).numpy()
    assert (check.lower <= sampled + 1e-9 * (1 + np.abs(sampled))).all()
