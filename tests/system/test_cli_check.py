"""`bounds check`, the command."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bounds
from bounds.cli import check as command
from bounds.models import DIGITS_SHAPE, load_digits_images, load_digits_model
from tests.conftest import Run
from tests.support.certificates import Arrays, Statement, edit, save


def network() -> bounds.Network:
    """digits_robust, as the command reads it."""
    model = load_digits_model("digits_robust")
    return bounds.from_torch(model, DIGITS_SHAPE, dtype=torch.float64).detach()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two of the shipped images."""
    images, labels = load_digits_images()
    ball = bounds.Ball(images[:2].double(), radius=0.1, lower=0.0, upper=1.0)
    relaxation = bounds.relax(network(), ball, bounds.margins(label=labels[:2], classes=10))
    path = tmp_path_factory.mktemp("check") / "certificate"
    save(path, relaxation)
    return path


def test_an_honest_certificate(run: Run, path: Path, tmp_path: Path) -> None:
    numbers = tmp_path / "out.json"
    status, out, err = run("check", path, "digits_robust", "--json", numbers)
    assert (status, err) == (0, "")
    proved = "PROVED: every claim, on 9 rows each of 2 inputs"
    assert out.endswith(f"{proved}; 2 inputs are verified, all their rows positive.\n")
    found = bounds.check(path, network())
    record = json.loads(numbers.read_text())
    assert record["accepted"] is True
    assert record["trusted_bounds"] is False
    assert (record["model"], record["precision"]) == ("digits_robust", 128)
    assert record["statement"]["intermediate"] == "backward"
    assert record["rejections"] == []
    for index, line in enumerate(record["inputs"]):
        assert line["verified"] is True
        assert line["lower"] == found.lower[index].tolist()
        assert line["upper"] == found.upper[index].tolist()
        assert line["gap"] == found.gap[index].tolist()
        assert line["claimed_lower"] == found.claimed_lower[index].tolist()
        assert line["optimum"] is None
        worst = int(np.argmin(found.lower[index]))
        shown = format(found.lower[index, worst], "+.6f")
        table = [text.split()[:5] for text in out.splitlines()]
        assert [str(index), "proved", "yes", str(worst), shown] in table


def test_the_model_as_a_file(run: Run, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    x = torch.zeros(1, 2, dtype=torch.float64)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
    read = bounds.from_torch(model, (2,)).detach()
    relaxation = bounds.relax(read, bounds.Ball(x, radius=0.1), bounds.margins(0, 2))
    save(tmp_path / "certificate", relaxation)
    arguments = "check", tmp_path / "certificate", tmp_path / "model.pt2"
    status, out, _ = run(*arguments, "--exact", "--json", tmp_path / "out.json")
    assert status == 0
    [line] = json.loads((tmp_path / "out.json").read_text())["inputs"]
    optimum = Fraction(line["optimum"][0])
    assert f"LP optimum of input 0, row 0: {float(optimum)!r} ≈ {optimum}\n" in out
    assert Fraction(line["lower"][0]) <= optimum <= Fraction(line["upper"][0])
    assert bounds.check(tmp_path / "certificate", tmp_path / "model.pt2").accepted
    status, out, _ = run(*arguments, "--trust-bounds")
    assert status == 0
    assert "says nothing about the network" in out
    assert "verified, all" not in out
    assert run(*arguments, "--precision", 256)[0] == 0
    wide = bounds.relax(read, bounds.Ball(x, radius=100.0), bounds.margins(0, 2))
    [neurons] = wide.relu_bounds
    save(tmp_path / "certificate", wide.split([neurons.unstable.double()]))
    status, out, _ = run(*arguments, "--json", tmp_path / "out.json")
    assert status == 0
    assert "is about the inputs that are on its sides" in out
    assert "verified, all" not in out
    record = json.loads((tmp_path / "out.json").read_text())
    assert (record["partial"], record["inputs"][0]["verified"]) == (True, False)


def test_rejections(run: Run, path: Path, tmp_path: Path) -> None:
    def raised(statement: Statement, arrays: Arrays) -> None:
        arrays["lower"] += 1e-6
        arrays["upper"][0, 0] = np.inf

    edited, numbers = edit(path, raised), tmp_path / "out.json"
    status, out, err = run("check", edited, "digits_robust", "--json", numbers)
    assert (status, err) == (1, "")
    assert "rejected: input 0, row 0: the lower bound is claimed as" in out
    assert "and 8 more: --json has all of them." in out
    assert out.endswith("REJECTED: 18 claims do not follow.\n")
    record = json.loads(numbers.read_text())
    assert record["accepted"] is False
    assert len(record["rejections"]) == 18
    assert record["rejections"][17]["input"] == 1
    assert record["rejections"][17]["row"] == 8
    assert record["rejections"][17]["reason"].startswith("the lower bound is claimed as")
    assert record["inputs"][0]["claimed_upper"][0] is None

    status, out, _ = run("check", path, "digits_standard", "--json", numbers)
    assert status == 1
    assert "rejected: the certificate is of another network" in out
    assert "REJECTED: 1 claim does not follow." in out
    assert json.loads(numbers.read_text())["inputs"] == []


def test_bad_input_is_one_line_exit_status_2_and_nothing_written(
    run: Run, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "no").write_text("no certificate")
    cases: dict[str, tuple[list[object], str]] = {
        "missing": ([tmp_path / "missing", "digits_robust"], "not a regular file"),
        "other file": ([tmp_path / "no", "digits_robust"], "not a safetensors file"),
        "no model": ([path, tmp_path / "missing.onnx"], "missing.onnx"),
        "other model": ([path, tmp_path / "no"], "no"),
        "precision": ([path, "digits_robust", "--precision", 1], "precision=1"),
        "folder": ([path, "digits_robust", "--json", tmp_path], "cannot write"),
    }
    before = sorted(tmp_path.iterdir())
    for name, (arguments, words) in cases.items():
        status, out, err = run("check", *arguments)
        assert (status, out) == (2, ""), name
        assert err.count("\n") == 1, (name, err)
        assert err.startswith("bounds check: "), (name, err)
        assert words in err, (name, err)
    assert sorted(tmp_path.iterdir()) == before


def test_ctrl_c(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "check", interrupted)
    status, _, err = run("check", path, "digits_robust")
    assert status == 130
    assert "interrupted" in err
