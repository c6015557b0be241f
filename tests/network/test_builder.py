"""What the builder refuses whatever reader calls it: calls that torch itself would refuse."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from bounds import BoundsError
from bounds.network.build.builder import NetworkBuilder, Symbol

ONES = torch.ones(1, 2, 3, 3)
REFUSED: dict[str, tuple[Callable[[NetworkBuilder, Symbol], object], str]] = {
    "bias of another row a sample": (
        lambda build, x: build.linear(x, torch.ones(3, 8), torch.ones(2, 3)),
        "bias of shape (out,)",
    ),
    "weight of three axes": (
        lambda build, x: build.linear(x, torch.ones(1, 3, 8), None),
        "weight of shape (out, in)",
    ),
    "weight of one axis": (
        lambda build, x: build.convolution(x, torch.ones(3), None),
        "use one or two spatial axes",
    ),
    "negative padding": (
        lambda build, x: build.convolution(x, ONES, None, padding=-1),
        "padding of at least 0",
    ),
    "negative padding on one side": (
        lambda build, x: build.convolution(x, ONES, None, padding=[(0, -1), (0, 0)]),
        "padding of at least 0",
    ),
    "padding of other axes": (
        lambda build, x: build.convolution(x, ONES, None, padding=[(0, 1)]),
        "a pair (before, after) an axis",
    ),
    "unknown padding": (
        lambda build, x: build.convolution(x, ONES, None, padding="full"),
        "padding='full' is not modelled",
    ),
    "stride 0": (lambda build, x: build.convolution(x, ONES, None, stride=0), "positive strides"),
    "stride of three axes": (
        lambda build, x: build.convolution(x, ONES, None, stride=(1, 1, 1)),
        "one size an axis",
    ),
    "groups that do not divide": (
        lambda build, x: build.convolution(x, torch.ones(3, 1, 3, 3), None, groups=2),
        "groups that divide the channels",
    ),
    "no groups": (
        lambda build, x: build.convolution_transpose(x, torch.ones(2, 1, 3, 3), None, groups=0),
        "groups that divide the channels",
    ),
    "bias of other channels": (
        lambda build, x: build.convolution(x, torch.ones(3, 2, 3, 3), torch.ones(1)),
        "one number a channel",
    ),
    "transposed channels": (
        lambda build, x: build.convolution_transpose(x, torch.ones(3, 1, 3, 3), None),
        "(3 channels, then 2 spatial axes)",
    ),
    "output padding of a stride": (
        lambda build, x: build.convolution_transpose(
            x, torch.ones(2, 1, 3, 3), None, stride=2, output_padding=2
        ),
        "output_padding below the stride",
    ),
    "nothing left of the padding": (
        lambda build, x: build.convolution_transpose(x, torch.ones(2, 1, 1, 1), None, padding=4),
        "larger than the padding",
    ),
    "a pool larger than memory": (
        lambda build, x: build.average_pool(x, 10**6),
        "at least the kernel's extent",
    ),
    "a pool larger than memory, in ceil mode": (
        lambda build, x: build.average_pool(x, 10**6, ceil_mode=True),
        "sizes from 1 to those of the input",
    ),
    "a pool of size 0": (lambda build, x: build.max_pool(x, 0, stride=1), "sizes from 1"),
    "a pool of three axes": (lambda build, x: build.max_pool(x, (1, 1, 1)), "(channels, height"),
    "windows of padding": (
        lambda build, x: build.max_pool(x, 2, padding=2),
        "has no maximum; use less padding",
    ),
    "an average of padding": (
        lambda build, x: build.average_pool(x, 2, padding=2, count_include_pad=False),
        "divides by 0; use less padding",
    ),
    "divisor 0": (lambda build, x: build.average_pool(x, 2, divisor=0), "divides by 0"),
    "an adaptive pool of nothing": (
        lambda build, x: build.adaptive_average_pool(x, (0, 1)),
        "none of size 0",
    ),
    "an axis that is not there": (lambda build, x: build.slice(x, 3, 0, 1), "an axis 3"),
    "an axis counted backwards": (lambda build, x: build.gather(x, -1, ONES.long()), "an axis -1"),
    "an empty slice": (lambda build, x: build.slice(x, 1, 4, 4), "none of size 0"),
    "a slice of step 0": (lambda build, x: build.slice(x, 1, 0, 1, 0), "step that is not 0"),
    "an entry that is not there": (
        lambda build, x: build.gather(x, 0, torch.tensor([0, 2])),
        "entries 0 to 2 along axis 0",
    ),
    "an entry before the first": (
        lambda build, x: build.gather(x, 0, torch.tensor([-3])),
        "entries -3 to -3 along axis 0",
    ),
    "a place that is not there": (
        lambda build, x: build.select(x, torch.tensor([128])),
        "the places 128 to 128",
    ),
    "a place before the first": (
        lambda build, x: build.select(x, torch.tensor([-1, 5])),
        "the places -1 to 5",
    ),
    "a sample without axes": (
        lambda build, x: build.reduce(x, (0, 1, 2), mean=True, keepdim=False),
        "keep at least one axis",
    ),
    "a sample larger than memory": (
        lambda build, x: build.expand(x, (2**30, 2, 8, 8)),
        "at most 67108864 numbers",
    ),
    "padding larger than memory": (
        lambda build, x: build.pad(x, (0, 0, 0), (0, 0, 2**30)),
        "at most 67108864 numbers",
    ),
    "a crop of everything": (
        lambda build, x: build.pad(x, (0, 0, -4), (0, 0, -4)),
        "none of size 0",
    ),
    "padding of fewer axes": (lambda build, x: build.pad(x, (1,), (1,)), "1 axes"),
    "padding with NaN": (
        lambda build, x: build.pad(x, (0, 0, 0), (0, 0, 1), math.nan),
        "NaN or infinite",
    ),
    "an expansion to other sizes": (
        lambda build, x: build.expand(x, (3, 8, 8)),
        "broadcasts to (3, 8, 8)",
    ),
    "axes that are no permutation": (
        lambda build, x: build.transpose(x, (0, 0, 1)),
        "the axes (0, 0, 1)",
    ),
    "parts of other sizes": (
        lambda build, x: build.concat([x, build.slice(x, 1, 0, 2)], 2),
        "differ from along axis 2 alone",
    ),
    "a constant with another batch": (
        lambda build, x: build.shift(x, torch.ones(3, 2, 8, 8)),
        "the constant (3, 2, 8, 8)",
    ),
    "a constant of other sizes": (
        lambda build, x: build.scale(x, torch.ones(3, 8, 8)),
        "the constant (3, 8, 8)",
    ),
    "a sum with fewer axes": (
        lambda build, x: build.sum(x, build.reshape(build.slice(x, 0, 0, 1), (8, 8))),
        "the other's shape (8, 8)",
    ),
    "a maximum of other sizes": (
        lambda build, x: build.maximum(x, build.slice(x, 1, 0, 3)),
        "the other's shape (2, 3, 8)",
    ),
    "a product from the left of a vector": (
        lambda build, x: build.matmul_left(torch.ones(2, 128), build.reshape(x, (128,))),
        "at least two axes",
    ),
    "an infinite slope": (lambda build, x: build.leaky_relu(x, math.inf), "NaN or infinite"),
    "a bound that is NaN": (lambda build, x: build.clip(x, math.nan, None), "NaN or infinite"),
    "a lower bound of infinity": (
        lambda build, x: build.clip(x, math.inf, None),
        "NaN or infinite",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_call_is_refused(name: str) -> None:
    build = NetworkBuilder((2, 8, 8), torch.float64, torch.device("cpu"))
    build.at = "the layer"
    call, message = REFUSED[name]
    with pytest.raises(BoundsError, match=r"layer 'the layer'") as caught:
        call(build, build.input)
    assert message in str(caught.value)
