"""Training of the MNIST example: runs that were killed go on bit by bit."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bounds
from bounds.models import load_digits_model
from examples import checkpoints, mnist
from examples.image_data import load_models
from examples.training_options import Options
from examples.training_run import Run
from tests.support.mnist_files import same, write_data, write_digits

#: Of the 16 shipped images: two epochs of four batches, the last one smaller.
TRAIN = ("--model", "digits", "--batch", "5", "--epochs", "2", "--schedule-length", "1")

Main = Callable[..., int]


@pytest.fixture
def train(tmp_path: Path) -> Main:
    data = write_digits(tmp_path / "data")

    def main(name: str, *options: str) -> int:
        output = str(tmp_path / name)
        return mnist.main(["train", "--data", str(data), "--output", output, *TRAIN, *options])

    return main


def checkpoint(folder: Path) -> dict[str, Any]:
    content = torch.load(folder / checkpoints.NAME, weights_only=True)
    for record in content["records"]:
        del record["seconds"]
    return content


def test_a_finished_run_says_so(train: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("run") == 0
    capsys.readouterr()
    assert train("run") == 0
    out = capsys.readouterr().out.replace("\n", " ")
    assert "All 2 epochs are done; the last: epoch 1: radius" in out
    assert "nan" not in out


@pytest.mark.parametrize("device", ["meta", "tpu", "cuda:99"])
def test_devices_that_cannot_compute(
    device: str, train: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        train("run", "--device", device)
    assert stop.value.code == 2
    assert f"'{device}' is no device that computes here" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "killed"])
def test_a_run_that_is_stopped_anywhere_goes_on_as_if_it_had_not_been(
    how: str, train: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every batch, and with random numbers in each; "killed" does not even get to save."""
    step, stops, batches = Run.step, False, []

    def stopped(run: Run) -> dict[str, float]:
        shown = step(run)
        with torch.no_grad():
            next(run.model.parameters()).add_(1e-3 * torch.rand(()))
        batches.append(run.position)
        if stops and how == "killed" and len(batches) % 3 == 0:
            raise KeyboardInterrupt
        if stops and how != "killed":
            os.kill(os.getpid(), getattr(signal, how))
        return shown

    monkeypatch.setattr(Run, "step", stopped)
    assert train("whole") == 0
    stops, runs = True, 0
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    while runs < 20:
        runs += 1
        try:
            if train("stopped", "--save-minutes", "0" if how == "killed" else "1") == 0:
                break
        except KeyboardInterrupt:
            assert how == "killed"
    assert runs > 2
    assert before == {number: signal.getsignal(number) for number in before}
    whole, after = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "stopped")
    assert whole["epoch"] == 2
    del whole["sums"], after["sums"]
    assert same(whole, after)
    written = torch.load(tmp_path / "stopped" / checkpoints.WEIGHTS, weights_only=True)
    assert same(written, dict(after["model"]))
    lines = (tmp_path / "stopped" / checkpoints.LOG).read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]


def test_a_checkpoint_is_replaced_whole_or_not_at_all(
    train: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("run", "--epochs", "1") == 0
    before = checkpoint(tmp_path / "run")

    def half(content: Any, path: Path) -> None:
        path.write_bytes(b"PK")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        train("run", "--epochs", "1")
    assert same(before, checkpoint(tmp_path / "run"))


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--lr", "0.002"), "lr: 0.001, now 0.002"),
        (("--seed", "1"), "seed: 0, now 1"),
        (("--norm", "2"), "norm: inf, now 2.0"),
        (("--epochs", "3"), "epochs: 2, now 3"),
    ],
)
def test_a_run_of_other_options_is_refused_by_their_name(
    option: tuple[str, ...], named: str, train: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("run") == 0
    assert train("run", *option) == 2
    assert named in capsys.readouterr().err


def test_other_images_and_weights_to_start_from_are_other_options(
    train: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("run") == 0
    weights = tmp_path / "weights.pth"
    torch.save(load_digits_model("digits_robust").state_dict(), weights)
    assert train("run", "--init", str(weights)) == 2
    assert "init: '', now" in capsys.readouterr().err
    write_data(tmp_path / "data", np.zeros((4, 8, 8), np.uint8), np.arange(4, dtype=np.uint8))
    assert train("run") == 2
    assert "data: " in capsys.readouterr().err


def test_training_starts_from_the_weights_that_it_is_given(train: Main, tmp_path: Path) -> None:
    weights, robust = tmp_path / "weights.pth", load_digits_model("digits_robust")
    torch.save(robust.state_dict(), weights)
    assert train("near", "--init", str(weights), "--lr", "1e-9") == 0
    [(name, model)] = load_models(tmp_path / "near" / checkpoints.NAME)
    assert name == "digits"
    for one, other in zip(model.parameters(), robust.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "loss", ["robust", "optimised", "standard", "interval", "crown-ibp", "mixed", "small-box"]
)
def test_the_loss_falls(loss: str, train: Main, tmp_path: Path) -> None:
    """Intervals alone learn nothing in so few steps where the radius is that of the others."""
    radius = 0.002 if loss in ("interval", "crown-ibp", "small-box") else 0.02
    start = ("--lr", "0.02", "--epochs", "8", "--schedule-length", "4", "--radius", f"{radius}")
    picture = tmp_path / "epochs.png"
    options = ("--start-radius", f"{radius / 2}", "--loss", loss)
    plot = ("--plot", str(picture)) if loss == "robust" else ()
    assert train("run", *start, *options, *plot) == 0
    if plot:
        assert picture.read_bytes().startswith(b"\x89PNG")
    run = checkpoint(tmp_path / "run")
    records, [group] = run["records"], run["optimizer"]["param_groups"]
    assert records[-1]["train_loss"] < records[0]["train_loss"] - 0.5
    assert records[-1]["radius"] == radius
    assert group["lr"] == pytest.approx(0.01 * (1 + math.cos(math.pi * 3.75 / 4)))
    assert records[-1]["certified_error"] >= records[-1]["test_error"]


def test_the_rate_is_constant_while_the_radius_grows_and_then_falls_to_nothing() -> None:
    options = Options(
        model="digits",
        epochs=20,
        batch=50,
        lr=1e-3,
        radius=0.1,
        start_radius=0.01,
        schedule_length=10.0,
        norm=math.inf,
        loss="robust",
        intermediate="backward",
        seed=0,
    )
    assert [options.radius_at(time) for time in (0, 10, 15)] == [0.01, 0.1, 0.1]
    assert [options.lr_at(time) for time in (0, 5, 10)] == [1e-3] * 3
    assert options.lr_at(15) == pytest.approx(5e-4)
    assert options.lr_at(20) == pytest.approx(0, abs=1e-18)


def test_weights_that_a_nan_would_spoil_are_not_kept(
    train: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss itself is a number here: its gradient is not."""
    loss = Run.robust_loss

    def spoilt(run: Run, *arguments: Any) -> bounds.LossAndError:
        found = loss(run, *arguments)
        nothing = next(run.model.parameters()).sum() * 0
        return bounds.LossAndError(found.loss + nothing.sqrt(), found.error)

    monkeypatch.setattr(Run, "robust_loss", spoilt)
    assert train("run", "--save-minutes", "0") == 2
    assert "is no number: start again" in capsys.readouterr().err
    assert not (tmp_path / "run" / checkpoints.NAME).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch", "0"), "--batch 0: expected at least 1"),
        (("--seed", "-1"), "--seed -1: expected at least 0"),
        (("--mixture", "1.5"), "--mixture 1.5: expected a number from 0 to 1"),
        (("--attack-steps", "0"), "--attack-steps 0: expected at least 1"),
        (("--shift", "-1"), "--shift -1: expected at least 0"),
        (("--lr", "nan"), "--lr nan: expected a positive number"),
        (("--epochs", "1", "--schedule-length", "2"), "the full radius would never be reached"),
        (("--radius", "-1"), r"RadiusSchedule(end=-1.0)"),
        (("--norm", "3"), "Ball(norm=3.0)"),
        (("--model", "small"), "takes images of shape (1, 28, 28)"),
        (("--init", "missing.pth"), "'missing.pth' cannot be read"),
    ],
)
def test_options_that_cannot_be_used_are_refused_in_one_line(
    options: tuple[str, ...], message: str, train: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("run", *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("script", ["mnist", "two_moons"])
def test_the_examples_run_as_scripts_from_anywhere(script: str, tmp_path: Path) -> None:
    """With nothing but the checkout to import them from."""
    path = Path(mnist.__file__).with_name(f"{script}.py")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(path), "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith(f"usage: {script}.py"), done.stderr
