"""`bounds attribute`, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import bounds
from bounds.cli import attribute as command
from tests.conftest import Run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model of two hidden layers, and an input beside it."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.ReLU()
    network = torch.nn.Sequential(*layers, torch.nn.Linear(8, 3)).double().eval()
    folder = tmp_path_factory.mktemp("model")
    exported = torch.export.export(network, (torch.zeros(1, 3).double(),))
    torch.export.save(exported, folder / "model.pt2")
    np.save(folder / "x.npy", np.array([[0.1, -0.2, 0.3], [0.5, 0.5, 0.0]]))
    return folder / "model.pt2"


def test_what_it_shows_and_writes(run: Run, model: Path, tmp_path: Path) -> None:
    numbers, plot = tmp_path / "out.json", tmp_path / "out.svg"
    arguments = (model, "--input", model.parent / "x.npy", "--label", 0, "--radius", 0.5)
    status, out, err = run("attribute", *arguments, "--json", numbers, "--plot", plot)
    assert (status, err) == (0, "")
    assert out.startswith("Attribution of 2 inputs, 2 rows each\n")
    record = json.loads(numbers.read_text())
    assert record["model"] == str(model)
    x = torch.from_numpy(np.load(model.parent / "x.npy"))
    network = bounds.load(model, dtype=torch.float64).detach()
    ball, rows = bounds.Ball(x, radius=0.5), bounds.margins(0, 3)
    found = bounds.attribute(network, ball, rows)
    for line in record["rows"]:
        at = line["input"], line["row"]
        assert line["fixed_slope"] == pytest.approx(found.fixed_slope[at].item())
        assert line["lost"]["slope"] == pytest.approx([end[at].item() for end in found.slope])
        assert line["minimum"] == pytest.approx([end[at].item() for end in found.minimum])
    input, row = divmod(int(found.fixed_slope.argmin()), 2)
    name, position, cost = found.worst(input, row)[0]
    assert f"input {input}, row {row}: {name} [{position}] costs {cost:.3g}" in out
    assert "<svg" in plot.read_text()


def test_what_is_not_found_in_time(run: Run, model: Path) -> None:
    arguments = (model, "--input", model.parent / "x.npy", "--radius", 0.5)
    status, out, err = run("attribute", *arguments, "--timeout", 1e-9)
    assert (status, err) == (1, "")
    assert "…" in out


def test_bad_input_is_one_line_exit_status_2_and_nothing_written(run: Run, tmp_path: Path) -> None:
    cases: dict[str, tuple[list[object], str]] = {
        "timeout": (["--timeout", 0], "time_limit"),
        "plot": (["--plot", tmp_path / "a.txt"], ".png"),
        "folder": (["--json", tmp_path], "cannot write"),
        "model": ([tmp_path / "missing.onnx"], "missing.onnx"),
    }
    for name, (arguments, words) in cases.items():
        status, out, err = run("attribute", *arguments)
        assert (status, out) == (2, ""), name
        assert err.count("\n") == 1, (name, err)
        assert err.startswith("bounds attribute: "), (name, err)
        assert words in err, (name, err)
    assert not list(tmp_path.iterdir())


def test_ctrl_c(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "attribute", interrupted)
    status, _, err = run("attribute")
    assert status == 130
    assert "interrupted" in err
