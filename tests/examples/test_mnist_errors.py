"""The errors that the MNIST example measures: in order, against cvxpy, and as published."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import bounds
import lp_reference
from bounds import BoundsError
from bounds.models import load_digits_images, load_digits_model
from examples import evaluation, mnist
from examples.evaluation import KINDS, Question, measure
from examples.image_data import Split, load_data, load_models
from tests.support.mnist_files import write_digits

CPU = torch.device("cpu")


def shipped() -> Split:
    x, y = load_digits_images()
    return Split((16 * x).to(torch.uint8), y, 16)


@pytest.mark.parametrize(
    ("name", "norm", "radius"),
    [
        ("digits_standard", math.inf, 0.03),
        ("digits_standard", 2, 0.3),
        ("digits_robust", math.inf, 0.14),
        ("digits_robust", 2, 0.4),
    ],
)
def test_errors_are_in_order_and_the_exact_ones_those_of_cvxpy(
    name: Any, norm: float, radius: float
) -> None:
    model, images = load_digits_model(name), shipped()
    findings = measure([model], images, Question(radius=radius, norm=norm), device=CPU)
    found = findings.errors
    assert set(found) == set(findings.seconds) == set(KINDS)
    for less, more in itertools.pairwise(KINDS):
        assert (found[less] <= found[more]).all()
    assert next(model.parameters()).dtype == torch.float32
    x = images.pixels(slice(None), torch.zeros((), dtype=torch.float64))
    assert torch.equal(found["clean"], model.double()(x).argmax(1) != images.labels)
    # Every image that PGD does not decide, by another solver.
    left = (found["fixed"] & ~found["pgd"]).nonzero().flatten()
    network = bounds.from_torch(model, (1, 8, 8))
    ball = bounds.Ball(x[left], radius=radius, norm=norm, lower=0.0, upper=1.0)
    relaxation = bounds.relax(network, ball, bounds.margins(images.labels[left], 10))
    optima = torch.as_tensor(lp_reference.solve(relaxation).value)
    unproved = found["exact"][left]
    assert torch.equal(unproved, (optima <= 0).any(1))
    assert set(unproved.tolist()) == {False, True}


def test_one_row_that_stays_open_leaves_its_image_open() -> None:
    """Whichever row is tried first: here the first one, which is mostly proved."""
    model, images = load_digits_model("digits_robust").double(), shipped().first(8)
    x = images.pixels(slice(None), torch.zeros((), dtype=torch.float64))
    network = bounds.from_torch(model, (1, 8, 8))
    ball = bounds.Ball(x, radius=0.14, lower=0.0, upper=1.0)
    relaxation = bounds.relax(network, ball, bounds.margins(images.labels, 10))
    optima = torch.as_tensor(lp_reference.solve(relaxation).value)
    tried = torch.arange(len(x)) != 1
    proved = evaluation.proved_exactly(relaxation, torch.full_like(optima, -1), tried)
    expected = (optima > 0).all(1)
    assert torch.equal(proved, expected & tried)
    assert expected[1]
    assert ((optima[:, 0] > 0) & ~expected).any()


def test_an_attack_that_breaks_a_certified_image_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "trusted", lambda solution: torch.ones_like(solution.lower))
    with pytest.raises(BoundsError, match=r"image that is .* was certified"):
        measure([load_digits_model("digits_standard")], shipped(), Question(radius=0.1), device=CPU)


def test_evaluate_writes_its_figures_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = write_digits(tmp_path / "data")
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


def published(shared_data: Path) -> tuple[Any, Split]:
    [(_, model)] = load_models(shared_data / "models/convex_adversarial/models_mnist.pth")
    return model, load_data(shared_data / "mnist").test


def test_errors_of_the_published_network_on_100_images(shared_data: Path) -> None:
    model, images = published(shared_data)
    question = Question(radius=0.1, steps=3)
    found = measure([model], images.first(100), question, device=CPU).errors
    for less, more in itertools.pairwise(KINDS):
        assert (found[less] <= found[more]).all()
    assert (int(found["clean"].sum()), int(found["fixed"].sum())) == (1, 4)


@pytest.mark.slow
def test_the_published_errors_are_found_again(shared_data: Path) -> None:
    """The README of convex_adversarial, whose balls are not within the box of the pixels: 1.8 %
    wrong, 3.9 % broken by FGS and 5.8 % not certified, of 10,000 images."""
    model, images = published(shared_data)
    question = Question(radius=0.1, steps=1, exact=False, box=False)
    found = measure([model], images, question, device=CPU).errors
    shares = {kind: round(100 * float(found[kind].double().mean()), 1) for kind in found}
    assert (shares["clean"], shares["fgs"], shares["fixed"]) == (1.8, 3.9, 5.8)


def test_the_shipped_weights_are_as_good_as_the_readme_says(shared_data: Path) -> None:
    """On the first 200 of 10,000 test images."""
    ((_, model),) = load_models(Path(mnist.__file__).parent / "mnist_robust.pth")
    test = load_data(shared_data / "mnist").test
    images = Split(test.raw[:200], test.labels[:200], test.white)
    found = measure([model], images, Question(radius=0.1, exact=False), device=CPU).errors
    assert int(found["clean"].sum()) <= 3
    assert int(found["fixed"].sum()) <= 8
