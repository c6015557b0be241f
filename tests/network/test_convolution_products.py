"""Convolutions as matrix products against torch's own."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bounds.network import convolution_products
from bounds.network.convolution import Convolution, convolution_output_shape
from bounds.network.convolution_products import correlate, scatter
from bounds.network.memory import Numbers
from tests.support.layers import Dice
from tests.support.networks import seeds


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    """Kernels longer and shorter than the stride, and strides that leave rows over."""
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 8)), draw(st.integers(1, 8)))
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    room = [size + 2 * p for size, p in zip(shape[1:], padding, strict=True)]
    kernel = [draw(st.integers(1, min(5, r))) for r in room]
    weight = Dice(draw(seeds)).normal(draw(st.integers(1, 6)), shape[0], *kernel)
    output_shape = convolution_output_shape(shape, weight, stride, padding, (1, 1))
    return Convolution(shape, output_shape, weight, None, stride, padding, (1, 1), 1)


def vjp(operation: Convolution, y: Tensor) -> Tensor:
    """Wᵀ y by torch's derivative of its own convolution."""
    x = torch.zeros(len(y), *operation.input_shape, dtype=y.dtype, requires_grad=True)
    F.conv2d(x, operation.weight, None, operation.stride, operation.padding).backward(y)
    assert x.grad is not None
    return x.grad


def close(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    assert actual.is_contiguous()
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("block", "channels"), [(0, 0), (0, 10**9), (10**9, 0)])
@given(convolutions(), st.integers(0, 5), seeds)
def test_scatter_is_the_transposed_convolution(
    block: int, channels: int, operation: Convolution, samples: int, seed: int
) -> None:
    """By blocks of the kernel, as they are or filled up, and by sums of neighbours."""
    y = Dice(seed).normal(samples, *operation.output_shape)
    limits = {"BLOCK": block, "CHANNELS": channels}
    with mock.patch.multiple(convolution_products, **limits):
        found = scatter(
            y, operation.weight, operation.stride, operation.padding, operation.input_shape
        )
    close(found, vjp(operation, y))


@pytest.mark.parametrize("windows", [1, 2**20])
@given(convolutions(), st.integers(0, 5), seeds)
def test_correlate_is_the_convolution(
    windows: int, operation: Convolution, samples: int, seed: int
) -> None:
    x = Dice(seed).normal(samples, *operation.input_shape)
    with mock.patch.object(convolution_products, "WINDOWS", Numbers(windows, windows)):
        found = correlate(x, operation.weight, operation.stride, operation.padding)
    close(found, F.conv2d(x, operation.weight, None, operation.stride, operation.padding))


@given(convolutions(), seeds)
def test_float32_convolutions_are_those_of_float64(operation: Convolution, seed: int) -> None:
    x = Dice(seed).normal(3, *operation.input_shape).float()
    single = operation.convert(Tensor.float)
    expected = single.convert(Tensor.double).linear(x.double())
    found = single.linear(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels_last", ["y", "weight"])
def test_gradients_whatever_the_strides_are(channels_last: str) -> None:
    """oneDNN's own of a transposed convolution are no numbers here."""
    dice = Dice(0)
    given = {"y": dice.normal(5, 2, 6, 1).float(), "weight": dice.normal(2, 1, 3, 5).float()}
    given[channels_last] = given[channels_last].to(memory_format=torch.channels_last)
    y, weight = (each.requires_grad_() for each in given.values())
    grad = dice.normal(5, 1, 8, 3).float()
    scatter(y, weight, (1, 4), (0, 1), (1, 8, 3)).backward(grad)
    expected = F.conv2d(grad.double(), weight.detach().double(), None, (1, 4), (0, 1))
    torch.testing.assert_close(y.grad, expected.float(), rtol=1e-4, atol=1e-4)
