"""The MNIST example: killed runs go on bit by bit, files are checked, and errors are in order."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import bounds
import lp_reference
from bounds import BoundsError, InvalidInputError, ModelFileError
from bounds.shipped import load_digits_images, load_digits_model
from examples import checkpoints, evaluation, mnist
from examples.evaluation import KINDS, Question, errors
from examples.image_data import Split, load_data, load_models, read_idx
from examples.training import Run
from examples.training_options import Options

CPU = torch.device("cpu")
#: Of 16 + 4 images: two epochs of four batches, the last one smaller.
TRAIN = ("--model", "digits", "--batch", "5", "--epochs", "2", "--schedule-length", "1")

Main = Callable[..., int]


def idx(array: np.ndarray) -> bytes:
    """The array as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_data(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return folder


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder of IDX files with the shipped digits."""
    x, y = load_digits_images()
    images = (255 * x.squeeze(1)).round().to(torch.uint8).numpy()
    folder = tmp_path / "data"
    folder.mkdir()
    return write_data(folder, images, y.to(torch.uint8).numpy())


@pytest.fixture
def train(digits: Path, tmp_path: Path) -> Main:
    def main(name: str, *options: str) -> int:
        output = str(tmp_path / name)
        return mnist.main(["train", "--data", str(digits), "--output", output, *TRAIN, *options])

    return main


def checkpoint(folder: Path) -> dict[str, Any]:
    content = torch.load(folder / checkpoints.NAME, weights_only=True)
    for record in content["records"]:
        del record["seconds"]
    return content


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


# -- training


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
    train: Main, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("run") == 0
    weights = tmp_path / "weights.pth"
    torch.save(load_digits_model("digits_robust").state_dict(), weights)
    assert train("run", "--init", str(weights)) == 2
    assert "init: '', now" in capsys.readouterr().err
    write_data(digits, np.zeros((4, 8, 8), np.uint8), np.arange(4, dtype=np.uint8))
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


@pytest.mark.parametrize("method", ["robust", "standard"])
def test_the_loss_falls(method: str, train: Main, tmp_path: Path) -> None:
    start = ("--lr", "0.01", "--epochs", "15", "--schedule-length", "10", "--radius", "0.02")
    assert train("run", *start, "--method", method) == 0
    records = checkpoint(tmp_path / "run")["records"]
    assert records[-1]["train_loss"] < records[0]["train_loss"] - 0.5
    assert records[-1]["radius"] == 0.02
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
        method="robust",
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


# -- files


def test_idx_files_are_read_as_written(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    write_data(tmp_path, images, np.array([7, 0], np.uint8))
    data = load_data(tmp_path)
    assert np.array_equal(data.train.raw.squeeze(1), images)
    assert data.test.labels.tolist() == [7, 0]
    like = torch.zeros((), dtype=torch.float64)
    assert torch.equal(
        data.test.pixels(slice(1), like).flatten(), torch.arange(15) / like.new(1).fill_(255)
    )


WHOLE = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
DAMAGED = {
    "not gzip": WHOLE,
    "empty": b"",
    "nothing inside": gzip.compress(b""),
    "cut gzip": gzip.compress(WHOLE)[:-9],
    "changed gzip": gzip.compress(WHOLE)[:-8] + bytes(8),
    "cut": gzip.compress(WHOLE[:-1]),
    "cut header": gzip.compress(WHOLE[:9]),
    "longer": gzip.compress(WHOLE + b"\0"),
    "floats": gzip.compress(b"\0\0\x0d\3" + WHOLE[4:]),
    "one axis": gzip.compress(idx(np.zeros(8, np.uint8))),
    "little-endian": gzip.compress(WHOLE[:4] + struct.pack("<3I", 2, 3, 4) + WHOLE[16:]),
    "huge": gzip.compress(WHOLE[:4] + b"\xff" * 12 + WHOLE[16:]),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_idx_files_are_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(DAMAGED[damage])
    with pytest.raises(InvalidInputError, match=r"expected a gzipped IDX file") as caught:
        read_idx(path, axes=3)
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_or_contradict_each_other_are_refused(digits: Path) -> None:
    labels = digits / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx(np.zeros(15, np.uint8))))
    with pytest.raises(InvalidInputError, match="16 images and its label file 15 labels"):
        load_data(digits)
    labels.write_bytes(gzip.compress(idx(np.full(16, 10, np.uint8))))
    with pytest.raises(InvalidInputError, match="label 10"):
        load_data(digits)
    labels.unlink()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_data(digits)


def test_weights_come_from_state_dicts_cascades_and_nothing_else(tmp_path: Path) -> None:
    path, state = tmp_path / "w.pth", load_digits_model("digits_robust").state_dict()
    for content, count in (
        (state, 1),
        ({"state_dict": state}, 1),
        ({"state_dict": [state] * 3}, 3),
    ):
        torch.save(content, path)
        models = load_models(path)
        assert len(models) == count
        assert all(same(dict(model.state_dict()), dict(state)) for _, model in models)
    cut = {name: tensor for name, tensor in state.items() if name != "0.bias"}
    for content in ({}, [1], cut, state | {"0.bias": torch.zeros(3)}, Path("pickled")):
        torch.save(content, path)
        with pytest.raises(ModelFileError, match=r"w.pth"):
            load_models(path)


# -- errors


def shipped() -> Split:
    x, y = load_digits_images()
    return Split((16 * x).to(torch.uint8), y, 16)


@pytest.mark.parametrize(
    ("name", "norm", "radius"),
    [
        ("digits_standard", math.inf, 0.03),
        ("digits_standard", 2, 0.4),
        ("digits_robust", math.inf, 0.14),
        ("digits_robust", 2, 0.4),
    ],
)
def test_errors_are_in_order_and_the_exact_ones_those_of_cvxpy(
    name: Any, norm: float, radius: float
) -> None:
    model, images = load_digits_model(name), shipped()
    found, seconds = errors(model, images, Question(radius=radius, norm=norm), device=CPU)
    assert set(found) == set(seconds) == set(KINDS)
    for less, more in itertools.pairwise(KINDS):
        assert (found[less] <= found[more]).all()
    assert next(model.parameters()).dtype == torch.float32
    x = images.pixels(slice(None), torch.zeros((), dtype=torch.float64))
    assert torch.equal(found["clean"], model.double()(x).argmax(1) != images.labels)
    # Every image that PGD does not decide, by another solver.
    left = (found["fixed"] & ~found["pgd"]).nonzero().flatten()
    network = bounds.Network.from_torch(model, (1, 8, 8))
    ball = bounds.Ball(x[left], radius=radius, norm=norm, lower=0.0, upper=1.0)
    relaxation = bounds.relax(network, ball, bounds.margins(images.labels[left], 10))
    optima = torch.as_tensor(lp_reference.solve(relaxation).value)
    unproved = found["exact"][left]
    assert torch.equal(unproved, (optima <= 0).any(1))
    assert set(unproved.tolist()) == {False, True}


def test_an_attack_that_breaks_a_certified_image_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "trusted", lambda solution: torch.ones_like(solution.lower))
    with pytest.raises(BoundsError, match=r"image that is .* was certified"):
        errors(load_digits_model("digits_standard"), shipped(), Question(radius=0.1), device=CPU)


def test_evaluate_writes_its_figures_and_a_picture(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, figures, picture = (tmp_path / name for name in ("w.pth", "out.json", "out.png"))
    torch.save(load_digits_model("digits_robust").state_dict(), weights)
    options = ["--json", str(figures), "--plot", str(picture), "--images", "8", "--no-exact"]
    assert mnist.main(["evaluate", str(weights), "--data", str(digits), *options]) == 0
    record = json.loads(figures.read_text())
    assert record["images"] == 8
    assert set(record["errors_percent"]) == {"clean", "fgs", "pgd", "fixed"}
    assert record["errors_percent"]["fixed"] == 100 * len(record["indices"]["fixed"]) / 8
    assert record["question"]["norm"] == "inf"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "not certified by the fixed slope" in capsys.readouterr().out


def test_a_cascade_is_refused(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "w.pth"
    torch.save({"state_dict": [load_digits_model("digits_robust").state_dict()] * 2}, weights)
    assert mnist.main(["evaluate", str(weights), "--data", str(digits)]) == 2
    assert "a cascade of 2 networks" in capsys.readouterr().err


def published(shared_data: Path) -> tuple[Any, Split]:
    [(_, model)] = load_models(shared_data / "models/convex_adversarial/models_mnist.pth")
    return model, load_data(shared_data / "mnist").test


def test_errors_of_the_published_network_on_100_images(shared_data: Path) -> None:
    model, images = published(shared_data)
    question = Question(radius=0.1, steps=10)
    found, _ = errors(model, images.first(100), question, device=CPU)
    for less, more in itertools.pairwise(KINDS):
        assert (found[less] <= found[more]).all()
    assert (int(found["clean"].sum()), int(found["fixed"].sum())) == (1, 4)


@pytest.mark.slow
def test_the_published_errors_are_found_again(shared_data: Path) -> None:
    """The README of convex_adversarial: 1.8 % wrong and 5.8 % not certified of 10,000 images."""
    model, images = published(shared_data)
    found, _ = errors(model, images, Question(radius=0.1, steps=1, exact=False), device=CPU)
    assert round(100 * float(found["clean"].double().mean()), 1) == 1.8
    assert round(100 * float(found["fixed"].double().mean()), 1) == 5.8
