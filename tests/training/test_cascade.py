"""Cascades: against networks asked one by one, and what a stage does and does not promise."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bounds
from benchmarks.published.tables import mnist
from bounds import Ball, CascadeAnswer, InvalidInputError, cascade
from tests.support.networks import Dice, seeds
from tests.support.refusals import refused

INPUTS, CLASSES = 3, 3


def networks(dice: Dice, count: int) -> list[nn.Module]:
    models: list[nn.Module] = []
    for _ in range(count):
        model = nn.Sequential(nn.Linear(INPUTS, 8), nn.ReLU(), nn.Linear(8, CLASSES)).double()
        for parameter in model.parameters():
            parameter.data = dice.normal(*parameter.shape)
        models.append(model)
    return models


def one_by_one(models: list[nn.Module], x: Tensor, **ball: Any) -> tuple[int, int]:
    """The stage and the prediction of one input, from the sound bounds of each margin."""
    for stage, model in enumerate(models):
        [scores] = model(x.unsqueeze(0)).tolist()
        prediction = scores.index(max(scores))
        relaxation = bounds.relax(
            bounds.from_torch(model, x.shape),
            Ball(x, **ball),
            bounds.margins(prediction, len(scores)),
        )
        if bool(bounds.solve(relaxation, method="fixed_slope").verified):
            return stage, prediction
    return -1, prediction


@settings(max_examples=max(1, settings().max_examples // 3))
@given(
    st.integers(1, 3),
    st.sampled_from([math.inf, 1, 2]),
    st.sampled_from(["number", "input"]),
    seeds,
)
def test_the_first_network_that_proves_its_own_answer(
    count: int, norm: float, given_as: str, seed: int
) -> None:
    """With radii and boxes an input, which go with the inputs that are left."""
    dice, batch = Dice(seed), 5
    models, x = networks(dice, count), dice.normal(batch, INPUTS)
    radius = dice.uniform(batch) / 2 if given_as == "input" else torch.tensor(0.2).double()
    ends = x - dice.uniform(batch, INPUTS) / 4, x.amax(1) + dice.uniform(batch)
    answer = cascade(models, x, radius=radius, norm=norm, lower=ends[0], upper=ends[1])
    for i in range(batch):
        alone = {"radius": radius.expand(batch)[i], "lower": ends[0][i], "upper": ends[1][i]}
        expected = one_by_one(models, x[i], norm=norm, **alone)
        assert (int(answer.stage[i]), int(answer.prediction[i])) == expected
    order = torch.randperm(batch, generator=dice.generator)
    boxes = {"lower": ends[0][order], "upper": ends[1][order]}
    same = cascade(models, x[order], radius=radius.expand(batch)[order], norm=norm, **boxes)
    assert torch.equal(same.stage, answer.stage[order])
    assert torch.equal(same.prediction, answer.prediction[order])


@settings(max_examples=max(1, settings().max_examples // 3))
@given(seeds)
def test_another_network_changes_no_proved_answer(seed: int) -> None:
    dice = Dice(seed)
    models, x = networks(dice, 3), dice.normal(20, INPUTS)
    few, more = (cascade(models[:n], x, radius=0.3) for n in (2, 3))
    proved = few.stage >= 0
    assert torch.equal(more.stage[proved], few.stage[proved])
    assert torch.equal(more.prediction[proved], few.prediction[proved])
    assert (more.stage[~proved] % 3 == 2).all()  # −1 or 2


def test_every_outcome_occurs() -> None:
    dice = Dice(0)
    models, x = networks(dice, 3), dice.normal(50, INPUTS)
    assert set(cascade(models, x, radius=0.3).stage.tolist()) == {-1, 0, 1, 2}


def steps(*thresholds: float) -> list[nn.Module]:
    """Networks of one input that answer 1 above their threshold and 0 below."""
    models: list[nn.Module] = []
    for threshold in thresholds:
        model = nn.Linear(1, 2).double()
        model.weight.data = torch.tensor([[-1.0], [1.0]]).double()
        model.bias.data = torch.tensor([threshold, -threshold]).double()
        models.append(nn.Sequential(model))
    return models


def test_a_stage_is_a_promise_of_its_network_alone() -> None:
    """Nearby, an earlier network proves another class: what the docstring warns of."""
    x = torch.tensor([[0.0], [0.5]]).double()
    answer = cascade(steps(-0.5, 2), x, radius=1.0)
    assert answer.stage.tolist() == [1, 1]
    assert answer.prediction.tolist() == [0, 0]
    nearby = cascade(steps(-0.5, 2), x + 0.9, radius=1.0)
    assert nearby.stage.tolist() == [0, 0]
    assert nearby.prediction.tolist() == [1, 1]


@settings(max_examples=max(1, settings().max_examples // 3))
@given(st.integers(1, 3), st.sampled_from([math.inf, 1, 2]), seeds)
def test_what_holds_for_the_cascade_as_a_whole(count: int, norm: float, seed: int) -> None:
    """A class that a network proves anywhere in the ball is what it predicts at the centre; and
    where all agree and the last proves it, no point of the ball is answered differently."""
    dice = Dice(seed)
    models, x, radius = networks(dice, count), dice.normal(6, INPUTS), 0.25
    points = (
        Ball(x, radius=radius, norm=norm)
        .resolve((INPUTS,))
        .project(x.unsqueeze(1) + (2 * dice.uniform(6, 50, INPUTS) - 1) * radius * 0.999)
    )
    near = cascade(models, points.flatten(0, 1), radius=radius, norm=norm)
    stage, prediction = near.stage.reshape(6, 50), near.prediction.reshape(6, 50)
    centre = torch.stack([model(x).argmax(1) for model in models])
    for k in range(count):
        assert (prediction == centre[k].unsqueeze(1))[stage == k].all()
    agree = (centre == centre[-1]).all(0)
    whole = agree & (cascade(models[-1:], x, radius=radius, norm=norm).stage == 0)
    assert (prediction == centre[-1].unsqueeze(1))[whole].all()


def test_wrong_is_unproved_or_another_class() -> None:
    answer = CascadeAnswer(torch.tensor([0, 0, -1, -1, 2]), torch.tensor([3, 4, 3, 4, 3]))
    assert answer.wrong(torch.full((5,), 3)).tolist() == [False, True, True, True, False]
    refused(
        lambda: answer.wrong(torch.zeros(5, 1).long()),
        InvalidInputError,
        "CascadeAnswer.wrong",
        "(5, 1)",
    )


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_network_of_numbers_that_are_none_is_refused(broken: float) -> None:
    for spoiled in (0, 2):
        good, bad = networks(Dice(1), 2)
        bad[spoiled].weight.data[0, 0] = broken  # type: ignore[index]
        x = Dice(2).normal(9, INPUTS)
        refused(lambda: cascade([bad, good], x, radius=0.1), InvalidInputError, "NaN")  # noqa: B023


def test_what_is_no_sequence_of_networks_is_refused() -> None:
    [model] = networks(Dice(0), 1)
    x = torch.zeros(2, INPUTS).double()
    refused(lambda: cascade(model, x, radius=0.1), InvalidInputError, "Sequential", "list")  # type: ignore[arg-type]
    refused(lambda: cascade([], x, radius=0.1), InvalidInputError, "no models")
    listed = cascade(nn.ModuleList([model]), x, radius=0.1)
    assert torch.equal(listed.stage, cascade([model], x, radius=0.1).stage)
    message = "could be one number an input"
    square = torch.zeros(INPUTS, INPUTS).double()
    refused(lambda: cascade([model], square, radius=torch.ones(3)), InvalidInputError, message)


# -- the published cascades


def published(path: Path, channels: int, hidden: int) -> tuple[list[nn.Module], dict[str, Any]]:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    models: list[nn.Module] = []
    for state in saved["state_dict"]:
        model = nn.Sequential(
            *(nn.Conv2d(channels, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(hidden, 100), nn.ReLU(), nn.Linear(100, 10)),
        )
        model.load_state_dict(state)
        models.append(model)
    return models, saved


def test_the_published_mnist_cascade(shared_data: Path) -> None:
    """Its training recorded which examples each further network was given. Their bounds were
    estimates by random projections, with which ours agree but for a few."""
    folder = shared_data / "models" / "convex_adversarial"
    models, saved = published(folder / "models_scaled_mnist_small_0_3.pth", 1, 1568)
    with gzip.open(shared_data / "mnist" / "train-images-idx3-ubyte.gz") as stream:
        pixels = np.frombuffer(stream.read(16 + 784 * 100), np.uint8, offset=16)
    x = torch.from_numpy(pixels / 255).float().reshape(-1, 1, 28, 28)
    answer = cascade(models, x, radius=0.3)
    for stage, given_on in enumerate(saved["sampler_indices"]):
        theirs = torch.isin(torch.arange(len(x)), given_on)
        ours = (answer.stage < 0) | (answer.stage > stage)
        assert (ours == theirs).float().mean() > 0.9
        assert 5 < ours.sum() < 50
    for i in range(0, len(x), 10):
        expected = one_by_one(models, x[i], radius=0.3)
        assert (int(answer.stage[i]), int(answer.prediction[i])) == expected


def test_the_published_cifar_cascade(shared_data: Path) -> None:
    folder = shared_data / "models" / "convex_adversarial"
    models, _ = published(folder / "models_scaled_cifar_small_8px.pth", 3, 2048)
    with np.load(shared_data / "cifar10" / "cifar10_test_first100_eran.npz") as data:
        pixels = torch.from_numpy(data["images"][:20] / 255).float()
    x = (pixels - torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)) / 0.225
    answer = cascade(models, x, radius=8 / 255 / 0.225)
    assert len(answer.stage.unique()) > 2
    for i in range(0, len(x), 4):
        expected = one_by_one(models, x[i], radius=8 / 255 / 0.225)
        assert (int(answer.stage[i]), int(answer.prediction[i])) == expected


@pytest.mark.slow
def test_the_published_mnist_error(shared_data: Path) -> None:
    """The file says which share of the test images counts as errors: 3364 of 10,000. A few change
    sides where an interval is tighter than a backward bound, or by rounding in float32."""
    folder = shared_data / "models" / "convex_adversarial"
    models, saved = published(folder / "models_scaled_mnist_small_0_3.pth", 1, 1568)
    wrong = 0
    images, labels = mnist(shared_data)
    for x, y in zip(images.float().split(250), labels.split(250), strict=True):
        wrong += int(cascade(models, x, radius=0.3, lower=0.0, upper=1.0).wrong(y).sum())
    assert abs(wrong - round(10_000 * saved["err"])) <= 20
