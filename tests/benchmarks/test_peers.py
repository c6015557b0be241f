"""The benchmark beside other verifiers; stand-ins answer what a property's comment says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.competition import peers, tools
from benchmarks.competition.instances import Instance
from benchmarks.competition.tools import Crown, Nnenum, Ours
from tests.support.vnnlib_texts import file, write_model

NNENUM = """
import re, sys, pathlib, time
model, property, timeout, answer, processes = sys.argv[1:]
word = re.search("; nnenum: (.*)", pathlib.Path(property).read_text())[1]
while word == "for long" and time.process_time() < 10:
    pass
pathlib.Path(answer).write_text("timeout" if word == "breaks off" else word)
if word == "breaks off":
    raise SystemExit("no such layer")
"""
CROWN = """
import re, sys, pathlib
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert pathlib.Path(options["--onnx_path"]).is_file() and options["--device"] == "cpu"
word = re.search("; crown: (.*)", pathlib.Path(options["--vnnlib_path"]).read_text())[1]
pathlib.Path(options["--results_file"]).write_text(word)
"""


def property_of(path: Path, *, nnenum: str, crown: str = "timeout") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"; nnenum: {nnenum}\n; crown: {crown}\n")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two instances of a suite, which hold by its table, and the trivial one."""
    folder = tmp_path / "data/vnncomp"
    property_of(folder / "test/test_nano.vnnlib", nnenum="holds", crown="unsat")
    property_of(folder / "mnistfc/a.vnnlib", nnenum="holds", crown="unsat")
    property_of(folder / "mnistfc/b.vnnlib", nnenum="holds")
    (folder / "test/test_nano.onnx").touch()
    (folder / "mnistfc/net_256x4.onnx").touch()
    lines = [
        "onnx,vnnlib,verdict",
        "net_256x4.onnx,a.vnnlib,unsat",
        "net_256x4.onnx,b.vnnlib,unsat",
    ]
    (folder / "mnistfc/ground_truth.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


@pytest.fixture
def nnenum(tmp_path: Path) -> Nnenum:
    folder = tmp_path / "nnenum"
    (folder / "src/nnenum").mkdir(parents=True)
    (folder / "src/nnenum/nnenum.py").write_text(NNENUM)
    return Nnenum(folder, sys.executable)


@pytest.fixture
def crown(tmp_path: Path) -> Crown:
    folder = tmp_path / "crown"
    (folder / "complete_verifier").mkdir(parents=True)
    (folder / "complete_verifier/abcrown.py").write_text(CROWN)
    return Crown(folder, sys.executable)


def instance_of(tmp_path: Path, *, nnenum: str, crown: str = "timeout") -> Instance:
    model = tmp_path / "model.onnx"
    model.touch()
    path = property_of(tmp_path / "spec.vnnlib", nnenum=nnenum, crown=crown)
    return Instance("mnistfc", model, path, "")


@pytest.mark.parametrize(
    ("word", "verdict"),
    [("holds", "unsat"), ("violated", "sat"), ("timeout", "timeout"), ("none", "error")],
)
def test_verdicts_have_one_name(nnenum: Nnenum, tmp_path: Path, word: str, verdict: str) -> None:
    found = nnenum.run(instance_of(tmp_path, nnenum=word), limit=60)
    assert found["verdict"] == verdict
    assert found["seconds"] > 0
    assert [path.name for path in tmp_path.glob("*.vnnlib*")] == ["spec.vnnlib"]


def test_what_breaks_off_is_an_error_with_its_last_line(nnenum: Nnenum, tmp_path: Path) -> None:
    found = nnenum.run(instance_of(tmp_path, nnenum="breaks off"), limit=60)
    assert (found["verdict"], found["why"]) == ("error", "status 1: ['no such layer']")


def test_a_process_ends_at_its_limit_in_cpu_seconds(
    nnenum: Nnenum, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "HANGING", 1e9)
    found = nnenum.run(instance_of(tmp_path, nnenum="for long"), limit=0.2, start=0.1)
    assert found["verdict"] == "timeout"
    assert 0.3 <= found["seconds"] < 10


def test_an_answer_after_the_limit_is_none(
    nnenum: Nnenum, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "_used", lambda _: 0.0)  # it ends before anybody looks
    monkeypatch.setattr(tools, "HANGING", 1e9)
    found = nnenum.run(instance_of(tmp_path, nnenum="holds"), limit=0.001)
    assert found["verdict"] == "timeout"


def test_our_own_process_answers(tmp_path: Path) -> None:
    path = tmp_path / "spec.vnnlib"
    box = [(side, ("X", i), str(end)) for i in (0, 1) for side, end in ((">=", 0), ("<=", 1))]
    path.write_text(file([*box, ("<=", ("Y", 0), "0.5")], 2, 1))
    instance = Instance("small", write_model(tmp_path / "model.onnx"), path, "")
    assert Ours().run(instance, limit=60)["verdict"] == "sat"


def test_each_network_has_its_configuration(tmp_path: Path) -> None:
    crown = Crown(tmp_path, "python")
    for suite, model, configuration, licensed in (
        ("mnistfc", "mnist-net_256x2.onnx", "vnncomp22/mnistfc_small.yaml", True),
        ("mnistfc", "mnist-net_256x6.onnx", "vnncomp22/mnistfc.yaml", True),
        ("rl_benchmarks", "cartpole.onnx", "vnncomp22/cartpole.yaml", False),
        ("rl_benchmarks", "dubinsrejoin.onnx", "vnncomp22/dubins-rejoin.yaml", False),
        ("acasxu", "ACASXU_run2a_1_1_batch_2000.onnx", "vnncomp21/acasxu.yaml", False),
    ):
        instance = Instance(suite, tmp_path / model, tmp_path / "spec.vnnlib", "")
        words = crown.command(instance, limit=60, answer=tmp_path / "answer")
        assert f"exp_configs/{configuration}" in words
        assert (words[-2:] == ["--complete_verifier", "bab"]) is licensed


def run(monkeypatch: pytest.MonkeyPatch, data: Path, *arguments: object) -> int:
    words = ["peers.py", "--data", data, "--suite", "mnistfc", "--tool", "nnenum", "crown"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in (*words, *arguments)])
    monkeypatch.setattr(peers, "STARTS", 1)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    return peers.main()


def test_it_goes_on_where_it_was_and_leaves_out_what_is_absent(
    data: Path,
    nnenum: Nnenum,
    crown: Crown,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    json_file = tmp_path / "peers.json"
    common = ("--json", json_file, "--nnenum", nnenum.folder, "--every")
    assert run(monkeypatch, data, *common, 2) == 0
    assert "crown is left out, no folder is given: clone" in capsys.readouterr().out
    first = json.loads(json_file.read_text())
    assert list(first["starts"]) == ["nnenum"]
    entry = first["suites"]["mnistfc"]["mnistfc: net_256x4.onnx a.vnnlib"]
    entry["tools"]["nnenum"]["seconds"] = -1.0  # what is there is kept
    json_file.write_text(json.dumps(first))

    assert run(monkeypatch, data, *common, 1, "--crown", crown.folder) == 0
    found = json.loads(json_file.read_text())["suites"]["mnistfc"]
    assert [[run["verdict"] for run in entry["tools"].values()] for entry in found.values()] == [
        ["unsat", "unsat"],
        ["unsat", "timeout"],
    ]
    assert found["mnistfc: net_256x4.onnx a.vnnlib"]["tools"]["nnenum"]["seconds"] == -1.0


def test_at_another_commit_of_ours_the_peers_part_stays() -> None:
    def record(commit: str, ours: float, theirs: float) -> dict[str, Any]:
        tools = {"ours": ours, "nnenum": theirs}
        runs = {tool: {"verdict": "unsat", "seconds": each} for tool, each in tools.items()}
        entry = {"truth": "unsat", "tools": runs}
        commits = {"ours": commit, "nnenum": "theirs"}
        return {
            "commit": commit,
            "commits": commits,
            "starts": tools,
            "suites": {"mnistfc": {"a": entry}},
        }

    stored = record("an older one", 1.0, 2.0)
    fresh = {"commit": "this one", "commits": {}, "starts": {}, "suites": {}}
    assert peers.brought_up(stored, fresh | {"commit": "an older one"}) is stored
    assert peers.brought_up(stored, fresh) == {
        "commit": "this one",
        "commits": {"nnenum": "theirs"},
        "starts": {"nnenum": 2.0},
        "suites": {
            "mnistfc": {
                "a": {
                    "truth": "unsat",
                    "tools": {"nnenum": {"verdict": "unsat", "seconds": 2.0}},
                }
            }
        },
    }


def test_a_tool_that_fails_on_the_trivial_property_is_left_out(
    data: Path,
    crown: Crown,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    property_of(data / "vnncomp/test/test_nano.vnnlib", nnenum="holds", crown="sat")
    assert run(monkeypatch, data, "--crown", crown.folder) == 0
    assert "crown is left out, on a trivial property it says" in capsys.readouterr().out


def test_contradictions_end_with_status_1(
    data: Path,
    nnenum: Nnenum,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    property_of(data / "vnncomp/mnistfc/b.vnnlib", nnenum="violated")
    assert run(monkeypatch, data, "--nnenum", nnenum.folder) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "b.vnnlib: the competition says unsat, nnenum says sat" in said


def test_the_summary_counts_who_decides_what() -> None:
    def entry(ours: str, theirs: str) -> dict[str, object]:
        runs = {
            "ours": {"verdict": ours, "seconds": 1.0},
            "crown": {"verdict": theirs, "seconds": 3.0},
        }
        return {"truth": "", "tools": runs}

    entries = {
        "a": entry("unsat", "unsat"),
        "b": entry("sat", "timeout"),
        "c": entry("unsat", "error"),
        "d": entry("unknown", "unsat"),
        "e": {"truth": "", "tools": {"ours": {"verdict": "sat", "seconds": 9.0}}},
    }
    line = ("crown", "4", "3", "2", "2", "1", "1.0", "3.0", "4.0", "12.0", "1")
    assert peers.summary(entries) == [line]


def test_the_instances_of_acasxu_are_all_there(shared_data: Path) -> None:
    assert len(peers.chosen(shared_data, "acasxu", 1)) == len(peers.ACASXU) == 24
