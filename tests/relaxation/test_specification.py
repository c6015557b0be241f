"""Specifications: margins against the outputs of a network, and how rows spread over a batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bounds import Specification, from_torch, margins
from tests.support.networks import Architecture, Dice, architectures, seeds


def evaluate(specification: Specification, z: Tensor) -> Tensor:
    """C z + d for outputs of shape (batch, *output_shape)."""
    C, d = specification.resolve(len(z), tuple(z.shape[1:]), z)
    assert C.shape == (*d.shape, *z.shape[1:])
    return (C * z.unsqueeze(1)).flatten(2).sum(2) + d


@given(architectures(depth=2), st.integers(1, 3), st.booleans(), seeds)
def test_margins_are_differences_of_outputs(
    architecture: Architecture, batch: int, one_label: bool, seed: int
) -> None:
    dice, model = Dice(seed), architecture.build()
    z = model(dice.normal(batch, *architecture.input_shape))
    classes = z.shape[1]
    labels = dice.below(classes, batch)
    if one_label:
        labels[:] = labels[0]
    specification = margins(label=int(labels[0]) if one_label else labels, classes=classes)
    actual = evaluate(specification, z)
    assert actual.shape == (batch, classes - 1)
    for image, y in enumerate(labels.tolist()):
        expected = [float(z[image, y] - z[image, j]) for j in range(classes) if j != y]
        assert actual[image].tolist() == expected


def test_margins_in_rising_order() -> None:
    assert margins(label=1, classes=4).C.tolist() == [[-1, 1, 0, 0], [0, 1, -1, 0], [0, 1, 0, -1]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_margins_of_other_integer_types(dtype: torch.dtype) -> None:
    """MNIST labels come as uint8, which torch takes for a mask where it indexes."""
    labels = torch.tensor([2, 1, 1])
    assert torch.equal(margins(labels.to(dtype), classes=3).C, margins(labels, classes=3).C)
    assert torch.equal(margins(labels[0].to(dtype), classes=3).C, margins(2, classes=3).C)


shapes = st.sampled_from([(4,), (2, 2), (1, 2, 3)])


@given(shapes, st.integers(1, 3), st.integers(1, 4), st.sampled_from("-rb"), seeds)
def test_rows_for_all_inputs(
    shape: tuple[int, ...], batch: int, rows: int, offset: str, seed: int
) -> None:
    dice = Dice(seed)
    z = dice.normal(batch, *shape)
    C = dice.normal(rows, z[0].numel())
    d = {"-": None, "r": dice.normal(rows), "b": dice.normal(batch, rows)}[offset]
    expected = z.flatten(1) @ C.mT + (0 if d is None else d)
    actual = evaluate(Specification(C, d), z)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)


@given(shapes, st.integers(1, 3), st.integers(1, 4), st.sampled_from("-rb"), seeds)
def test_rows_of_each_inputs_own(
    shape: tuple[int, ...], batch: int, rows: int, offset: str, seed: int
) -> None:
    dice = Dice(seed)
    z = dice.normal(batch, *shape)
    C = dice.normal(batch, rows, z[0].numel())
    d = {"-": None, "r": dice.normal(rows), "b": dice.normal(batch, rows)}[offset]
    expected = torch.einsum("brn,bn->br", C, z.flatten(1)) + (0 if d is None else d)
    actual = evaluate(Specification(C, d), z)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)


def test_rows_take_the_inputs_dtype() -> None:
    z = torch.zeros(1, 3, dtype=torch.float32)
    C, d = margins(label=0, classes=3).resolve(1, (3,), z)
    assert C.dtype == d.dtype == torch.float32


def test_rows_of_an_image_are_in_the_order_of_its_flattening() -> None:
    network = from_torch(nn.Conv2d(1, 1, 1).requires_grad_(False), (1, 2, 2))
    z = network(torch.arange(4.0).reshape(1, 1, 2, 2))
    rows = evaluate(Specification(torch.eye(4)), z)
    assert torch.equal(rows, z.flatten(1))
