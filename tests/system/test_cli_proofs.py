"""`bounds evaluate --proofs` and `bounds check FOLDER`: a data set, proved to strangers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bounds.models import load_digits_images
from tests.conftest import Run
from tests.support.queries import write

RADII = ("--radius", "1/64", "0.15", "--clip", "0", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x, y = load_digits_images()
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, images=x[:9].numpy(), labels=y[:9].numpy())
    return path


@pytest.fixture
def proofs(run: Run, data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "proofs"
    command = ("evaluate", "digits_robust", "--data", data, *RADII, "--proofs", folder)
    status, _, err = run(*command, "--json", tmp_path / "run.json")
    assert (status, err) == (0, "")
    return folder


def checked(run: Run, proofs: Path, *options: Any) -> tuple[int, str, dict[str, Any]]:
    report = proofs.with_name("check.json")
    status, out, err = run("check", proofs, "digits_robust", *options, "--json", report)
    assert err == ""
    return status, out, json.loads(report.read_text())


def test_what_is_evaluated_is_proved_again(run: Run, data: Path, proofs: Path) -> None:
    said = json.loads(proofs.with_name("run.json").read_text())["results"]
    status, out, record = checked(run, proofs, "--data", data, *RADII)
    assert checked(run, proofs, "--data", data, *RADII, "--jobs", "2") == (status, out, record)
    assert status == 0
    assert "PROVED: what" in out
    assert record["accepted"]
    methods = {result["method"] for result in said if result["status"] == "proved"}
    assert len(methods) > 1  # by one pass, and by what is tried on each image alone
    for own in record["proved"]:
        assert own["images"] == [
            result["image"]
            for result in said
            if result["radius"] == own["radius"] and result["status"] == "proved"
        ]
    # Of other radii, boxes and labels they prove less, or nothing.
    _, _, wider = checked(run, proofs, "--data", data, "--radius", "0.16", "--clip", "0", "1")
    assert wider["proved"] == [{"radius": "0.16", "images": []}]
    _, _, whole = checked(run, proofs, "--data", data, "--radius", "0.15")
    assert whole["proved"] == [{"radius": "0.15", "images": []}]
    images = np.load(data)["images"]
    others = proofs.with_name("others.npz")
    np.savez(others, images=images, labels=(np.load(data)["labels"] + 1) % 10)
    _, _, other = checked(run, proofs, "--data", others, *RADII)
    assert [own["images"] for own in other["proved"]] == [[], []]


def test_a_model_file_of_several_outputs(run: Run, tmp_path: Path) -> None:
    """z = relu(x) and z − x: of the first, an answer is right while it is the larger."""
    nodes = [("Relu", "x", "z"), ("Sub", "z x", "rest")]
    model = write(tmp_path / "model.onnx", nodes, {"x": [1, 2]}, {"z": [1, 2], "rest": [1, 2]})
    np.savez(tmp_path / "x.npz", images=np.array([[1.0, 0.5], [1.0, 0.9]]), labels=[0, 0])
    asked = ("--data", tmp_path / "x.npz", "--radius", "0.2")
    status, _, err = run("evaluate", model, *asked)
    assert (status, err.count("\n")) == (2, 1)
    assert "2 outputs ['z', 'rest']" in err
    report, folder = tmp_path / "run.json", tmp_path / "proofs"
    own = ("--output", "z", *asked)
    status, _, err = run("evaluate", model, *own, "--proofs", folder, "--json", report)
    assert (status, err) == (0, "")
    found = [result["status"] for result in json.loads(report.read_text())["results"]]
    assert found == ["proved", "attacked"]
    status, out, _ = run("check", folder, model, *own)
    assert status == 0
    assert "PROVED" in out


def test_what_was_edited_is_rejected(run: Run, data: Path, proofs: Path) -> None:
    first, *others = sorted(proofs.iterdir())
    _, _, before = checked(run, proofs, "--data", data, *RADII)
    content = first.read_bytes()
    first.write_bytes(content[:-8] + bytes(8))
    status, out, record = checked(run, proofs, "--data", data, *RADII)
    assert (status, record["accepted"]) == (1, False)
    assert record["rejections"][0]["file"] == first.name
    assert "REJECTED: 1 claim does not follow." in out
    first.write_bytes(content[: len(content) // 2])
    status, _, record = checked(run, proofs)
    assert (status, record["proved"]) == (1, None)
    assert "safetensors" in record["rejections"][0]["reason"]
    first.unlink()
    status, _, record = checked(run, proofs, "--data", data, *RADII)
    assert (status, record["files"]) == (0, len(others))
    assert sum(len(own["images"]) for own in record["proved"]) < sum(
        len(own["images"]) for own in before["proved"]
    )


def test_what_does_not_go_together_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"")
    evaluate = ("evaluate", "digits_robust", "--data", data, *RADII, "--proofs")
    for command, message in (
        ((*evaluate, tmp_path / "no" / "folder"), "cannot make the folder"),
        ((*evaluate, file), "cannot make the folder"),
        ((*evaluate, empty, "--norm", "2"), "proofs are about boxes"),
        (("check", empty, "digits_robust"), "has no .safetensors file"),
        (("check", empty, "digits_robust", "--vnnlib", "a"), "go with one file"),
        (("check", file, "digits_robust", "--data", data), "--data goes with a folder"),
    ):
        status, _, err = run(*command)
        assert (status, err.count("\n")) == (2, 1), err
        assert message in err
    (empty / "a.safetensors").write_bytes(b"")
    for options, message in (
        (("--data", data), "--radius is missing"),
        (RADII, "--radius goes with --data"),
    ):
        status, _, err = run("check", empty, "digits_robust", *options)
        assert (status, err.count("\n")) == (2, 1), err
        assert message in err
