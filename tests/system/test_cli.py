"""`bounds compare`: what it prints and writes, its exit status, and what it refuses."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bounds
import lp_reference
from bounds.models import load_digits_images, load_digits_model
from tests.conftest import Run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model of three inputs and four classes."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    path = tmp_path_factory.mktemp("model") / "model.pt2"
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3),)), path)
    return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input") / "x.npy"
    np.save(path, np.array([[0.1, -0.2, 0.3], [0.5, 0.5, 0.0]], dtype=np.float32))
    return path


def test_default_run_agrees_and_writes_what_it_shows(run: Run, tmp_path: Path) -> None:
    numbers, plot = tmp_path / "out.json", tmp_path / "out.png"
    status, out, err = run("compare", "--json", numbers, "--plot", plot)
    assert (status, err) == (0, "")
    assert "All 27 exact bounds equal the LP optimum of cvxpy" in out.replace("\n", " ")
    assert plot.read_bytes().startswith(b"\x89PNG")

    record = json.loads(numbers.read_text())
    assert set(record) == {"model", "relaxation", "rows", "seconds", "max_difference"}
    assert record["model"] == "digits_robust"
    assert record["relaxation"]["inputs"] == 3
    assert record["relaxation"]["rows"] == 9
    assert len(record["relaxation"]["unstable"]) == 3
    assert record["relaxation"]["intermediate"] == "backward"
    assert set(record["seconds"]) == {"relax", "fixed_slope", "exact", "lp"}
    assert len(record["rows"]) == 27
    for row in record["rows"]:
        assert row["status"] == row["lp_status"] == "optimal"
        assert row["fixed_slope"] <= row["exact_lower"] + 1e-9
        assert row["gap"] == row["exact_upper"] - row["exact_lower"]
        assert row["difference"] == row["exact_lower"] - row["lp"]
    assert record["max_difference"] == max(abs(row["difference"]) for row in record["rows"])
    assert record["max_difference"] <= 1e-6


def test_the_numbers_are_those_of_the_library(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    run("compare", "digits_standard", "--radius", 0.05, "--json", path)
    images, labels = load_digits_images()
    network = bounds.from_torch(
        load_digits_model("digits_standard"), (1, 8, 8), dtype=torch.float64
    )
    ball = bounds.Ball(images[:3].double(), radius=0.05, lower=0.0, upper=1.0)
    exact = bounds.solve(bounds.relax(network, ball, bounds.margins(labels[:3], 10)))
    rows = json.loads(path.read_text())["rows"]
    shown = torch.tensor([row["exact_lower"] for row in rows], dtype=torch.float64)
    torch.testing.assert_close(shown, exact.lower.detach().flatten(), rtol=1e-8, atol=1e-8)


def test_a_users_model(run: Run, model: Path, inputs: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    status, _out, err = run(
        "compare", model, "--input", inputs, "--label", 1, 2, "--radius", 0.1, "--clip", -1, 1,
        "--json", path,
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert json.loads(path.read_text())["relaxation"] == {
        "inputs": 2,
        "rows": 3,
        "unstable": json.loads(path.read_text())["relaxation"]["unstable"],
        "intermediate": "backward",
    }


def test_the_networks_own_answer_is_the_label(
    run: Run, model: Path, inputs: Path, tmp_path: Path
) -> None:
    network = bounds.from_export(model)
    labels = network(torch.from_numpy(np.load(inputs))).argmax(1).tolist()
    found = []
    for options in ([], ["--label", *labels]):
        path = tmp_path / "out.json"
        common = ["compare", model, "--input", inputs, "--radius", 0.05, "--json", path]
        assert run(*common, *options)[0] == 0
        found.append(json.loads(path.read_text())["rows"])
    assert found[0] == found[1]


def test_disagreement_is_exit_status_1(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = lp_reference.solve

    def shifted(relaxation: bounds.Relaxation) -> lp_reference.ReferenceSolution:
        solution = original(relaxation)
        solution.value[1, 2] += 1e-4
        return solution

    monkeypatch.setattr(lp_reference, "solve", shifted)
    status, out, _ = run("compare")
    assert status == 1
    assert "DISAGREEMENT: only 26 of 27" in out


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_missing_lp_is_exit_status_1(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: float
) -> None:
    original = lp_reference.solve

    def failing(relaxation: bounds.Relaxation) -> lp_reference.ReferenceSolution:
        solution = original(relaxation)
        solution.value[0, 0], solution.status[0, 0] = broken, "optimal_inaccurate"
        return solution

    monkeypatch.setattr(lp_reference, "solve", failing)
    status, _out, _ = run("compare", "--json", tmp_path / "out.json")
    assert status == 1
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["rows"][0]["lp"] is None
    assert record["max_difference"] is None


def test_bad_input_is_one_line_exit_status_2_and_nothing_written(
    run: Run, model: Path, inputs: Path, tmp_path: Path
) -> None:
    def array(name: str, value: np.ndarray) -> Path:
        np.save(tmp_path / name, value)
        return tmp_path / name

    checkpoint, nothing = tmp_path / "weights.pth", tmp_path / "nothing.pt2"
    torch.save(nn.Linear(3, 4).state_dict(), checkpoint)
    truncated, text = tmp_path / "cut.pt2", tmp_path / "text.pt2"
    truncated.write_bytes(model.read_bytes()[:500])
    text.write_text("no model")
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "raw.npy").write_bytes(pickle.dumps([1.0]))
    own = ["--input", inputs, "--radius", 0.1]
    cases: dict[str, tuple[list[object], list[str]]] = {
        "missing model": ([nothing, *own], ["nothing.pt2", "No such file"]),
        "checkpoint": ([checkpoint, *own], ["weights.pth", "torch.export.save"]),
        "truncated": ([truncated, *own], ["cut.pt2"]),
        "no model": ([text, *own], ["text.pt2", "torch.export"]),
        "a folder": ([tmp_path, *own], ["directory"]),
        "onnx": (["net.onnx", *own], ["net.onnx", "No such file"]),
        "no input": ([model, "--radius", 0.1], ["--input is missing"]),
        "no radius": ([model, "--input", inputs], ["--radius is missing"]),
        "missing input": ([model, "--input", tmp_path / "no.npy", "--radius", 1], ["no.npy"]),
        "pickled input": ([model, "--input", pickled, "--radius", 1], ["pickled.npy"]),
        "raw pickle": ([model, "--input", tmp_path / "raw.npy", "--radius", 1], ["raw.npy"]),
        "integers": (
            [model, "--input", array("int.npy", np.ones((2, 3), int)), "--radius", 1],
            ["int64", "astype"],
        ),
        "shape": (
            [model, "--input", array("four.npy", np.ones((2, 4))), "--radius", 1],
            ["(2, 4)", "(3,)"],
        ),
        "empty": (
            [model, "--input", array("none.npy", np.ones((0, 3))), "--radius", 1],
            ["empty batch"],
        ),
        "NaN": (
            [model, "--input", array("nan.npy", np.full((2, 3), np.nan)), "--radius", 1],
            ["NaN"],
        ),
        "negative radius": ([model, "--input", inputs, "--radius", -1], ["-1.0", "at least 0"]),
        "NaN radius": ([model, "--input", inputs, "--radius", "nan"], ["radius", "NaN"]),
        "norm": ([model, *own, "--norm", 3], ["norm=3.0"]),
        "label": ([model, *own, "--label", 4, 0], ["4", "0 … 3"]),
        "labels": ([model, *own, "--label", 1, 2, 3], ["3 labels", "2 inputs"]),
        "excluded": ([model, *own, "--clip", 3, 4], ["no point in common"]),
        "device": ([model, *own, "--device", "tpu"], ["'tpu'", "--device cpu"]),
        "folder of the JSON": (
            [model, *own, "--json", tmp_path / "no" / "out.json"],
            ["no/out.json", "folder"],
        ),
        "a folder for the JSON": ([model, *own, "--json", tmp_path], ["it is a folder"]),
        "format of the plot": (
            [model, *own, "--json", tmp_path / "out.json", "--plot", tmp_path / "out.xyz"],
            ["out.xyz", ".png"],
        ),
        "unknown option": ([model, *own, "--radios", 1], ["--radios"]),
        "unknown dtype": ([model, *own, "--dtype", "float16"], ["float16"]),
    }
    before = sorted(path.name for path in tmp_path.iterdir())
    for name, (arguments, quoted) in cases.items():
        status, out, err = run("compare", *arguments)
        assert status == 2, (name, status, err)
        assert out == "", name
        assert "Traceback" not in err, name
        if "unknown" not in name:  # argparse prints its usage first
            assert err.count("\n") == 1, (name, err)
        for words in quoted:
            assert words in err, (name, words, err)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_file_that_cannot_be_written_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    status, _, err = run("compare", "--json", tmp_path / "out.json")
    assert status == 2
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_ctrl_c_leaves_nothing_behind(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(relaxation: bounds.Relaxation) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lp_reference, "solve", interrupted)
    status, _out, err = run("compare", "--json", tmp_path / "out.json")
    assert status == 130
    assert "interrupted" in err
    assert not (tmp_path / "out.json").exists()


def test_the_module_runs_as_a_program() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "bounds.cli", "compare", "--radius", "-1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("bounds compare: ")


@pytest.mark.parametrize(
    "arguments",
    [["frobnicate"], [], ["compare", "--model", "x"], ["check"], ["certify", "m", "--norm"]],
)
def test_what_is_no_command_is_refused_in_one_line(run: Run, arguments: list[str]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "--help" in err
