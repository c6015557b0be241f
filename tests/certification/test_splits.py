"""`certify` and searches of parts: which sets are searched, what is said, and how it can stop."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import bounds
from benchmarks.competition.instances import check, instances
from bounds import InvalidInputError, certify, certify_vnnlib, deadline
from bounds.certification import choice, one_input
from bounds.certification.choice import FEW
from bounds.certification.relu_splits import bounding_of
from bounds.read.vnnlib import parse_vnnlib
from bounds.search.search import BoxSearch, Search
from tests.conftest import Run
from tests.support.referee import random_net
from tests.support.refusals import refused
from tests.support.vnnlib_texts import file, within


def twins(inputs: int = 1) -> tuple[nn.Module, Tensor]:
    """z₀ = relu(x) − relu(x) + 0.01, which is 0.01, but the LP takes the two for different neurons;
    and z₁ = 0."""
    model = nn.Sequential(nn.Linear(inputs, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        model[0].weight.fill_(1 / inputs)
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
        model[2].bias.copy_(torch.tensor([0.01, 0.0]))
    return model, torch.zeros(1, inputs).double()


def test_splits_decide_what_one_lp_does_not() -> None:
    model, x = twins()
    whole = certify(model, x, 0, radius=0.1, method="no_split")
    found = certify(model, x, 0, radius=0.1)
    assert (whole.verdict, found.verdict) == ("unknown", "unsat")
    assert (whole.methods, found.methods) == (("simplex",), ("input_split",))
    assert whole.searches == (None,)
    [search] = found.searches
    assert search is not None
    assert (search.ended, search.open, search.worst) == ("closed", 0, math.inf)
    assert search.domains >= 3
    assert (found.lower < 0).all()  # which is about the whole ball
    assert found.verified.tolist() == [True]
    assert found.chosen == (f"input_split (moving inputs: 1, at most {FEW})",)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches end after a few boxes."""
    monkeypatch.setattr(
        one_input, "BoxSearch", lambda *given, **named: BoxSearch(*given, **{**named, "limit": 3})
    )


def test_a_search_that_nobody_asked_for_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = twins()
    monkeypatch.setattr(one_input, "UNASKED", 1)
    [search] = certify(model, x, 0, radius=0.1).searches
    assert search is not None
    assert search.ended == "domains"
    for asked in ({"timeout": 1e6}, {"method": "input_split"}):
        assert certify(model, x, 0, radius=0.1, **asked).verdict == "unsat"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("width", "layers", "weights", "expected"),
    [
        (20, 2, nn.init.eye_, "lp"),
        (30, 2, nn.init.eye_, "slopes"),
        (60, 1, nn.init.eye_, "lp"),
        (182, 1, nn.init.eye_, "lp"),
        (182, 1, nn.init.ones_, "slopes"),
    ],
)
def test_how_nodes_are_bounded(
    width: int, layers: int, weights: Callable[[Tensor], Tensor], expected: str
) -> None:
    """By LPs where they are small, or sparse and of one layer: all neurons are unstable here."""
    model = nn.Sequential()
    for bias in (0.0, -0.5)[:layers]:
        linear = nn.Linear(width, width)
        weights(linear.weight)
        nn.init.constant_(linear.bias, bias)
        model.extend([linear, nn.ReLU()])
    network = bounds.from_torch(model, (width,)).to("cpu", torch.float64)
    ends = torch.ones(1, width, dtype=torch.float64)
    row = bounds.Specification(torch.ones(1, width, dtype=torch.float64))
    root = bounds.relax(network, bounds.Box(-ends, ends), row)
    assert root.unstable == (width * layers,)
    assert bounding_of(root) == expected


def test_which_sets_are_split(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = twins(FEW + 1)
    many = certify(model, x, 0, radius=0.1)
    reason = f"moving inputs: {FEW + 1}, more than {FEW}; unstable neurons: 2"
    assert many.chosen == (f"relu_split ({reason}), nodes by lp",)
    assert many.verdict == "unsat"
    with monkeypatch.context() as small:
        small.setattr(choice, "MANY", 1)
        assert certify(model, x, 0, radius=0.1).chosen == (
            "no_split (unstable neurons: 2, more than 1, and no limit on time)",
        )
        assert certify(model, x, 0, radius=0.1, timeout=1e6).chosen == many.chosen
    radius = torch.full((1, FEW + 1), 0.1)
    radius[0, 0] = 0.0  # this one cannot move
    found = certify(model, x, 0, radius=radius)
    assert found.chosen == (f"input_split (moving inputs: {FEW}, at most {FEW})",)
    assert found.searches[0] is not None
    assert found.searches[0].ended == "domains"
    forced = certify(model, x, 0, radius=0.1, method="input_split")
    assert forced.methods == ("input_split",)
    assert forced.chosen == ("input_split (as was asked for)",)
    round_ = certify(model, x, 0, radius=1.0, norm=2)
    assert round_.chosen == ("relu_split (no box of inputs; unstable neurons: 2), nodes by slopes",)
    assert round_.verdict == "unsat"
    refused(
        lambda: certify(model, x, 0, radius=0.1, norm=2, method="input_split"),
        InvalidInputError,
        "norm is not inf",
        "no_split",
    )
    refused(
        lambda: certify(model, x, 0, radius=0.1, method="split"),  # type: ignore[arg-type]
        InvalidInputError,
        "method='split'",
        "'input_split'",
    )


def unproved() -> tuple[bounds.Network, str]:
    """z₀ ≤ 0.005 is unsafe, for x between −1 and 1: what one LP does not exclude."""
    model, _ = twins()
    network = bounds.from_torch(model, (1,)).detach()
    box = within(torch.tensor([-1.0]), torch.tensor([1.0]))
    return network, file([*box, ("<=", ("Y", 0), "0.005")], 1, 2)


def test_float32_and_deployed_float32_are_proved_by_parts() -> None:
    network, text = unproved()
    property = parse_vnnlib(text)
    for options in ({"dtype": torch.float32}, {"deployed": torch.float32}):
        found = certify_vnnlib(network, property, **options)  # type: ignore[arg-type]
        assert (found.verdict, found.methods) == ("unsat", ("input_split",))
    narrow = parse_vnnlib(text.replace("0.005", "0.0099999"))
    assert certify_vnnlib(network, narrow).verdict == "unsat"


def test_what_float32_may_lose_is_taken_off(short: None) -> None:
    network, text = unproved()
    narrow = parse_vnnlib(text.replace("0.005", "0.0099999"))
    found = certify_vnnlib(network, narrow, deployed=torch.float32)
    assert (found.verdict, found.methods) == ("unknown", ("input_split",))


def test_a_watch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = twins()
    told: list[tuple[int, Search]] = []
    found = certify(
        model, x.expand(2, 1), 0, radius=0.1, watch=lambda number, s: told.append((number, s))
    )
    assert {number for number, _ in told} == {0, 1}
    assert all(search.ended == "open" for _, search in told)
    assert told[-1][1].domains == found.searches[1].domains  # type: ignore[union-attr]


def test_time_is_shared_by_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock moves on a second with every look; a hard input does not take it all."""
    model, x = twins()
    with torch.no_grad():
        model[2].bias.zero_()  # z₀ = 0: neither proved nor broken
    ticks = itertools.count()
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    monkeypatch.setattr("bounds.search.search.REFUSED", math.inf)
    found = certify(model, x.expand(2, 1), 0, radius=0.1, timeout=400)
    assert found.verdicts == ("unknown", "unknown")
    first, second = found.searches
    assert first is not None
    assert second is not None
    assert first.ended == second.ended == "time"
    assert min(first.domains, second.domains) > 1
    assert min(first.open, second.open) >= 1


def test_ctrl_c_keeps_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = twins()

    def stop(number: int, search: Search) -> None:
        if number == 1:
            raise KeyboardInterrupt

    with pytest.raises(bounds.Interrupted) as caught:
        certify(model, x.expand(3, 1), 0, radius=0.1, watch=stop)
    known = caught.value.partial
    assert known.verdicts == ("unsat", "unknown", "unknown")
    assert known.methods == ("input_split", "input_split", "adaptive_slope")
    assert known.searches[1] is not None
    assert known.searches[1].open > 0
    assert isinstance(caught.value, KeyboardInterrupt)


def test_the_command_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = twins()
    network = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(model, (torch.zeros(1, 1).double(),)), network)
    spec = tmp_path / "spec.vnnlib"
    spec.write_text(unproved()[1])
    common = ["certify", network, "--vnnlib", spec]
    status, out, err = run(*common, "--verbose")
    assert status == 0
    assert out.startswith("unsat\n")
    assert "input_split" in out
    assert f"case 0: input_split (moving inputs: 1, at most {FEW}); " in err
    status, out, err = run(*common, "--verbose", "--method", "no_split")
    assert (status, out.splitlines()[0]) == (1, "unknown")
    assert err == "case 0: no_split (as was asked for)\n"

    def interrupted(self: object, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(one_input.BoxSearch, "run", interrupted)
    status, out, err = run(*common, "--json", tmp_path / "out.json")
    assert status == 130
    assert out.startswith("unknown\n")
    assert "1 open" in out
    assert "interrupted" in err
    assert not (tmp_path / "out.json").exists()


@pytest.mark.slow
def test_all_of_acasxu(shared_data: Path) -> None:
    """No verdict is another than the competition's."""
    verdicts: Counter[str] = Counter()
    for instance in instances(shared_data, "acasxu"):
        record = check(instance, timeout=60)
        assert not record["contradictions"], (instance.name, record["contradictions"])
        verdicts[record["verdict"]] += 1
    assert min(verdicts["unsat"], verdicts["sat"]) >= 10


@pytest.mark.parametrize("seed", range(3))
def test_disjuncts_that_open_different_boxes(tmp_path: Path, seed: int) -> None:
    """Each output's least value on a grid, less a little: no output is that low, and the boxes on
    which it might be are not those of the others."""
    network = random_net(2, 16, 16, 3, seed=seed, scale=2.5)
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 201).double()] * 2)
    least = (network(grid).amin(0) - 0.01).tolist()
    declared = [("X", i) for i in range(2)] + [("Y", k) for k in range(3)]
    lines = [f"(declare-const {name}_{i} Real)" for name, i in declared]
    lines += [f"(assert (>= X_{i} 0)) (assert (<= X_{i} 1))" for i in range(2)]
    parts = " ".join(f"(and (<= Y_{k} {value:.6f}))" for k, value in enumerate(least))
    lines.append(f"(assert (or {parts}))")
    asked = parse_vnnlib("\n".join(lines))
    proof = tmp_path / "proof"
    found = certify_vnnlib(network, asked, method="input_split", proof=proof)
    [search] = found.searches
    assert found.verdict == "unsat"
    assert search is not None
    assert search.domains > 20
    assert bounds.check_proof(proof, network, vnnlib=asked).accepted
