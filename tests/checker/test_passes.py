"""The checker's passes in float64: no bound is above what is true over the rationals."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bounds
from bounds.checker import floats
from bounds.checker.batch import Batch
from bounds.checker.passes import Passes
from tests.support.networks import Architecture, Dice, architectures, seeds
from tests.support.rational import evaluate
from tests.support.referee import random_relaxation


def corners(lower: np.ndarray, upper: np.ndarray) -> list[list[Fraction]]:
    """Of the one box."""
    ends = zip(lower[0], upper[0], strict=True)
    return [[Fraction(float(end)) for end in corner] for corner in itertools.product(*ends)]


def dot(row: np.ndarray, y: list[Fraction]) -> Fraction:
    return sum((Fraction(float(a)) * b for a, b in zip(row, y, strict=True)), Fraction(0))


def nothing(passes: Passes, boxes: int) -> np.ndarray:
    return np.zeros((boxes, passes.neurons), dtype=np.int8)


@given(seeds, st.integers(1, 4), st.sampled_from([0, 1, 2]), st.sampled_from([-300, -20, 0, 40]))
def test_rows_are_sound_where_rounding_is_all_that_counts(
    seed: int, inputs: int, hidden: int, exponent: int
) -> None:
    """All ReLUs are active, so that the bound is the minimum, up to rounding; terms cancel."""
    dice, layers = Dice(seed), []
    sizes = [inputs, *[3] * hidden, 2]
    for k, (before, after) in enumerate(itertools.pairwise(sizes)):
        layer = nn.Linear(before, after).double().requires_grad_(False)
        scale = 2.0**exponent if k == 0 else 1.0
        layer.weight.copy_(dice.normal(after, before) * scale)
        layer.bias.copy_((dice.normal(after) + 100 * (k < hidden)) * 2.0 ** (max(exponent, 0)))
        layers += [layer, nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    middle, reach = dice.normal(1, inputs), dice.uniform(1, inputs) / 1024
    lower, upper = (middle - reach).numpy(), (middle + reach).numpy()
    passes = Passes(bounds.from_torch(model, (inputs,)))
    batch = Batch(passes, lower, upper, nothing(passes, 1))
    C, d = dice.normal(1, 3, 2).numpy(), dice.normal(1, 3).numpy()
    for adaptive in (False, True):
        forms = batch.rows(C, d, np.array([0]), np.array([adaptive]))
        values = [
            [dot(row, evaluate(model, x)) + Fraction(float(off)) for x in corners(lower, upper)]
            for row, off in zip(C[0], d[0], strict=True)
        ]
        for least, each in zip(forms.least[0], values, strict=True):
            size = (
                float(max(map(abs, each))) + float(np.abs(d).max()) + 100 * 2.0 ** max(exponent, 0)
            )
            assert Fraction(float(least)) <= min(each)
            assert float(min(each) - Fraction(float(least))) <= 1e-9 * size


@given(architectures(plain=True, kinds=("vector",)), seeds, st.sampled_from([0.01, 0.2, 1.0]))
def test_rows_and_bounds_hold_at_points(
    architecture: Architecture, seed: int, radius: float
) -> None:
    """Of drawn networks, in float64 and up to their own rounding; the linear forms too."""
    network, dice = architecture.network(), Dice(seed)
    x = dice.normal(3, *network.input_shape)
    lower, upper = (x - radius).flatten(1), (x + radius).flatten(1)
    passes = Passes(network)
    batch = Batch(passes, lower.numpy(), upper.numpy(), nothing(passes, 3))
    assert batch.usable.all()
    outputs = math.prod(network.output_shape)
    C, d = dice.normal(3, 2, outputs), dice.normal(3, 2)
    share = dice.uniform(40, 3, lower.shape[1])
    points = lower + (upper - lower) * share
    points[:2] = torch.stack((lower, upper))
    values: list[torch.Tensor] = []

    def keep(position: int, value: torch.Tensor) -> torch.Tensor:
        values.append(value)
        return value.clamp(min=0)

    y = network.evaluate(points.flatten(0, 1).unflatten(1, network.input_shape), keep)
    for face, value in zip(batch.faces, values, strict=True):
        at = value.reshape(40, 3, -1).numpy()
        slack = 1e-9 * (1 + np.abs(at).max())
        assert (face.lower - slack <= at).all()
        assert (at <= face.upper + slack).all()
    rows = torch.einsum("bro,pbo->pbr", C, y.reshape(40, 3, -1)) + d
    slack = 1e-9 * (1 + float(rows.abs().max()))
    for adaptive in (np.zeros(3, bool), np.ones(3, bool), np.array([True, False, True])):
        forms = batch.rows(C.numpy(), d.numpy(), np.arange(3), adaptive)
        assert (forms.least <= rows.numpy() + slack).all()
        # ⟨c, x⟩ + k, with the k that gives `least` on the box.
        c = forms.c
        k = forms.least - (np.maximum(c, 0) * lower.numpy()[:, None]).sum(2)
        k = k - (np.minimum(c, 0) * upper.numpy()[:, None]).sum(2)
        linear = np.einsum("brj,pbj->pbr", c, points.numpy()) + k
        assert (linear <= rows.numpy() + slack).all()


@given(seeds, st.sampled_from([0.05, 0.5]))
def test_they_are_as_tight_as_those_of_the_solver(seed: int, radius: float) -> None:
    """The same multipliers, by other code: equal up to rounding, l and u included."""
    relaxation = random_relaxation(4, 8, 8, 3, seed=seed, radius=radius)
    relaxation = bounds.relax(
        relaxation.network,
        bounds.Box(relaxation.input_set.lower, relaxation.input_set.upper),
        bounds.margins(0, 3),
        slope="adaptive",
    )
    passes = Passes(relaxation.network)
    ends = relaxation.input_set.lower.numpy(), relaxation.input_set.upper.numpy()
    batch = Batch(passes, *ends, nothing(passes, 2))
    for face, neurons in zip(batch.faces, relaxation.relu_bounds, strict=True):
        # The lower ends of dead neurons matter to nobody, and the solver does not look for them.
        dead = neurons.upper.numpy() <= 0
        lower = np.where(dead, face.lower, neurons.lower.numpy())
        assert (face.lower >= neurons.lower.numpy() - 1e-9).all()
        np.testing.assert_allclose(face.lower, lower, atol=1e-9)
        np.testing.assert_allclose(face.upper, neurons.upper.numpy(), atol=1e-9)
    C, d = relaxation.C.numpy(), relaxation.d.numpy()
    for name in ("fixed", "adaptive"):
        forms = batch.rows(C, d, np.arange(2), np.full(2, name == "adaptive"))
        theirs = bounds.solve(relaxation, method=f"{name}_slope").lower  # type: ignore[arg-type]
        np.testing.assert_allclose(forms.least, theirs.numpy(), atol=1e-9)


def test_signs_that_are_known_are_used() -> None:
    """relu(x) on [−1, 1] with nothing known, x never negative, and never positive."""
    network = bounds.from_torch(nn.ReLU(), (1,), dtype=torch.float64)
    passes, one = Passes(network), np.ones((3, 1))
    batch = Batch(passes, -one, one, np.array([[0], [1], [-1]], dtype=np.int8))
    assert [face.lower.ravel().tolist() for face in batch.faces] == [[-1, 0, -1]]
    assert [face.upper.ravel().tolist() for face in batch.faces] == [[1, 1, 0]]
    assert batch.signs.ravel().tolist() == [0, 1, -1]


def test_what_overflows_proves_nothing() -> None:
    """10³⁰⁰ x, and that times 10³⁰⁰; +10³⁰⁸ makes it no better."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    model.requires_grad_(False)
    model[0].weight.fill_(1e300)
    model[2].weight.fill_(1e300)
    passes, one = Passes(bounds.from_torch(model, (1,))), np.ones((1, 1))
    with np.errstate(all="ignore"):
        batch = Batch(passes, -one, one, nothing(passes, 1))
        forms = batch.rows(one[:, None], 1e308 * one, np.array([0]), np.array([True]))
    assert not (forms.least > 0).any()


def test_flushed_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    floats.require_gradual_underflow()
    if torch.set_flush_denormal(True):
        try:
            with pytest.raises(bounds.BoundsError, match="flushes subnormal numbers"):
                floats.require_gradual_underflow()
        finally:
            torch.set_flush_denormal(False)
