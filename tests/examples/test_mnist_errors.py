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
    findings = measure([model], images, Question(radius=radius, norm=norm, seed=1), device=CPU)
    found = findings.errors
    assert set(found) == set(findings.seconds) == set(KINDS) - {"broken", "complete"}
    for less, more in itertools.pairwise(kind for kind in KINDS if kind in found):
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
    kinds = {"clean", "fgs", "pgd", "broken", "complete", "fixed", "interval"}
    assert set(record["errors_percent"]) == kinds
    assert record["open"] == len(record["indices"]["open"])
    assert not list(tmp_path.glob("*.kept"))
    assert record["errors_percent"]["fixed"] == 100 * len(record["indices"]["fixed"]) / 8
    assert record["question"]["norm"] == "inf"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "not certified by the fixed slope" in capsys.readouterr().out


def test_the_search_decides_what_the_lp_leaves() -> None:
    """What it breaks is broken by an attack of many starts, and what it proves is not."""
    model, images = load_digits_model("digits_robust"), shipped()
    question = Question(radius=0.18, timeout=1000.0)
    findings = measure([model], images, question, device=CPU)
    found = findings.errors
    for less, more in itertools.pairwise(KINDS):
        assert (found[less] <= found[more]).all()
    assert findings.open is not None
    assert not findings.open.any()
    assert (found["complete"] & ~found["pgd"]).any()
    assert (found["exact"] & ~found["complete"]).any()
    x = images.pixels(slice(None), torch.zeros((), dtype=torch.float64))
    ball: dict[str, Any] = {"radius": 0.18, "lower": 0.0, "upper": 1.0}
    points = bounds.pgd(model.double(), x, images.labels, steps=100, restarts=20, **ball)
    assert torch.equal(model(points).argmax(1) != images.labels, found["complete"])


def test_an_evaluation_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After each chunk and batch of the search; the file of what is kept is none of the results."""
    digits, weights = write_digits(tmp_path / "data"), tmp_path / "w.pth"
    torch.save(load_digits_model("digits_robust").state_dict(), weights)
    monkeypatch.setattr(evaluation, "CHUNK", 3)
    records, certify, calls = [], bounds.certify, []

    def evaluate(name: str, *options: str) -> int:
        command = ["evaluate", str(weights), "--data", str(digits), "--radius", "0.18"]
        patience = "--timeout", "1000"
        return mnist.main([*command, *patience, "--json", str(tmp_path / name), *options])

    def stopped(*arguments: Any, **options: Any) -> Any:
        calls.append(len(arguments[1]))
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        return certify(*arguments, **options)

    assert evaluate("whole") == 0
    monkeypatch.setattr(bounds, "certify", stopped)
    for _ in range(10):
        try:
            assert evaluate("stopped") == 0
            break
        except KeyboardInterrupt:
            assert evaluate("stopped", "--steps", "3") == 2
            assert "the beginning of another evaluation" in capsys.readouterr().err
    assert len(calls) > 2
    for name in ("whole", "stopped"):
        records.append(json.loads((tmp_path / name).read_text()))
        del records[-1]["seconds"], records[-1]["environment"]
    assert records[0] == records[1]
    assert not list(tmp_path.glob("*.kept"))


def published(shared_data: Path) -> tuple[Any, Split]:
    [(_, model)] = load_models(shared_data / "models/convex_adversarial/models_mnist.pth")
    return model, load_data(shared_data / "mnist").test


def test_errors_of_the_published_network_on_100_images(shared_data: Path) -> None:
    model, images = published(shared_data)
    question = Question(radius=0.1, steps=3)
    found = measure([model], images.first(100), question, device=CPU).errors
    for less, more in itertools.pairwise(kind for kind in KINDS if kind in found):
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


@pytest.mark.parametrize(
    ("weights", "called", "radius", "most"),
    [
        ("mnist_0.1.pth", "wide", 0.1, {"clean": 0, "exact": 3, "fixed": 7, "interval": 40}),
        ("mnist_0.3.pth", "normed", 0.3, {"clean": 2, "exact": 12, "fixed": 13, "interval": 13}),
    ],
)
def test_the_weights_of_mixed_losses_are_as_good_as_their_table_says(
    weights: str, called: str, radius: float, most: dict[str, int], shared_data: Path
) -> None:
    """On the first 200 of 10,000 test images, without the search."""
    ((name, model),) = load_models(Path(mnist.__file__).parent / weights)
    assert name == called
    images = load_data(shared_data / "mnist").test.first(200)
    found = measure([model], images, Question(radius=radius), device=CPU).errors
    for kind, count in most.items():
        assert int(found[kind].sum()) <= count, kind
