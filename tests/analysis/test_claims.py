"""Claims: files of them, what other tools return, and the LPs of their own l and u.

auto_LiRPA and convex_adversarial are stood in for by objects that hold what theirs do; where they
are installed, they are asked themselves.
"""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bounds
import lp_reference
from bounds import Claims, InvalidInputError, claims_of_auto_lirpa, claims_of_convex_adversarial
from tests.support.referee import random_net
from tests.support.refusals import refused


def problem() -> tuple[bounds.Network, bounds.Ball, bounds.Specification]:
    """Two inputs of a network of two hidden layers, and their margins."""
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(3)).double()
    return random_net(3, 8, 8, 3, seed=4), bounds.Ball(x, radius=0.4), bounds.margins(0, 3)


def by_name(relaxation: bounds.Relaxation) -> dict[str, tuple[Tensor, Tensor]]:
    """Its l and u, as claims."""
    layers = zip(relaxation.layers, relaxation.relu_bounds, strict=True)
    return {layer.name: (neurons.lower, neurons.upper) for layer, neurons in layers}


def test_the_lp_of_claimed_l_and_u_is_the_referees() -> None:
    """Of claims about rows, beside claims about ReLUs that are looser than our own."""
    network, ball, rows = problem()
    loose = bounds.relax(network, ball, rows, intermediate="interval")
    claimed = bounds.solve(loose, method="fixed_slope").lower
    claims = Claims({**by_name(loose), "rows": (claimed, torch.full_like(claimed, math.inf))}, rows)
    found = bounds.audit(network, ball, claims)
    lower, upper = found.ends["rows"]
    optimum = torch.from_numpy(lp_reference.solve(loose).value)
    torch.testing.assert_close(lower.lp, optimum, rtol=0, atol=1e-7)
    assert (lower.ours > lower.claimed).all()
    assert found.count("refuted") == found.count("open") == 0
    assert upper.lp.isnan().all()
    own = bounds.audit(network, ball, Claims({"rows": claims.ends["rows"]}, rows)).ends["rows"][0]
    tight = bounds.relax(network, ball, rows, slope="adaptive")
    optimum = torch.from_numpy(lp_reference.solve(tight).value)
    torch.testing.assert_close(own.lp, optimum, rtol=0, atol=1e-7)
    assert (own.lp > lower.lp + 1e-3).all()
    quick = bounds.audit(network, ball, Claims({"rows": claims.ends["rows"]}, rows), optima=False)
    assert quick.ends["rows"][0].lp.isnan().all()


def test_neurons_of_which_nothing_is_claimed_have_our_l_and_u() -> None:
    """Infinite ends, and ends the wrong way round, are no interval."""
    network, ball, rows = problem()
    own = bounds.relax(network, ball, rows, slope="adaptive")
    claims = by_name(own)
    name = own.layers[0].name
    lower, upper = (end.clone() for end in claims[name])
    lower[:, 0], upper[:, 1] = -math.inf, lower[:, 1] - 1
    rows_ends = torch.full((2, 2), -9.0).double(), torch.full((2, 2), math.inf).double()
    given = {name: (lower, upper), "rows": rows_ends}
    found = bounds.audit(network, ball, Claims(given, rows))
    optimum = torch.from_numpy(lp_reference.solve(own).value)
    torch.testing.assert_close(found.ends["rows"][0].lp, optimum, rtol=0, atol=1e-6)
    assert found.ends[name][1].judgement[:, 1].tolist() == [2, 2]


def test_a_refuting_point_is_in_the_set_exactly_and_goes_beyond() -> None:
    """0.3 + 0.2 is rounded, so that the corners of the box lie outside of the ball."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
    network = bounds.from_torch(model, (2,)).detach()
    ball = bounds.Ball(torch.tensor([[0.1, 0.3]]).double(), radius=0.2)
    high = torch.tensor([[0.25, 0.45]]).double()
    found = bounds.audit(network, ball, {"output": (torch.full((1, 2), -math.inf), high)})
    _, upper = found.ends["output"]
    assert upper.judgement.tolist() == [[2, 2]]
    for value in range(2):
        point = upper.points[0, value]
        assert ball.holds(point)
        assert model(point)[value] > high[0, value]
        assert upper.attained[0, value] <= point[value]
        assert upper.attained[0, value] > 0.2 * (1 + value)


def test_which_bound_proves_a_claim() -> None:
    network, ball, _ = problem()
    ball = bounds.Ball(ball.x[:1], radius=0.7)
    row = bounds.Specification(torch.tensor([[1.0, -1.0, 0.5]]).double())
    passed = bounds.solve(
        bounds.relax(network, ball, row, slope="adaptive"), method="adaptive_slope"
    )
    lp = bounds.output_bounds(network, ball, row).lower
    least = bounds.minimum(network, ball, row).lower
    assert passed.lower < lp < least
    infinite = torch.full_like(lp, math.inf)
    for claimed, by in ((passed.lower - 1, 1), (lp - 1e-3, 2), ((lp + least) / 2, 3)):
        claims = Claims({"rows": (claimed, infinite)}, row)
        end = bounds.audit(network, ball, claims, complete=True).ends["rows"][0]
        assert (int(end.judgement), int(end.by)) == (1, by)


def test_rows_without_coefficients_are_their_constants() -> None:
    network, ball, _ = problem()
    rows = bounds.Specification(torch.zeros(1, 3).double(), torch.tensor([0.25]).double())
    ends = torch.full((2, 1), 0.25).double()
    found = bounds.audit(network, ball, Claims({"rows": (ends, ends)}, rows))
    assert found.count("proved") == 4


def test_files_hold_what_was_written(tmp_path: Path) -> None:
    network, ball, rows = problem()
    offset = bounds.Specification(rows.C, torch.tensor([0.5, -0.5]).double())
    ends = {**by_name(bounds.relax(network, ball, rows)), "rows": (torch.zeros(2, 2),) * 2}
    Claims(ends, offset).save(tmp_path / "claims.npz")
    read = Claims.load(tmp_path / "claims.npz")
    assert list(read.ends) == list(ends)
    for name, both in ends.items():
        for end, again in zip(both, read.ends[name], strict=True):
            torch.testing.assert_close(again, end.double(), rtol=0, atol=0)
    assert read.rows is not None
    assert torch.equal(read.rows.C, rows.C)
    assert read.rows.d is not None
    assert read.rows.d.tolist() == [0.5, -0.5]
    half = torch.ones(1, 2, dtype=torch.bfloat16)
    Claims({"output": (-half, half)}).save(tmp_path / "half.npz")
    assert Claims.load(tmp_path / "half.npz").ends["output"][1].tolist() == [[1.0, 1.0]]


def test_json_and_missing_ends(tmp_path: Path) -> None:
    path = tmp_path / "claims.json"
    path.write_text('{"output": {"lower": [1, 2.5]}, "a.b": {"upper": [[Infinity, 3]]}}')
    read = Claims.load(path)
    assert [end.tolist() for end in read.ends["output"]] == [[1.0, 2.5], [math.inf] * 2]
    assert [end.tolist() for end in read.ends["a.b"]] == [[[-math.inf] * 2], [[math.inf, 3.0]]]
    assert read.rows is None


def written(tmp_path: Path, name: str, content: bytes | dict[str, Any]) -> Path:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("no.npz", b"no zip", "not a readable"),
        ("array.npz", {"output.lower": np.array([object()])}, "allow_pickle"),
        ("text.npz", {"output.lower": np.array(["a"])}, "output.lower holds"),
        ("nan.npz", {"output.lower": np.array([math.nan])}, "NaN"),
        ("large.npz", {"output.lower": np.array([2**53 + 1])}, "whole numbers"),
        ("key.npz", {"output": np.zeros(2)}, "'output'"),
        ("side.npz", {"output.middle": np.zeros(2)}, "'output.middle'"),
        ("empty.npz", {}, "no claims"),
        ("rows.npz", {"rows.d": np.zeros(2), "rows.lower": np.zeros(2)}, "rows.C"),
        ("none.json", b"[1, 2]", "no object of objects"),
        ("list.json", b'{"output": [1, 2]}', "no object of objects"),
        ("twice.json", b'{"output": {"lower": [1], "lower": [2]}}', "same name"),
        ("ragged.json", b'{"output": {"lower": [[1], [1, 2]]}}', "not a readable"),
        ("nan.json", b'{"output": {"lower": [NaN]}}', "NaN"),
        ("null.json", b'{"output": {"lower": [null]}}', "output.lower holds"),
        ("truth.json", b'{"output": {"lower": [true, 0.5]}}', "true or false"),
        ("large.json", b'{"output": {"lower": [0.5, 9007199254740993]}}', "2**53"),
        ("large.json", b'{"output": {"lower": [-9007199254740993]}}', "2**53"),
        ("deep.json", b'{"output": {"lower": ' + b"[" * 100_000, "not a readable"),
    ],
)
def test_files_that_are_none(
    tmp_path: Path, name: str, content: bytes | dict[str, Any], fragment: str
) -> None:
    path = written(tmp_path, name, content)
    refused(lambda: Claims.load(path), InvalidInputError, name, fragment)


def test_a_file_of_one_array_or_none_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(2))
    refused(lambda: Claims.load(tmp_path / "one.npz"), InvalidInputError, "one array")
    refused(lambda: Claims.load(tmp_path / "missing.npz"), InvalidInputError, "not there")
    refused(lambda: Claims.load(tmp_path), InvalidInputError, "not a regular file")


def test_files_grow_in_proportion(tmp_path: Path) -> None:
    """A thousandfold, where they are small; and what is large, is large on disk too."""
    path = tmp_path / "claims.npz"
    nothing = np.full((2, 10**6), -np.inf)
    np.savez_compressed(path, **{"output.lower": nothing})
    assert path.stat().st_size < nothing.nbytes / 100
    assert Claims.load(path).ends["output"][0].shape == nothing.shape
    np.savez_compressed(path, **{"output.lower": np.zeros(2**26, dtype=np.int8)})
    refused(lambda: Claims.load(path), InvalidInputError, "out of proportion")
    np.savez(path, **{"output.lower": np.zeros(2**26, dtype=np.int8)})
    assert Claims.load(path).ends["output"][0].shape == (2**26,)


def test_claims_about_rows_need_rows() -> None:
    network, ball, _ = problem()
    ends = (torch.zeros(2, 2), torch.zeros(2, 2))
    refused(lambda: bounds.audit(network, ball, {"rows": ends}), InvalidInputError, "no rows")
    rows: Any = ends[0]
    refused(lambda: Claims({}, rows), InvalidInputError, "Claims(rows)")
    no_pair: Any = (ends[0],)
    refused(lambda: Claims({"rows": no_pair}).save("nowhere"), InvalidInputError, "'rows'")


# -- what other tools return


class BoundRelu(SimpleNamespace):
    """A node of auto_LiRPA's graph, as far as it is read."""


def stand_in(ends: dict[str, tuple[Tensor, Tensor]]) -> Any:
    """A BoundedModule: a ReLU after each of these nodes, and the nodes themselves."""
    nodes: list[Any] = []
    for number, (lower, upper) in enumerate(ends.values()):
        before = SimpleNamespace(name=f"/input-{4 * number}", lower=lower, upper=upper, inputs=[])
        nodes += [before, BoundRelu(name=f"/{4 * number + 2}", inputs=[before])]
    return SimpleNamespace(nodes=lambda: iter(nodes))


def test_what_auto_lirpa_returns() -> None:
    network, ball, rows = problem()
    ends = by_name(bounds.relax(network, ball, rows))
    lb, C = torch.tensor([[0.0, 1.0], [2.0, 3.0]]), rows.C.expand(2, 2, 3)
    model = stand_in(ends)
    read = claims_of_auto_lirpa(network, (lb, None), C=C, model=model)
    assert list(read.ends) == [*ends, "rows"]
    for name, both in ends.items():
        assert all(map(torch.equal, read.ends[name], both))
    assert torch.equal(read.ends["rows"][0], lb)
    assert (read.ends["rows"][1] == math.inf).all()
    assert read.rows is not None
    assert torch.equal(read.rows.C, C)
    # By name, other nodes left aside; and without a model, in their order.
    saved = {"/x": (lb, lb), "/input-4": ends["3"], "/input-0": ends["1"]}
    by_model = claims_of_auto_lirpa(network, model=model, intermediate=saved)
    assert all(torch.equal(by_model.ends[name][0], ends[name][0]) for name in ends)
    alone = claims_of_auto_lirpa(network, (None, lb), intermediate=dict(ends))
    assert list(alone.ends) == [*ends, "output"]
    assert (alone.ends["output"][0] == -math.inf).all()


def test_shapes_of_a_tool_are_made_the_networks() -> None:
    """As a flattened layer's; what has another size is refused."""
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).double()
    network = bounds.from_torch(model, (1, 3, 3)).detach()
    flat = torch.arange(8.0).reshape(1, 8)
    read = claims_of_auto_lirpa(network, intermediate={"a": (flat, flat)})
    [(lower, _)] = read.ends.values()
    assert lower.shape == (1, 2, 2, 2)
    assert torch.equal(lower.flatten(1), flat)
    short = flat[:, :7]
    refused(
        lambda: claims_of_auto_lirpa(network, intermediate={"a": (short, short)}),
        InvalidInputError,
        "(1, 7)",
    )


def test_what_cannot_be_read_is_refused() -> None:
    network, ball, rows = problem()
    ends = by_name(bounds.relax(network, ball, rows))
    end, nothing = torch.zeros(2, 3), SimpleNamespace()
    calls: list[tuple[Any, str]] = [
        (lambda: claims_of_auto_lirpa(network), "nothing to read"),
        (lambda: claims_of_auto_lirpa(network, C=rows.C), "no result"),
        (lambda: claims_of_auto_lirpa(network, (None, None)), "result"),
        (lambda: claims_of_auto_lirpa(network, end), "result"),
        (lambda: claims_of_auto_lirpa(network, model=nothing), "BoundedModule"),
        (lambda: claims_of_auto_lirpa(network, intermediate={"a": (end, end)}), "1 ReLUs"),
        (lambda: claims_of_auto_lirpa(network, model=stand_in(ends), intermediate={}), "/input-0"),
        (lambda: claims_of_convex_adversarial(network, nothing), "DualNetwork"),
        (lambda: claims_of_convex_adversarial(network, SimpleNamespace(dual_net=[])), "0 ReLUs"),
    ]
    for call, fragment in calls:
        refused(call, InvalidInputError, fragment)


def test_relus_side_by_side_are_not_told_apart() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x) + torch.relu(-x)

    network, end = bounds.from_torch(Branches(), (2,), dtype=torch.float64), torch.ones(1, 2)
    given = {"a": (-end, end), "b": (-end, end)}
    refused(lambda: claims_of_auto_lirpa(network, intermediate=given), InvalidInputError, "neither")


def test_what_convex_adversarial_returns() -> None:
    network, ball, rows = problem()
    ends = by_name(bounds.relax(network, ball, rows))
    layers = [SimpleNamespace(), *(SimpleNamespace(zl=low, zu=high) for low, high in ends.values())]
    c, value = rows.C.expand(2, 2, 3), torch.zeros(2, 2)
    read = claims_of_convex_adversarial(network, SimpleNamespace(dual_net=layers), (c, value))
    assert list(read.ends) == [*ends, "rows"]
    assert all(map(torch.equal, read.ends["1"], ends["1"]))
    assert torch.equal(read.ends["rows"][0], value)
    assert (read.ends["rows"][1] == math.inf).all()


def model_of(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def sound_but_for_rounding(network: bounds.Network, ball: bounds.Ball, claims: Claims) -> None:
    """No point goes beyond a claim by more than 1e-9."""
    for both in bounds.audit(network, ball, claims).ends.values():
        for end, sign in zip(both, (1.0, -1.0), strict=True):
            refuted_ = end.judgement == 2
            assert (sign * (end.claimed - end.attained))[refuted_].lt(1e-9).all()
            assert (sign * (end.lp - end.claimed)).nan_to_num(0).gt(-1e-9).all()


def test_auto_lirpa_itself() -> None:
    package = pytest.importorskip("auto_LiRPA", reason="auto_LiRPA is not installed")
    model, x = model_of(4, 10, 8, 3), torch.zeros(2, 4).double()
    network, rows = bounds.from_torch(model, (4,)).detach(), bounds.margins(0, 3)
    with warnings.catch_warnings(action="ignore"):
        bounded = package.BoundedModule(copy.deepcopy(model), x)
        ball = package.PerturbationLpNorm(norm=math.inf, eps=0.3)
        C = rows.C.expand(2, 2, 3).contiguous()
        result = bounded.compute_bounds(
            x=(package.BoundedTensor(x, ball),), C=C, method="CROWN", bound_upper=False
        )
    claims = claims_of_auto_lirpa(network, result, C=C, model=bounded)
    assert len(claims.ends) == 3
    sound_but_for_rounding(network, bounds.Ball(x, radius=0.3), claims)


def test_convex_adversarial_itself() -> None:
    with warnings.catch_warnings(action="ignore"):
        package = pytest.importorskip(
            "convex_adversarial", reason="convex_adversarial is not installed"
        )
    model, x = model_of(4, 10, 8, 3), torch.zeros(2, 4).double()
    network, rows = bounds.from_torch(model, (4,)).detach(), bounds.margins(0, 3)
    c = rows.C.expand(2, 2, 3)
    dual = package.DualNetwork(model, x, 0.3)
    claims = claims_of_convex_adversarial(network, dual, (c, dual(c)))
    assert len(claims.ends) == 3
    sound_but_for_rounding(network, bounds.Ball(x, radius=0.3), claims)
