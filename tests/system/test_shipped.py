"""The shipped digits models are the ones that their README describes."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bounds
from bounds.models import DIGITS_CLASSES, DIGITS_SHAPE, load_digits_images, load_digits_model

NAMES: tuple[Any, ...] = ("digits_standard", "digits_robust")
MODELS = resources.files("bounds").joinpath("models")
README = MODELS.joinpath("README.md").read_text(encoding="utf-8")


def recorded(name: str) -> list[float]:
    """The README's clean error, then its certified errors at 0.05, 0.1 and 0.15; as shares."""
    (row,) = re.findall(rf"^\| {name} \|(.*)\|$", README, re.MULTILINE)
    return [float(cell.strip().removesuffix("%")) / 100 for cell in row.split("|")]


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_on_the_shipped_images_is_as_recorded(name: Any) -> None:
    model = load_digits_model(name)
    images, labels = load_digits_images()
    right = int((model(images).argmax(1) == labels).sum())
    (claimed,) = re.findall(rf"`{name}` gets (\d+) right", README)
    assert right == int(claimed)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_errors_on_the_held_out_images_are_as_recorded(name: Any) -> None:
    """Measured again where scikit-learn has the data: the split is that of seed 0."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:360]
    x, y = images[order], torch.tensor(digits.target)[order]
    shipped = load_digits_images()
    assert torch.equal(shipped[0], x[:16])
    assert torch.equal(shipped[1], y[:16])

    model = load_digits_model(name)
    network = bounds.from_torch(model, DIGITS_SHAPE)
    clean = float((model(x).argmax(1) != y).double().mean())
    with torch.no_grad():
        ball = bounds.Ball(x, radius=0.1, lower=0.0, upper=1.0)
        relaxation = bounds.relax(network, ball, bounds.margins(y, DIGITS_CLASSES))
        proved = bounds.solve(relaxation, method="fixed_slope").verified
    certified = 1 - float(proved.double().mean())
    # One image may change sides with the rounding of another machine.
    expected = (recorded(name)[0], recorded(name)[2])
    assert (clean, certified) == pytest.approx(expected, abs=0.0005 + 1 / 360)


def test_robust_training_pays() -> None:
    standard, robust = recorded("digits_standard"), recorded("digits_robust")
    assert standard[2] > 0.9
    assert robust[2] < 0.3


def test_models_and_images_have_the_documented_form() -> None:
    images, labels = load_digits_images()
    assert images.shape == (16, *DIGITS_SHAPE)
    assert images.dtype == torch.float32
    assert 0 <= images.min() <= images.max() <= 1
    assert labels.shape == (16,)
    assert labels.dtype == torch.int64
    for name in NAMES:
        model = load_digits_model(name)
        assert not model.training
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert model(images).shape == (16, DIGITS_CLASSES)
    assert not torch.equal(*(next(load_digits_model(name).parameters()) for name in NAMES))


def test_unknown_model_is_refused() -> None:
    with pytest.raises(bounds.InvalidInputError, match=r"expected one of 'digits_standard', 'digi"):
        load_digits_model("mnist")  # type: ignore[arg-type]


def test_files_are_small_and_hold_no_pickle() -> None:
    files = [Path(str(file)) for file in MODELS.iterdir()]
    assert {f.name for f in files} >= {"README.md", "digits_images.npz"}
    assert sum(f.stat().st_size for f in files) < 200_000
    for file in files:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as data:
                for key in data.files:
                    assert data[key].dtype.kind in "fi"
