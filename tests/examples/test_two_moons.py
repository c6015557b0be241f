"""The picture of the two moons: its geometry against sampling and closed forms, and a short run."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bounds import InvalidInputError
from examples import output_plane, two_moons
from tests.support.networks import Dice
from tests.support.refusals import refused

RADIUS = 0.4


def network(seed: int, width: int = 8) -> nn.Sequential:
    dice = Dice(seed)
    model = nn.Sequential(
        *(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)),
    ).double()
    for parameter in model.parameters():
        parameter.data = dice.normal(*parameter.shape)
    return model.requires_grad_(False)


def inside(polygon: np.ndarray, points: np.ndarray) -> bool:
    """Whether all points lie in a convex polygon, given counterclockwise, up to rounding."""
    edges = np.roll(polygon, -1, 0) - polygon
    offsets = points[:, None] - polygon
    turn = edges[:, 0] * offsets[..., 1] - edges[:, 1] * offsets[..., 0]
    return bool((turn >= -1e-6 * np.ptp(polygon, axis=0).prod()).all())


def area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def sampled(seed: int, centre: Tensor) -> Tensor:
    """Points of the square, its corners among them."""
    share = 2 * Dice(seed).uniform(2000, 2) - 1
    share[:1000] = share[:1000].sign() * share[:1000].abs() ** 0.05
    return centre + RADIUS * share


@pytest.mark.parametrize("seed", range(3))
def test_the_pieces_are_the_network(seed: int) -> None:
    """They tile the square, and the network is what it is at the corners and in the middle."""
    model, centre = network(seed), Dice(seed).normal(2)
    pieces = output_plane.linear_pieces(model, centre, RADIUS)
    assert len(pieces) > 3
    assert sum(area(piece[:, :2]) for piece in pieces) == pytest.approx(4 * RADIUS**2)
    for piece in pieces:
        assert area(piece[:, :2]) > 0
        assert np.abs(piece[:, :2] - centre.numpy()).max() <= RADIUS + 1e-9
        for x, z in (piece[:, :2], piece[:, 2:]), (piece[:, :2].mean(0), piece[:, 2:].mean(0)):
            np.testing.assert_allclose(model(torch.from_numpy(x)), z, atol=1e-9)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_each_shape_holds_the_one_before(seed: int, label: int) -> None:
    """Sampled outputs, the LP optima, one pass; and the optima are attained."""
    model, centre = network(seed), Dice(seed).normal(2)
    plane = output_plane.output_plane(model, centre, label, RADIUS)
    z = model(sampled(seed, centre)).numpy()
    points = z @ plane.axes.T
    np.testing.assert_allclose(points[:, 0], z[:, label] - z[:, 1 - label])
    assert inside(plane.exact, points)
    assert inside(plane.exact, np.vstack(plane.pieces))
    assert inside(plane.fixed_slope, plane.exact)
    assert not inside(plane.exact, plane.fixed_slope)
    assert inside(plane.exact, plane.attained)
    for end in (np.min, np.max):
        np.testing.assert_allclose(end(plane.attained, 0), end(plane.exact, 0), rtol=1e-5)


def test_of_a_network_that_is_affine_both_bounds_are_exact() -> None:
    """Where no ReLU cuts, the image is a parallelogram, of which every direction knows the ends."""
    model = network(0)
    model[0].bias.data += 100
    model[2].weight.data.abs_()
    matrix = model[4].weight @ model[2].weight @ model[0].weight
    middle = model(torch.zeros(2).double())
    plane = output_plane.output_plane(model, torch.zeros(2).double(), 0, RADIUS)
    assert len(plane.pieces) == 1
    axes = torch.from_numpy(plane.axes)
    reach = RADIUS * (axes @ matrix).abs().sum(1)
    for polygon in (plane.exact, plane.fixed_slope, plane.pieces[0]):
        np.testing.assert_allclose(polygon.min(0), axes @ middle - reach, rtol=1e-6)
        np.testing.assert_allclose(polygon.max(0), axes @ middle + reach, rtol=1e-6)


def test_an_outline_is_where_its_half_planes_meet() -> None:
    angles = np.arange(8) * math.pi / 4
    directions = 3 * np.stack([np.cos(angles), np.sin(angles)], 1)
    octagon = output_plane.outline(directions, np.full(8, -6.0))
    assert len(octagon) == 8
    assert area(octagon) == pytest.approx(8 * 2**2 * math.tan(math.pi / 8))
    np.testing.assert_allclose(np.linalg.norm(octagon, axis=1), 2 / math.cos(math.pi / 8))


def test_margins_of_a_judgement() -> None:
    """The least of each square against sampling, from above; the bounds below it."""
    x, y = two_moons.moons(0.2, 0)
    judgement = two_moons.judge(network(1), x, y, RADIUS)
    sign = 1 - 2 * y.numpy()

    def margins(points: Tensor) -> np.ndarray:
        z = network(1)(points).numpy()
        return sign * (z[:, 0] - z[:, 1])

    np.testing.assert_allclose(judgement.clean, margins(x))
    np.testing.assert_allclose(judgement.least, margins(torch.from_numpy(judgement.worst)))
    assert np.abs(judgement.worst - x.numpy()).max() <= RADIUS + 1e-9
    for shift in sampled(0, torch.zeros(2).double()):
        assert (judgement.least <= margins(x + shift) + 1e-9).all()
    assert (judgement.exact <= judgement.least + 1e-9).all()
    assert (judgement.fixed_slope <= judgement.exact + 1e-6).all()
    errors = judgement.errors()
    assert errors == sorted(errors)
    assert 0 < errors[0] < 1
    assert len(set(errors)) > 2


def test_moons_leave_room_for_the_squares() -> None:
    x, y = two_moons.moons(0.2, 3)
    distance = torch.cdist(x[y == 0], x[y == 1], p=math.inf)
    assert distance.shape == (two_moons.POINTS // 2, two_moons.POINTS // 2)
    assert distance.min() > 2 * 0.2
    for radius in (0.0, -0.1, 1.0):
        message = f"radius={radius}"
        refused(lambda: two_moons.moons(radius, 3), InvalidInputError, message, "0.2")  # noqa: B023


def test_a_short_run_draws_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "moons.png"
    monkeypatch.setattr(two_moons, "GRID", 20)
    arguments = ["two_moons.py", "--epochs", "2", "--radius", "0.15", "--output", str(picture)]
    monkeypatch.setattr(sys, "argv", arguments)
    two_moons.main()
    assert picture.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    for text in ("Standard", "Robust", "not proved", "moons.png"):
        assert text in printed.replace("\n", "")
