"""The speed benchmark's tables fit, it goes on where it stopped, and does without peers."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks import speed
from benchmarks.measure import cells, growth, peers, pictures
from benchmarks.measure import report as speed_report
from benchmarks.measure.cells import Cell, Entry
from benchmarks.measure.methods import METHODS
from benchmarks.measure.workloads import NETWORKS, QUICK, Problem, Setting
from benchmarks.support import environment, journal
from tests.support.timing import SMALLEST, cell, problem, without_a_limit

#: A few methods of every kind.
FEW = (
    "relax: backward",
    "bound: fixed slope",
    "bound: convex_adversarial",
    "solve: exact",
    "solve: HiGHS simplex, warm",
    "solve: HiGHS simplex, warm, condensed by us",
    "solve: cvxpy + HiGHS",
)


# -- the tables


def test_a_method_is_compared_with_one_of_ours_on_the_same_task() -> None:
    for name, method in METHODS.items():
        ours = METHODS[method.ours]
        assert name.startswith(f"{method.task}: ")
        assert (ours.task, ours.package, ours.host) == (method.task, "", False)
        assert method.package in ("", *peers.REMEDIES)


def test_families_grow() -> None:
    order = list(NETWORKS)
    for family in growth.FAMILIES.values():
        assert len(family) >= speed_report.LEAST
        for (small, one), (large, other) in pairwise(family.items()):
            assert small < large
            assert order.index(one) < order.index(other)
    for direction, method in product(growth.DIRECTIONS, METHODS.values()):
        if (direction, method.task) != ("rows", "relax"):
            line = growth.line(direction, method)
            assert len(line) >= speed_report.LEAST
            for network, setting in line:
                assert setting in growth.settings(network, method)
    assert QUICK.keys() | {*growth.ON_ONE_CORE} <= NETWORKS.keys()


def test_a_generated_problem_is_the_same_every_time() -> None:
    one, other = problem(torch.float64, 2), problem(torch.float64, 3)
    assert torch.equal(one.centre, other.centre[:2])
    assert torch.equal(one.network(one.centre), other.network(one.centre))
    shares = torch.tensor(other.lps().unstable) / 150
    assert ((shares > 0.1) & (shares < 0.3)).all()


def test_settings_change_what_they_say() -> None:
    def of(**changes: Any) -> Problem:
        setting = Setting(batch=2, **changes)
        cpu = torch.device("cpu")
        return NETWORKS[SMALLEST].load(Path(), setting=setting, dtype=torch.float32, device=cpu)

    def rows(problem: Problem) -> torch.Tensor:
        return problem.specification.resolve(2, problem.network.output_shape, problem.centre)[0]

    usual, few, many = of(), of(rows=3), of(rows=12)
    assert [tuple(rows(each).shape) for each in (few, many)] == [(2, 3, 10), (2, 12, 10)]
    assert torch.equal(rows(many)[:, :9], rows(usual))
    assert torch.equal(rows(many)[:, :3], rows(few))
    assert of(radii=2.0).radius == 2 * usual.radius
    keys = [Setting(batch=1, rows=1), Setting(batch=3, rows=30, cores=1), Setting(batch=3, radii=2)]
    assert list(map(str, keys)) == ["1, 1 row", "3, 30 rows, 1 core", "3, 2 radii"]


def test_one_core_is_measured_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone() -> set[str]:
        name, shared = growth.ON_ONE_CORE[0], {"budget": 1.0, "data": Path(), "stored": Path()}
        cells_of = speed.plan([name], quick=False, device="cpu", **shared)[name]
        return {cell.method for cell in cells_of if cell.setting.cores == 1}

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert alone() == {*METHODS}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert alone() == set()


@pytest.mark.parametrize(
    ("network", "batches"), [("mlp 3×100", {"10", "1", "3"}), ("deep conv", {"10"})]
)
def test_quick_takes_small_batches_and_nothing_else(network: str, batches: set[str]) -> None:
    shared = {"device": "cpu", "budget": 1.0, "data": Path(), "stored": Path()}
    planned = speed.plan([network], quick=True, **shared)[network]
    fast = {str(cell.setting) for cell in planned if METHODS[cell.method].task != "solve"}
    assert fast == batches


# -- a run


@pytest.fixture(autouse=True)
def _rate_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "matrix_rate", lambda *_, **__: 1e11)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run the benchmark with few methods and one batch each; its record."""
    without_a_limit(monkeypatch)
    methods = {name: METHODS[name] for name in FEW}
    for module in (speed, speed_report, pictures):
        monkeypatch.setattr(module, "METHODS", methods)
    monkeypatch.setattr(pictures, "KINDS", (SMALLEST,))
    file = tmp_path / "speed.json"

    def run(*options: str) -> dict[str, Any]:
        shared = ("--quick", "--networks", SMALLEST, "--json", str(file))
        assert speed.main([*shared, *options]) == 0
        return json.loads(file.read_text())

    return run


def without_convex_adversarial(monkeypatch: pytest.MonkeyPatch) -> None:
    real = peers.load

    def load(package: str) -> Any:
        if package == "convex_adversarial":
            raise ImportError("no module of this name")
        return None if package == "auto_LiRPA" else real(package)

    monkeypatch.setattr(peers, "load", load)


def test_end_to_end(
    few: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    without_convex_adversarial(monkeypatch)
    record = few("--plot", str(tmp_path / "speed.png"))
    output = capsys.readouterr().out
    (told,) = [line for line in output.splitlines() if "is skipped" in line]
    assert told.startswith("convex_adversarial is skipped (no module of this name): pip install")
    assert told.endswith('".[peers]"')
    for name in ("speed", "speed_growth", "speed_gaps"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert len(pictures.arriving(record).axes[0].lines) == len(FEW[3:])
    network = record["networks"][SMALLEST]
    assert (network["neurons"], network["parameters"]) == (150, 44_860)
    entries = network["cells"]
    assert {key.rsplit(" @ ")[0] for key in entries} == {*FEW}
    missing = {"note": "convex_adversarial is not installed"}
    assert entries["bound: convex_adversarial @ 10"] == missing
    exact = entries["solve: exact @ 3"]
    for name in FEW[4:]:
        entry = entries[f"{name} @ 3"]
        assert entry["seconds"] > 0
        solved = min(entry["solved"], cells.KEPT)
        assert solved >= 1
        difference = np.subtract(entry["values"], exact["values"][:solved])
        assert np.abs(difference).max() < 1e-6
    assert entries["bound: fixed slope @ 10"]["operations"] > 1e6

    # The same command measures nothing again; an entry that is gone, it alone.
    real, again = cells.apart, []

    def apart(function: Any, cell: Cell) -> Entry:
        again.append(cell.key)
        return real(function, cell)

    monkeypatch.setattr(cells, "apart", apart)
    assert few() == record
    assert again == []
    del entries["relax: backward @ 10"]
    (tmp_path / "speed.json").write_text(json.dumps(record))
    assert few()["networks"][SMALLEST]["cells"].keys() >= {"relax: backward @ 10"}
    assert again == ["relax: backward @ 10"]


def test_goes_on_only_with_the_same_options(tmp_path: Path) -> None:
    path, record = tmp_path / "speed.json", dict.fromkeys(speed.SAME, 1)
    journal.save(path, {**record, "networks": {"some": {}}})
    assert journal.resumed(path, record, same=speed.SAME)["networks"] == {"some": {}}
    for key in speed.SAME:
        other = {**record, key: 2}
        assert journal.resumed(path, other, same=speed.SAME) is other


def test_what_a_smaller_one_could_not_do_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def apart(function: Any, cell: Cell) -> Entry:
        if function is cells.facts:
            return {"parameters": 1, "neurons": 1, "unstable": [1], "radius": 1.0}
        asked.append((cell.network, cell.key))
        return {"note": "over 1 s"}

    monkeypatch.setattr(cells, "apart", apart)
    record: dict[str, Any] = {"networks": {}}
    todo = {
        name: [
            *(cell(network=name, method="relax: interval", batch=batch) for batch in batches),
            cell(network=name, method="solve: exact", batch=batch_of_lps),
        ]
        for name, batches, batch_of_lps in [
            ("mlp 6×100", (), 30),
            ("mlp 3×50", (10,), 3),
            ("mlp 2×100", (10,), 1),  # no smaller network in its family
            ("mlp 3×100", (10, 1, 30), 1),
            ("mlp 3×200", (10,), 10),
            ("mlp 4×100", (), 30),  # only a larger network has a note for this batch
        ]
    }
    speed.fill(record, todo, set(), None, Console(quiet=True))
    assert asked == [
        ("mlp 6×100", "solve: exact @ 30"),
        ("mlp 3×50", "relax: interval @ 10"),
        ("mlp 3×50", "solve: exact @ 3"),
        ("mlp 2×100", "relax: interval @ 10"),
        ("mlp 2×100", "solve: exact @ 1"),
        ("mlp 3×100", "relax: interval @ 1"),
        ("mlp 3×200", "solve: exact @ 10"),
        ("mlp 4×100", "solve: exact @ 30"),
    ]
    skipped = record["networks"]["mlp 3×200"]["cells"]["relax: interval @ 10"]
    assert skipped == {"note": "a smaller one: over 1 s"}


def test_a_network_that_is_not_ready_in_time_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cells, "apart", lambda *_: {"note": "not ready in 60 s"})
    record: dict[str, Any] = {"networks": {}}
    speed.fill(record, {SMALLEST: [cell()]}, set(), None, Console())
    assert record["networks"] == {}
    assert f"{SMALLEST} is skipped: not ready in 60 s" in capsys.readouterr().out


def test_exponents_are_those_of_powers() -> None:
    def entries(seconds: float) -> dict[str, Any]:
        return {"relax: interval @ 10": {"seconds": seconds}}

    widths = growth.FAMILIES["width"].items()
    networks = {name: {"cells": entries(width**2.5)} for width, name in widths}
    fitted = speed_report.exponents({"networks": networks}, "seconds")
    assert fitted == {"relax: interval": {"width": pytest.approx(2.5)}}


def test_differences_have_the_sign_of_the_peer() -> None:
    method = METHODS["bound: convex_adversarial"]
    ours = {"values": [1.0, -4.0, None]}
    theirs = {"values": [1.1, -5.0, 3.0], "failed": 0}
    assert speed_report.deviation(method, theirs, ours) == "-2e-01"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--networks", "mlp 1×1"), "no network mlp 1×1; there are mlp 3×50"),
        (("--budget", "0"), "--budget 0 is not a positive number of seconds"),
        (("--budget", "nan"), "--budget nan is not a positive number of seconds"),
        (("--device", "tpu9"), "--device tpu9: "),
        (("--json", "/nowhere/at/all.json"), "there is no folder /nowhere/at"),
        (("--qui",), "unrecognized arguments: --qui"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        speed.parse(arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_does_without_the_published_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, list[Cell]]] = []
    monkeypatch.setattr(speed, "fill", lambda record, todo, *_: asked.append(todo))
    for folder in (tmp_path, tmp_path / "nothing"):
        monkeypatch.setenv("BOUNDS_DATA", str(folder))
        assert speed.main(["--networks", "cifar10_resnet_2b", SMALLEST]) == 0
    assert [list(todo) for todo in asked] == [["cifar10_resnet_2b", SMALLEST], [SMALLEST]]
    assert capsys.readouterr().out.count("cifar10_resnet_2b skipped") == 1
