"""`bounds certify`: what it prints and writes, its exit status, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bounds
from bounds.certification import decide
from bounds.models import load_digits_images, load_digits_model
from tests.conftest import Run
from tests.support.vnnlib_texts import file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y₀ = x₀ + x₁ and y₁ = x₀ − x₁ for x₀ ≥ x₁ ≥ 0."""
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    path = tmp_path_factory.mktemp("model") / "model.pt2"
    torch.export.save(torch.export.export(network, (torch.zeros(1, 2),)), path)
    return path


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """x in [1, 2] × [0, 0.5]; unsafe where y₀ ≥ 2.25, and where y₁ ≤ 0.25 or y₁ ≥ 3."""
    x = [(">=", ("X", 0), "1"), ("<=", ("X", 0), "2"), (">=", ("X", 1), "0")]
    first, second = (">=", ("Y", 0), "2.25"), ("<=", ("Y", 1), "0.25")
    (tmp_path / "sat.vnnlib").write_text(file([*x, ("<=", ("X", 1), "0.5"), first], 2, 2))
    unsafe = ("or", second, ("and", (">=", ("Y", 1), "3"), (">=", ("Y", 0), "0")))
    path = tmp_path / "unsat.vnnlib"
    path.write_text(file([*x, ("<=", ("X", 1), "0.5"), unsafe], 2, 2))
    return path


def test_a_proof(run: Run, model: Path, spec: Path, tmp_path: Path) -> None:
    numbers, result = tmp_path / "out.json", tmp_path / "out.txt"
    status, out, err = run(
        "certify", model, "--vnnlib", spec, "--json", numbers, "--counterexample", result
    )
    assert (status, err) == (0, "")
    assert out.startswith("unsat\n")
    assert result.read_text() == "unsat\n"
    record = json.loads(numbers.read_text())
    assert set(record) == {
        *("verdict", "model", "vnnlib", "seconds", "cases", "empty_cases", "proof"),
        *("counterexample", "replayed_by"),
    }
    assert record["verdict"] == "unsat"
    assert (record["model"], record["vnnlib"]) == (str(model), str(spec))
    assert record["counterexample"] is record["replayed_by"] is None
    assert record["seconds"]["total"] >= record["seconds"]["relax"] > 0
    [case] = record["cases"]
    # y₁ is in [0.5, 2], and y₀ in [1, 2.5]: y₁ − 0.25, 3 − y₁ and −y₀ over the box.
    assert case == {
        "case": 0,
        "verdict": "unsat",
        "method": "adaptive_slope",
        "search": None,
        "lower": [[pytest.approx(0.25)], [pytest.approx(1.0), pytest.approx(-2.5)]],
    }


def test_a_counterexample(run: Run, model: Path, spec: Path, tmp_path: Path) -> None:
    numbers, result = tmp_path / "out.json", tmp_path / "out.txt"
    path = spec.with_name("sat.vnnlib")
    status, out, err = run(
        "certify", model, "--vnnlib", path, "--json", numbers, "--counterexample", result
    )
    assert (status, err) == (1, "")
    assert out.startswith("sat\n")
    assert "replayed by bounds" in out
    record = json.loads(numbers.read_text())
    assert record["verdict"] == record["cases"][0]["verdict"] == "sat"
    assert record["replayed_by"] == "bounds"
    x, y = record["counterexample"]["x"], record["counterexample"]["y"]
    assert y == [x[0] + x[1], x[0] - x[1]]
    assert y[0] >= 2.25
    assert result.read_text() == (
        f"sat\n((X_0 {x[0]!r})\n (X_1 {x[1]!r})\n (Y_0 {y[0]!r})\n (Y_1 {y[1]!r}))\n"
    )


def test_what_is_open_is_unknown(
    run: Run, model: Path, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, result = tmp_path / "out.json", tmp_path / "out.txt"
    status, out, _ = run(
        *("certify", model, "--vnnlib", spec, "--json", numbers, "--counterexample", result),
        *("--timeout", 1e-9),
    )
    assert status == 1
    assert out.startswith("unknown\n")
    assert result.read_text() == "unknown\n"
    assert json.loads(numbers.read_text())["cases"][0]["lower"] == [[None], [None, None]]


def test_a_data_set(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    status, out, err = run("certify", "digits_standard", "--radius", 0.1, "--json", path)
    assert (status, err) == (1, "")
    images, labels = load_digits_images()
    found = bounds.certify(
        load_digits_model("digits_standard"), images[:3].double(), labels[:3],
        radius=0.1, lower=0.0, upper=1.0,
    )  # fmt: skip
    record = json.loads(path.read_text())
    assert record["verdict"] == found.verdict
    assert (record["radius"], record["norm"], record["clip"]) == (0.1, "inf", [0.0, 1.0])
    for index, line in enumerate(record["inputs"]):
        assert line["input"] == index
        assert line["label"] == int(labels[index])
        assert line["verdict"] == found.verdicts[index]
        assert line["method"] == found.methods[index]
        assert line["lower"] == pytest.approx(found.lower[index].tolist(), abs=1e-7)
        assert (line["counterexample"] is None) == (line["verdict"] != "sat")
    count = found.verdicts.count("unsat")
    assert f"{count} of 3 inputs are proved (unsat)" in out
    status, out, _ = run("certify", "--radius", 0.01)
    assert status == 0
    assert "3 of 3 inputs are proved (unsat), 0 have a counterexample" in out


def test_a_users_data(run: Run, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[2.0, 1.0], [1.0, 0.0]]))
    path = tmp_path / "out.json"
    common = ["certify", model, "--input", tmp_path / "x.npy", "--json", path]
    status, _, _ = run(*common, "--radius", 0.25)
    inputs = json.loads(path.read_text())["inputs"]
    assert status == 1
    # y₀ − y₁ = 2 x₁: positive around the first, and negative at a corner around the second.
    assert [line["verdict"] for line in inputs] == ["unsat", "sat"]
    assert inputs[0]["lower"] == [pytest.approx(1.5)]
    x = inputs[1]["counterexample"]["x"]
    assert x[1] < 0
    assert abs(x[0] - 1) <= 0.25
    assert run(*common, "--radius", 0.25, "--label", 0, 1)[0] == 1
    assert json.loads(path.read_text())["inputs"][1]["label"] == 1
    assert run(*common, "--radius", 0.25, "--clip", 0.1, 3)[0] == 0
    for norm, verdict in ((1, "unsat"), (2, "unsat")):
        run(*common, "--radius", 0.9, "--norm", norm)
        assert json.loads(path.read_text())["inputs"][0]["verdict"] == verdict


def test_compare_takes_a_property(run: Run, model: Path, spec: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    status, _, err = run("compare", model, "--vnnlib", spec, "--json", path)
    assert (status, err) == (0, "")
    record = json.loads(path.read_text())
    exact = [row["exact_lower"] for row in record["rows"]]
    assert exact == [pytest.approx(0.25), pytest.approx(1.0), pytest.approx(-2.5)]


def test_bad_input_is_one_line_exit_status_2_and_nothing_written(
    run: Run, model: Path, spec: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.vnnlib").write_text("(declare-const X_0 Real)\n  (assert (distinct X_0 0))")
    other = ("and", (">=", ("X", 0), "0"), ("<=", ("X", 0), "1"), ("<=", ("Y", 0), "0"))
    (tmp_path / "other.vnnlib").write_text(file([other], 1, 1))
    x = [(">=", ("X", 1), "0"), ("<=", ("X", 1), "0.5"), (">=", ("X", 0), "0")]
    own = [("and", ("<=", ("X", 0), str(i)), ("<=", ("Y", i), "-1")) for i in (1, 0)]
    (tmp_path / "own.vnnlib").write_text(file([*x, ("or", *own)], 2, 2))
    np.save(tmp_path / "x.npy", np.zeros((1, 2)))
    data = ["--input", tmp_path / "x.npy", "--radius", 0.1]
    json_file = ["--json", tmp_path / "out.json"]
    cases: dict[str, tuple[list[object], list[str]]] = {
        "missing spec": (["--vnnlib", tmp_path / "no.vnnlib"], ["no.vnnlib", "No such file"]),
        "bad spec": (
            ["--vnnlib", tmp_path / "bad.vnnlib", *json_file],
            ["bad.vnnlib", "line 2, column 11", "'distinct'"],
        ),
        "other spec": (["--vnnlib", tmp_path / "other.vnnlib"], ["X_0 … X_0", "2 inputs"]),
        "a folder": (["--vnnlib", tmp_path], ["not a regular file"]),
        "both": (["--vnnlib", spec, *data], ["--input and --vnnlib exclude each other"]),
        "radius": (["--vnnlib", spec, "--radius", 1], ["--radius and --vnnlib"]),
        "norm": (["--vnnlib", spec, "--norm", 2], ["--norm and --vnnlib"]),
        "clip": (["--vnnlib", spec, "--clip", 0, 1], ["--clip and --vnnlib"]),
        "label": (["--vnnlib", spec, "--label", 0], ["--label and --vnnlib"]),
        "nothing": ([], ["--radius is missing"]),
        "no input": (["--radius", 0.1], ["--input is missing"]),
        "no property": ([*data, "--counterexample", tmp_path / "c"], ["goes with --vnnlib"]),
        "timeout": (["--vnnlib", spec, "--timeout", -1], ["timeout=-1.0", "positive"]),
        "seed": (["--vnnlib", spec, "--seed", -1], ["seed=-1"]),
        "device": (["--vnnlib", spec, "--device", "tpu"], ["'tpu'", "--device cpu"]),
        "folder": (["--vnnlib", spec, "--counterexample", tmp_path / "no" / "c"], ["no/c"]),
        "no number": (["--vnnlib", spec, "--timeout", "soon"], ["soon"]),
        "no class": ([*data, "--label", 10**20], [str(10**20), "class"]),
    }
    before = sorted(path.name for path in tmp_path.iterdir())
    for name, (arguments, quoted) in cases.items():
        status, out, err = run("certify", model, *arguments)
        assert status == 2, (name, status, err)
        assert out == "", name
        assert "Traceback" not in err, name
        if name not in ("no number", "no class"):  # argparse prints its usage first
            assert err.count("\n") == 1, (name, err)
        for words in quoted:
            assert words in err, (name, words, err)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    status, _, err = run("compare", model, "--vnnlib", tmp_path / "own.vnnlib")
    assert status == 2
    assert "use bounds certify" in err


def test_ctrl_c_leaves_nothing_behind(
    run: Run, model: Path, spec: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decide, "solve", interrupted)
    status, out, err = run("certify", model, "--vnnlib", spec, "--json", tmp_path / "out.json")
    assert status == 130
    assert "interrupted" in err
    assert out.startswith("unknown\n")
    assert not (tmp_path / "out.json").exists()


def test_a_regression_by_its_rows(run: Run, tmp_path: Path) -> None:
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -1.0]]))
    path = str(tmp_path / "model.pt2")
    torch.export.save(torch.export.export(model.eval(), (torch.zeros(1, 2),)), path)
    np.save(tmp_path / "x.npy", np.zeros((1, 2)))
    where = ("--input", str(tmp_path / "x.npy"), "--radius", "0.1")
    rows = str(tmp_path / "rows.npy")
    np.save(rows, np.array([[1.0, 0.25], [-1.0, 0.25]]))
    record = str(tmp_path / "record.json")
    status, out, _ = run("certify", path, *where, "--rows", rows, "--json", record)
    assert (status, "1 of 1 inputs are proved" in out) == (0, True)
    [found] = json.loads(Path(record).read_text())["inputs"]
    assert found["label"] is None
    assert found["lower"] == [pytest.approx(0.05)] * 2
    np.save(rows, np.array([[1.0, 0.125]]))
    assert run("certify", path, *where, "--rows", rows)[0] == 1
    assert run("compare", path, *where, "--rows", rows)[0] == 0
    # Without rows, its sign is the answer, which changes on the ball.
    status, out, _ = run("certify", path, *where)
    assert (status, "1 have a counterexample" in out) == (1, True)
    np.save(rows, np.array([[1.0]]))
    status, _, err = run("certify", path, *where, "--rows", rows)
    assert (status, "expected (rows, 2)" in err) == (2, True)
    assert "exclude each other" in run("certify", path, *where, "--rows", rows, "--label", "0")[2]
