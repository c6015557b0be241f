"""oneDNN's convolutions: right, and taken for direct where they are alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bounds.network import onednn
from bounds.network.convolution import Convolution, convolution_output_shape
from bounds.rounding import gamma
from tests.support.layers import Dice
from tests.support.networks import seeds

KERNEL, UNIT, NONE = (3, 2, 3, 3), (1, 1), (0, 0)


@pytest.fixture(autouse=True)
def tried_anew() -> Iterator[None]:
    onednn._tried.cache_clear()
    yield
    onednn._tried.cache_clear()


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    """Of every option there is."""
    groups = draw(st.integers(1, 2))
    shape = (groups * draw(st.integers(1, 9)), draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    stride, dilation, padding = (
        (draw(st.integers(least, 3)), draw(st.integers(least, 3))) for least in (1, 1, 0)
    )
    most = [
        (size + 2 * p - 1) // d + 1 for size, p, d in zip(shape[1:], padding, dilation, strict=True)
    ]
    kernel = [draw(st.integers(1, min(5, each))) for each in most]
    outputs = groups * draw(st.integers(1, 9))
    weight = Dice(draw(seeds)).normal(outputs, shape[0] // groups, *kernel)
    output_shape = convolution_output_shape(shape, weight, stride, padding, dilation)
    return Convolution(shape, output_shape, weight, None, stride, padding, dilation, groups)


@given(convolutions(), st.integers(1, 6), seeds)
def test_sums_are_off_by_no_more_than_rounding_is_taken_for(
    operation: Convolution, samples: int, seed: int
) -> None:
    """And so are those of the adjoint; in float64, where oneDNN is not used."""
    dice, single = Dice(seed), operation.convert(Tensor.float)
    exact, sizes = single.convert(Tensor.double), single.absolute().convert(Tensor.double)
    x, y = (dice.normal(samples, *s).float() for s in (single.input_shape, single.output_shape))
    for found, expected, terms, allowed in (
        (single.linear(x), exact.linear(x.double()), sizes.linear(x.double().abs()), 0),
        (single.adjoint(y), exact.adjoint(y.double()), sizes.adjoint(y.double().abs()), 1),
    ):
        count = single.fan_out if allowed else single.fan_in
        assert ((found - expected).abs() <= gamma(count, torch.float32) * terms + 1e-37).all()


def winograd(x: Tensor, weight: Tensor, *_: object) -> Tensor:
    """F(2, 3) of Lavin and Gray 2016 (arXiv 1509.09308, section 4.1), without padding."""
    B = torch.tensor([[1.0, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    G = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    A = torch.tensor([[1.0, 1, 1, 0], [0, 1, -1, -1]])
    tiles = B @ x.unfold(2, 4, 2).unfold(3, 4, 2) @ B.mT
    sums = A @ torch.einsum("bchwij,ocij->bohwij", tiles, G @ weight @ G.mT) @ A.mT
    return sums.permute(0, 1, 2, 4, 3, 5).flatten(4).flatten(2, 3)


def fourier(x: Tensor, weight: Tensor, *_: object) -> Tensor:
    size = x.shape[2:]
    spectra = torch.fft.rfft2(x), torch.fft.rfft2(weight, size).conj()
    products = torch.einsum("bchw,ochw->bohw", *spectra)
    return torch.fft.irfft2(products, size)[..., : size[0] - 2, : size[1] - 2]


def coarse(x: Tensor, weight: Tensor, *_: object) -> Tensor:
    return F.conv2d(x.bfloat16().float(), weight.bfloat16().float())


@pytest.mark.parametrize("other", [winograd, fourier, coarse])
def test_other_algorithms_are_told_from_it(other: Callable[..., Tensor]) -> None:
    x, weight = Dice(0).normal(5, 2, 8, 8).float(), Dice(1).normal(*KERNEL).float()
    tolerance = 0.2 if other is coarse else 1e-5
    torch.testing.assert_close(other(x, weight), F.conv2d(x, weight), rtol=0, atol=tolerance)
    assert onednn.is_direct(x, KERNEL, UNIT, NONE, UNIT, 1)
    onednn._tried.cache_clear()
    with mock.patch.object(onednn, "correlate", other):
        assert not onednn.is_direct(x, KERNEL, UNIT, NONE, UNIT, 1)


def test_it_is_left_alone_where_less_precision_is_asked_for() -> None:
    x, setting = torch.ones(1, 2, 8, 8), getattr(torch.backends.mkldnn, "conv", None)
    if setting is None:
        pytest.skip("this torch asks for no precision of convolutions")
    assert onednn.is_direct(x, KERNEL, UNIT, NONE, UNIT, 1)
    before = setting.fp32_precision
    try:
        setting.fp32_precision = "bf16"
        assert not onednn.is_direct(x, KERNEL, UNIT, NONE, UNIT, 1)
    finally:
        setting.fp32_precision = before
    assert not onednn.is_direct(x.double(), KERNEL, UNIT, NONE, UNIT, 1)
    assert not onednn.is_direct(x[:0], KERNEL, UNIT, NONE, UNIT, 1)


@given(convolutions(), st.integers(1, 3), seeds)
def test_gradients_are_those_of_float64(operation: Convolution, samples: int, seed: int) -> None:
    dice, found, expected = Dice(seed), [], []
    x = dice.normal(samples, *operation.input_shape)
    y = dice.normal(samples, *operation.output_shape)
    for dtype, gradients in ((torch.float32, found), (torch.float64, expected)):
        own = x.to(dtype).requires_grad_()
        weight = operation.weight.to(dtype).requires_grad_()
        replace(operation, weight=weight).linear(own).backward(y.to(dtype))
        gradients += [own.grad, weight.grad]
    for single, double in zip(found, expected, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def test_what_follows_a_network_and_where_tensors_are_made_are_of_no_concern() -> None:
    """torch.compile, torch.func, fake tensors and a default device."""
    dice = Dice(0)
    weight, x = dice.normal(*KERNEL).float(), dice.normal(2, 2, 4, 4).float()
    operation = Convolution((2, 4, 4), (3, 4, 4), weight, None, UNIT, UNIT, UNIT, 1)
    with torch.device("meta"):
        assert onednn.is_direct(x, KERNEL, UNIT, UNIT, UNIT, 1)
    expected = F.conv2d(x, weight, padding=1)
    slope = F.conv_transpose2d(torch.ones_like(expected), weight, padding=1)
    for found, right in (
        (torch.compile(operation.linear, backend="eager")(x), expected),
        (torch.func.vmap(operation.linear)(x.unsqueeze(1)), expected.unsqueeze(1)),
        (torch.func.grad(lambda x: operation.linear(x).sum())(x), slope),
    ):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert operation.linear(torch.empty(x.shape)).shape == expected.shape
