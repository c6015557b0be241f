"""Against the referee's LPs, closed forms, and points of the sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import bounds
import lp_reference
from bounds import Audit, InvalidInputError
from tests.support.certificates import Arrays, Statement, edit
from tests.support.problems import Problem, points, problems
from tests.support.referee import random_net
from tests.support.refusals import refused


def outputs(problem: Problem, count: int = 64) -> Tensor:
    """At points of each set; (batch, count, outputs)."""
    x = points(problem.input_set, count)
    return problem.network(x.flatten(0, 1)).detach().reshape(*x.shape[:2], -1)


@given(problems())
def test_output_bounds_are_the_optima_of_both_ends(problem: Problem) -> None:
    found = bounds.output_bounds(problem.network, problem.ball)
    identity = torch.eye(found.lower.shape[1], dtype=torch.float64)
    relax = {"slope": "adaptive"}
    for sign, end in ((1.0, found.lower), (-1.0, -found.upper)):
        rows = bounds.Specification(sign * identity)
        lp = bounds.relax(problem.network, problem.ball, rows, **relax)  # type: ignore[arg-type]
        optimum = torch.from_numpy(lp_reference.solve(lp).value)
        slack = 1e-6 * lp.scale().detach().clamp(min=1e-6)
        assert ((end - optimum).abs() <= slack).all()
    y = outputs(problem)
    assert (y >= found.lower.unsqueeze(1)).all()
    assert (y <= found.upper.unsqueeze(1)).all()
    assert (found.width >= 0).all()


def test_bounds_of_rows_of_ones_own() -> None:
    network, ball = random_net(3, 6, 2, seed=1), bounds.Ball(torch.zeros(2, 3).double(), radius=0.5)
    rows = bounds.Specification(torch.tensor([[1.0, -1.0]]).double(), torch.ones(1).double())
    cheap = bounds.output_bounds(network, ball, rows, method="fixed_slope")
    tight = bounds.output_bounds(network, ball, rows)
    assert cheap.lower.shape == (2, 1)
    assert (cheap.lower <= tight.lower + 1e-9).all()
    assert (tight.upper <= cheap.upper + 1e-9).all()
    assert tight.solved.all()


@pytest.mark.parametrize("norm", [math.inf, 1, 2])
def test_the_radius_of_a_linear_answer(norm: float) -> None:
    """The distance to the plane between two classes, in the dual norm."""
    model = torch.nn.Linear(4, 2).double()
    network = bounds.from_torch(model, (4,)).detach()
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).double()
    y = network(x).argmax(1)
    w, b = model.weight[0] - model.weight[1], model.bias[0] - model.bias[1]
    dual = {math.inf: 1, 1: math.inf, 2: 2}[norm]
    distance = ((x @ w + b).abs() / torch.linalg.vector_norm(w, dual)).detach()
    method = "adaptive_slope"  # which is exact, as there is no ReLU
    found = bounds.certified_radius(network, x, y, most=9.0, norm=norm, method=method)
    assert (found.proved <= distance).all()
    assert torch.allclose(found.proved, distance.clamp(max=9.0), rtol=2e-3)
    assert (found.refuted >= distance * (1 - 1e-9)).all()
    assert (found.refuted[distance < 7] < 9).all()
    wrong = bounds.certified_radius(network, x, 1 - y, most=9.0, norm=norm, method=method)
    assert (wrong.proved == -math.inf).all()
    assert (wrong.refuted == 0).all()


def test_tighter_methods_prove_larger_radii() -> None:
    network = random_net(4, 16, 16, 3, seed=2)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).double()
    y = network(x).argmax(1)
    fast = bounds.certified_radius(network, x, y, most=2.0, method="fixed_slope")
    exact = bounds.certified_radius(network, x, y, most=2.0)
    assert (exact.proved >= fast.proved - 2e-3).all()
    assert (exact.proved > fast.proved + 1e-3).any()
    assert (exact.gap >= 0).all()


@pytest.mark.parametrize("norm", [math.inf, 1, 2])
@pytest.mark.parametrize("method", ["fixed_slope", "adaptive_slope", "optimised_slope", "exact"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_proves_a_radius_can_be_checked(
    norm: float, method: Any, dtype: torch.dtype, tmp_path: Path
) -> None:
    """At that very radius, around that very input; and nothing else is said to be proved by it."""
    network = random_net(4, 8, 8, 3, seed=2).to("cpu", dtype)
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    y = network(x).argmax(1)
    y[3] = (y[3] + 1) % 3
    found = bounds.certified_radius(
        network, x, y, most=2.0, norm=norm, lower=-2.5, upper=2.5, method=method, tolerance=0.1
    )
    assert found.certificates[3] is None
    assert found.proved[3] == -math.inf
    for i, certificate in enumerate(found.certificates[:3]):
        assert certificate is not None
        certificate.save(tmp_path / "radius")
        checked = bounds.check(tmp_path / "radius", network)
        assert checked.accepted, checked.rejections
        assert checked.verified.tolist() == [True]
        assert certificate.claim is not None
        whole = bounds.Ball(x[i : i + 1], radius=float(found.proved[i]), norm=norm, lower=-2.5)
        whole = replace(whole, upper=2.5)
        expected, stated = whole.resolve((4,)), certificate.claim.relaxation.input_set
        for field in fields(expected):
            assert torch.equal(getattr(stated, field.name), getattr(expected, field.name))

        # Of a larger radius, with the same evidence, it would not be accepted.
        def larger(_: Statement, arrays: Arrays) -> None:
            arrays["input.upper"] += 0.5
            arrays["input.lower"] -= 0.5
            if norm != math.inf:
                arrays["input.radius"] += 0.5

        assert not bounds.check(edit(tmp_path / "radius", larger), network).accepted


def test_time_cut_short_leaves_certificates_of_what_is_proved(tmp_path: Path) -> None:
    network = random_net(4, 8, 8, 3, seed=2)
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(1)).double()
    found = bounds.certified_radius(network, x, network(x).argmax(1), most=2.0, time_limit=1e-9)
    for i, certificate in enumerate(found.certificates):
        assert (certificate is None) == (found.proved[i] == -math.inf)
        if certificate is not None:
            certificate.save(tmp_path / "radius")
            assert bounds.check(tmp_path / "radius", network).verified.all()


@given(problems(), st.booleans())
def test_claims_that_hold_are_not_refuted(problem: Problem, complete: bool) -> None:
    """Ours, made a little wider, are proved; and what points of the set attain is a fact."""
    complete &= problem.norm == math.inf
    found = bounds.output_bounds(problem.network, problem.ball, method="adaptive_slope")
    shape = (len(found.lower), *problem.network.output_shape)
    margin = 1e-9 + 1e-9 * found.lower.abs().maximum(found.upper.abs())
    low, high = (found.lower - margin).reshape(shape), (found.upper + margin).reshape(shape)
    judged = bounds.audit(problem.network, problem.ball, {"output": (low, high)})
    assert judged.sound
    assert judged.count("proved") == 2 * low.numel()
    assert judged.count("open") == 0


@given(problems())
def test_claims_beyond_points_of_the_set_are_refuted(problem: Problem) -> None:
    """Or open, where no point is found; but never proved."""
    y = outputs(problem)
    shape = (len(y), *problem.network.output_shape)
    beyond = 1e-3 * (1 + y.abs().amax())
    low, high = y.amin(1) + beyond, y.amax(1) - beyond
    claims = {"output": (low.reshape(shape), high.reshape(shape))}
    judged = bounds.audit(problem.network, problem.ball, claims)
    assert judged.count("proved") == 0
    assert judged.count("refuted") + judged.count("open") == 2 * low.numel()
    for end, sign in zip(judged.ends["output"], (1.0, -1.0), strict=True):
        refuted_ = end.judgement == 2
        assert (sign * end.attained < sign * end.claimed)[refuted_].all()


def deep() -> tuple[bounds.Network, bounds.Ball]:
    """A network of two hidden layers, whose LP is far from its minimum."""
    return random_net(4, 12, 12, 1, seed=5), bounds.Ball(torch.zeros(1, 4).double(), radius=1.0)


def test_a_search_decides_what_the_lp_leaves_open() -> None:
    network, ball = deep()
    lp = bounds.output_bounds(network, ball)
    row = bounds.Specification(torch.ones(1, 1).double())
    least = bounds.minimum(network, ball, row)
    between = (lp.lower + least.lower) / 2
    claims = {"output": (between, lp.upper + 1.0)}
    quick, whole = (bounds.audit(network, ball, claims, complete=c) for c in (False, True))
    assert (quick.count("open"), quick.count("proved")) == (1, 1)
    assert (whole.count("open"), whole.count("proved")) == (0, 2)
    end, _ = whole.ends["output"]
    assert end.lp < end.claimed <= end.ours


def test_bounds_of_neurons_are_judged_by_name() -> None:
    network, ball = deep()
    own = bounds.relax(network, ball, bounds.Specification(torch.ones(1, 1).double()))
    names = [network.nodes[index].name for index in network.relus]
    claims = {
        name: (neurons.lower, neurons.upper)
        for name, neurons in zip(names, own.relu_bounds, strict=True)
    }
    judged = bounds.audit(network, ball, claims)
    assert judged.sound
    lower, upper = claims[names[1]]
    narrow = {names[1]: ((lower + upper) / 2, upper)}
    assert bounds.audit(network, ball, narrow).count("refuted") > 0


def audited(claims: dict[str, tuple[Tensor, Tensor]]) -> Audit:
    return bounds.audit(*deep(), claims)


@pytest.mark.parametrize(
    ("claims", "fragment"),
    [
        ({"nothing": (torch.zeros(1), torch.zeros(1))}, "'nothing'"),
        ({"output": (torch.zeros(2, 3), torch.zeros(1))}, "(2, 3)"),
        ({"output": (torch.tensor([math.nan]), torch.zeros(1))}, "NaN"),
    ],
)
def test_claims_that_are_none(claims: dict[str, tuple[Tensor, Tensor]], fragment: str) -> None:
    refused(lambda: audited(claims), InvalidInputError, fragment)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"most": 0.0}, "most"),
        ({"most": 1.0, "tolerance": math.nan}, "tolerance"),
        ({"most": 1.0, "norm": 3}, "norm"),
    ],
)
def test_radii_that_are_none(options: dict[str, float], fragment: str) -> None:
    network, ball = deep()
    network = random_net(4, 6, 2, seed=1)
    refused(
        lambda: bounds.certified_radius(network, ball.x, 0, **options),  # type: ignore[arg-type]
        InvalidInputError,
        fragment,
    )


def test_what_is_no_claim_or_option_is_refused() -> None:
    network, x = random_net(2, 4, 2, seed=1), torch.zeros(1, 2).double()
    box, ends = bounds.Box(x - 1, x + 1), torch.zeros(2)

    def audit(claims: Any, **options: Any) -> Audit:
        return bounds.audit(network, box, claims, **options)

    pairs: list[Any] = [ends, (ends,) * 3, (ends, None), ("a", ends), (ends, ends.cfloat())]
    pairs.append((torch.tensor([2**62 + 1, 0]), ends))  # which float64 does not have
    for pair in pairs:
        refused(lambda pair=pair: audit({"output": pair}), InvalidInputError, "claims['output']")
    refused(lambda: audit([ends]), InvalidInputError, "Mapping")
    refused(lambda: audit({}, seed=0.5), InvalidInputError, "seed=0.5")
    linear: Any = torch.nn.Linear(2, 2)
    calls: list[Callable[..., object]] = [
        lambda network=network, **options: bounds.audit(network, box, {}, **options),
        lambda network=network, **options: bounds.output_bounds(network, box, **options),
        lambda network=network, **options: bounds.certified_radius(
            network, x, 0, most=1.0, **options
        ),
    ]
    for call in calls:
        refused(lambda call=call: call(network=linear), InvalidInputError, "got a Linear")
        for limit in (0, "5"):
            refused(lambda call=call, s=limit: call(time_limit=s), InvalidInputError, "time_limit")


def test_a_search_of_claims_about_round_balls_is_refused_at_once() -> None:
    """And not only where a claim turns out to be open."""
    network = random_net(2, 4, 2, seed=1)
    ball = bounds.Ball(torch.zeros(1, 2).double(), radius=1.0, norm=1)
    nothing = {"output": (torch.full((2,), -math.inf), torch.full((2,), math.inf))}
    assert bounds.audit(network, ball, nothing).count("proved") == 4
    refused(
        lambda: bounds.audit(network, ball, nothing, complete=True),
        InvalidInputError,
        "complete=False",
    )


def test_a_radius_is_refuted_over_the_reals() -> None:
    """z = (10⁸, 10⁸ + x), of which float32 sees no more than a tie at x = 1."""
    model = torch.nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0], [1.0]]))
        model.bias.fill_(1e8)
    x = torch.ones(1, 1)
    assert int(model(x).argmax()) == 0
    found = bounds.certified_radius(bounds.from_torch(model, (1,)), x, 1, most=4.0)
    assert 0.99 < found.proved.item() <= 1.0
    assert found.proved.item() <= found.refuted.item() < 2.0
    other = bounds.certified_radius(bounds.from_torch(model, (1,)), x, 0, most=4.0)
    assert (other.proved.item(), other.refuted.item()) == (-math.inf, 0.0)


@pytest.mark.parametrize(
    ("call", "fragments"),
    [
        (lambda n, b: bounds.output_bounds(n, b.x), ("output_bounds got", "set of inputs")),
        (lambda n, b: bounds.attribute(n, None, None), ("attribute got None", "set of inputs")),
        (lambda n, b: bounds.output_bounds(n, b, "x"), ("output_bounds got 'x'", "Specification")),
        (lambda n, b: bounds.attribute(n, b, None), ("attribute got None", "Specification")),
        (lambda n, b: bounds.minimum(n, b, None), ("minimum got None", "Specification")),
        (lambda n, b: bounds.output_bounds(n, replace(b, x=b.x.half())), ("output_bounds got",)),
        (lambda n, b: bounds.attribute(n, replace(b, x=b.x.half()), None), ("attribute got",)),
        (
            lambda n, b: bounds.minimum(n, replace(b, x=b.x.half()), None),
            ("minimum got",),
        ),
        (lambda n, b: bounds.output_bounds(n, bounds.Box(b.x[:0], b.x[:0])), ("empty batch",)),
        (lambda n, b: bounds.certified_radius(n, b.x[:0], 0, most=1.0), ("empty batch",)),
        (lambda n, b: bounds.certified_radius(n, b.x[0], 0, most=1.0), ("(batch, 4)",)),
        (
            lambda n, b: bounds.certified_radius(n, b.x.half(), 0, most=1.0),
            ("certified_radius got",),
        ),
        (lambda n, b: bounds.certified_radius(n, b.x, 0, most=1.0), ("certify", "single logit")),
    ],
)
def test_refusals_name_the_call_that_was_made(call: Any, fragments: tuple[str, ...]) -> None:
    network, ball = deep()
    refused(lambda: call(network, ball), InvalidInputError, *fragments)


@pytest.mark.parametrize(
    ("end", "fragments"),
    [
        (torch.zeros(2), ("shape (2,)", "(2, 2)", "every input")),
        (torch.zeros(3, 2), ("shape (3, 2)", "(2, 2)")),
        (torch.full((2, 2), math.nan), ("NaN", "-inf and inf")),
        (torch.zeros(2, 2, dtype=torch.bool), ("torch.bool",)),
        (torch.zeros(2, 2, dtype=torch.cfloat), ("torch.complex64",)),
        (torch.full((2, 2), 2**62 + 1), ("torch.int64", "float64 does not hold")),
    ],
)
def test_what_is_wrong_with_a_claim_is_said(end: Tensor, fragments: tuple[str, ...]) -> None:
    network, x = random_net(2, 4, 2, seed=1), torch.zeros(2, 2).double()
    claims = {"output": (end, end)}
    refused(
        lambda: bounds.audit(network, bounds.Box(x - 1, x + 1), claims),
        InvalidInputError,
        "claims['output']",
        *fragments,
    )


def test_judgements_that_are_none() -> None:
    network, x = random_net(2, 4, 2, seed=1), torch.zeros(1, 2).double()
    found = bounds.audit(network, bounds.Box(x, x), {"output": (x[0] - 9, x[0] + 9)})
    no_judgement: Any = "wrong"
    refused(lambda: found.count(no_judgement), InvalidInputError, "Audit.count", "'refuted'")
    end = found.ends["output"][0]
    refused(lambda: end.count(no_judgement), InvalidInputError, "'refuted'")
