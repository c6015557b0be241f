"""`bounds audit`, the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bounds
from bounds.cli import audit as command
from bounds.models import DIGITS_SHAPE, load_digits_images, load_digits_model
from tests.conftest import Run


def problem() -> tuple[bounds.Network, bounds.Ball, bounds.Specification]:
    """The command's own, of digits_robust."""
    model = load_digits_model("digits_robust")
    network = bounds.from_torch(model, DIGITS_SHAPE, dtype=torch.float64).detach()
    images, labels = load_digits_images()
    ball = bounds.Ball(images[:3].double(), radius=0.1, lower=0.0, upper=1.0)
    return network, ball, bounds.margins(labels[:3], 10)


@pytest.fixture(scope="module")
def margins() -> bounds.Solution:
    """What one pass proves of the margins."""
    network, ball, rows = problem()
    relaxation = bounds.relax(network, ball, rows, slope="adaptive")
    return bounds.solve(relaxation, method="adaptive_slope")


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{name.replace("_", "."): numbers for name, numbers in arrays.items()})
    return path


def test_claims_that_hold(run: Run, margins: bounds.Solution, tmp_path: Path) -> None:
    claims = write(tmp_path / "claims.npz", rows_lower=margins.lower - 0.01)
    numbers = tmp_path / "out.json"
    status, out, err = run("audit", "--claims", claims, "--json", numbers)
    assert (status, err) == (0, "")
    assert "27 of 27 claims are proved, 0 are refuted, 0 are open" in out
    record = json.loads(numbers.read_text())
    assert (record["model"], record["claims_file"]) == ("digits_robust", str(claims))
    assert (record["sound"], record["proved"], record["refuted"]) == (True, 27, 0)
    network, ball, rows = problem()
    lp = bounds.solve(bounds.relax(network, ball, rows, slope="adaptive")).lower
    for line in record["claims"]:
        at = line["input"], line["value"]
        assert (line["about"], line["end"], line["judgement"]) == ("rows", "lower", "proved")
        assert line["by"] == "one pass"
        assert line["claimed"] == (margins.lower - 0.01)[at].item()
        assert line["looser_than_ours"] == pytest.approx(0.01)
        assert line["lp"] == pytest.approx(lp[at].item(), abs=1e-7)
        assert line["looser_than_lp"] == line["lp"] - line["claimed"]
        assert line["x"] is None


def test_claims_that_do_not_hold(run: Run, tmp_path: Path) -> None:
    """Their points are shown, and torch says the same of them."""
    network, ball, _ = problem()
    y = network(ball.x)
    path, numbers = tmp_path / "claims.json", tmp_path / "out.json"
    high = (y - 0.5).tolist()
    high[1][2] = math.inf
    path.write_text(json.dumps({"output": {"upper": high}}))
    status, out, err = run("audit", "--claims", path, "--json", numbers)
    assert (status, err) == (1, "")
    assert "refuted: output, input 0, value 0: upper end claimed as" in out
    assert "and 19 more: --json has all of them." in out
    assert "0 of 29 claims are proved, 29 are refuted, 0 are open" in out
    record = json.loads(numbers.read_text())
    assert record["sound"] is False
    assert len(record["claims"]) == 29
    model = load_digits_model("digits_robust").double()
    for line in record["claims"]:
        i, value = line["input"], line["value"]
        point = torch.tensor(line["x"], dtype=torch.float64)
        assert ball.take(torch.tensor([i])).holds(point)
        reached = model(point.unsqueeze(0))[0, value].item()
        assert line["claimed"] < line["attained"] <= reached


def test_rows_and_sets_of_ones_own(run: Run, tmp_path: Path) -> None:
    """A model file, rows in a file, or in the claims; a VNN-LIB file has both."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
    torch.export.save(torch.export.export(model, (torch.zeros(1, 2),)), tmp_path / "model.pt2")
    np.save(tmp_path / "x.npy", np.array([[1.0, 0.0]]))
    np.save(tmp_path / "rows.npy", np.array([[2.0, 0.0, 1.0]]))
    shared = (tmp_path / "model.pt2", "--claims")
    ball = ("--input", tmp_path / "x.npy", "--radius", 0.5)
    claims = write(tmp_path / "claims.npz", rows_lower=np.array([[1.9]]))
    assert run("audit", *shared, claims, *ball, "--rows", tmp_path / "rows.npy")[0] == 0
    own = write(tmp_path / "own.npz", rows_lower=np.array([[1.9]]), rows_C=np.array([[2.0, 0.0]]))
    assert run("audit", *shared, own, *ball)[0] == 1  # without the constant
    (tmp_path / "p.vnnlib").write_text(
        "(declare-const X_0 Real)(declare-const X_1 Real)"
        "(declare-const Y_0 Real)(declare-const Y_1 Real)"
        "(assert (>= X_0 0.5))(assert (<= X_0 1.5))(assert (>= X_1 0))(assert (<= X_1 1))"
        "(assert (<= (+ Y_0 Y_1) 0.25))"
    )
    claims = write(tmp_path / "vnnlib.npz", rows_lower=np.array([[0.24]]))
    assert run("audit", *shared, claims, "--vnnlib", tmp_path / "p.vnnlib")[0] == 0


def test_bad_input_is_one_line_exit_status_2_and_nothing_written(run: Run, tmp_path: Path) -> None:
    good = write(tmp_path / "good.npz", output_lower=np.zeros((3, 10)))
    rows = write(tmp_path / "rows.npz", rows_lower=np.zeros((3, 9)), rows_C=np.ones((9, 10)))
    cases: dict[str, tuple[list[object], str]] = {
        "none": ([], "--claims"),
        "missing": (["--claims", tmp_path / "missing.npz"], "not there"),
        "no npz": (["--claims", write_bytes(tmp_path / "no.npz")], "not a readable"),
        "pickled": (
            ["--claims", write(tmp_path / "p.npz", output_lower=np.array([object()]))],
            "allow_pickle",
        ),
        "NaN": (
            ["--claims", write(tmp_path / "n.npz", output_lower=np.full((3, 10), math.nan))],
            "NaN",
        ),
        "shape": (
            ["--claims", write(tmp_path / "s.npz", output_lower=np.zeros((2, 10)))],
            "(2, 10)",
        ),
        "name": (["--claims", write(tmp_path / "a.npz", other_lower=np.zeros(3))], "'other'"),
        "key": (["--claims", write(tmp_path / "k.npz", output=np.zeros(3))], "'output'"),
        "no rows": (["--claims", good, "--label", 3], "has none"),
        "rows twice": (["--claims", rows, "--label", 3], "rows of its own"),
        "round": (["--claims", good, "--norm", 2, "--complete"], "complete"),
        "timeout": (["--claims", good, "--timeout", 0], "time_limit"),
        "folder": (["--claims", good, "--json", tmp_path], "cannot write"),
    }
    before = sorted(tmp_path.iterdir())
    for name, (arguments, words) in cases.items():
        status, out, err = run("audit", *arguments)
        assert (status, out) == (2, ""), name
        assert err.count("\n") == 1, (name, err)
        assert err.startswith("bounds audit: "), (name, err)
        assert words in err, (name, err)
    assert sorted(tmp_path.iterdir()) == before


def write_bytes(path: Path) -> Path:
    path.write_bytes(b"no zip")
    return path


def test_ctrl_c(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    claims = write(tmp_path / "claims.npz", output_lower=np.zeros((3, 10)))
    monkeypatch.setattr(command, "audit", interrupted)
    status, _, err = run("audit", "--claims", claims)
    assert status == 130
    assert "interrupted" in err
