"""Coefficients in windows against the same coefficients on whole tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bounds.dual import patches as patches_module
from bounds.dual.patches import Matrices, neuron_patches
from bounds.network.affine import per_row
from bounds.network.convolution import Convolution, convolution_output_shape
from tests.support.layers import Dice
from tests.support.networks import divisors, seeds

shapes = st.one_of(
    st.tuples(st.integers(1, 4), st.integers(1, 12)),
    st.tuples(st.sampled_from([1, 2, 4]), st.integers(1, 9), st.integers(1, 9)),
)


@dataclass(frozen=True)
class Chain:
    """Convolutions one after the other, each with its input's shape; numbers come from the seed."""

    shapes: tuple[tuple[int, ...], ...]
    layers: tuple[tuple[tuple[int, ...], ...], ...]
    channels: tuple[tuple[int, int], ...]
    seed: int

    def operations(self, dtype: torch.dtype = torch.float64) -> list[Convolution]:
        found, dice = [], Dice(self.seed)
        for k, (shape, (kernel, stride, padding, dilation), (count, groups)) in enumerate(
            zip(self.shapes, self.layers, self.channels, strict=False)
        ):
            weight = dice.normal(count, shape[0] // groups, *kernel).to(dtype)
            found.append(
                Convolution(
                    shape, self.shapes[k + 1], weight, None, stride, padding, dilation, groups
                )
            )
        return found


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    shape = draw(shapes)
    found, layers, channels = [shape], [], []
    for _ in range(draw(st.integers(1, 3))):
        axes = []
        for size in shape[1:]:
            padding, dilation = draw(st.integers(0, 2)), draw(st.integers(1, 2))
            room = size + 2 * padding
            kernel = draw(st.integers(1, min(4, 1 + (room - 1) // dilation)))
            axes.append((kernel, draw(st.integers(1, 3)), padding, dilation))
        kernels, strides, paddings, dilations = zip(*axes, strict=True)
        groups = draw(st.sampled_from(divisors(shape[0])))
        count = groups * draw(st.integers(1, 3))
        weight = torch.empty(count, 1, *kernels)
        shape = convolution_output_shape(shape, weight, strides, paddings, dilations)
        found.append(shape)
        layers.append((kernels, strides, paddings, dilations))
        channels.append((count, groups))
    return Chain(tuple(found), tuple(layers), tuple(channels), draw(seeds))


def close(actual: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max()) + 1
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("fill", [0, 8])
@given(chains(), st.integers(1, 2), st.integers(1, 5), st.sampled_from([1.0, -1.0]))
def test_windows_and_whole_tensors_agree(
    fill: int, chain: Chain, batch: int, rows: int, sign: float
) -> None:
    """Down a chain of convolutions: the coefficients, and their products with numbers of the
    layer's, where windows leave it too."""
    operations, dice = chain.operations(), Dice(chain.seed + 1)
    *below, last = operations
    size = math.prod(last.output_shape)
    neurons = dice.below(size, batch, rows)
    one_hot = torch.zeros(batch, rows, size, dtype=torch.float64)
    one_hot = one_hot.scatter(2, neurons.unsqueeze(2), sign).unflatten(2, last.output_shape)
    with mock.patch.object(patches_module, "FILL", fill):
        patches, whole = (
            neuron_patches(last, neurons, sign, Matrices()),
            per_row(last.adjoint, one_hot),
        )
        while True:
            close(patches.dense(), whole)
            for images in (batch, 1):
                numbers = dice.normal(images, *patches.shape)
                products = (patches.values * patches.windows(numbers)).flatten(2).sum(2)
                close(products, (whole * numbers.unsqueeze(1)).flatten(2).sum(2))
            if not below:
                break
            operation = below.pop()
            patches = patches.inside().adjoint(operation, Matrices())
            whole = per_row(operation.adjoint, whole)


@given(chains())
def test_gradients_flow_through_windows(chain: Chain) -> None:
    operations = chain.operations()
    last = operations[-1]
    weight = last.weight.requires_grad_()
    neurons = torch.arange(math.prod(last.output_shape)).unsqueeze(0)
    numbers = Dice(chain.seed).normal(1, *last.input_shape)
    patches = neuron_patches(last, neurons, 1.0, Matrices())
    (patches.values * patches.windows(numbers)).sum().backward()
    found, weight.grad = weight.grad, None
    last.linear(numbers).sum().backward()
    assert found is not None
    assert weight.grad is not None
    close(found, weight.grad)
