"""What the builder refuses whatever reader calls it: calls that torch itself would refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bounds import BoundsError
from bounds.builder import NetworkBuilder, Symbol

Call = Callable[[NetworkBuilder, Symbol], object]

CALLS: dict[str, tuple[Call, str]] = {
    "bias of another row a sample": (
        lambda build, x: build.linear(x, torch.ones(3, 8), torch.ones(2, 3)),
        "bias of shape (out,)",
    ),
    "weight of three axes": (
        lambda build, x: build.linear(x, torch.ones(1, 3, 8), None),
        "weight of shape (out, in)",
    ),
    "negative padding": (
        lambda build, x: build.convolution(x, torch.ones(1, 2, 3, 3), None, padding=-1),
        "padding of at least 0",
    ),
    "stride 0": (
        lambda build, x: build.convolution(x, torch.ones(1, 2, 3, 3), None, stride=0),
        "positive strides",
    ),
    "a pool larger than memory": (
        lambda build, x: build.average_pool(x, 10**6),
        "at least the kernel's extent",
    ),
    "flatten from an axis that is not there": (
        lambda build, x: build.flatten(x, 5, -1),
        "the batch axis counted",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_call_is_refused(name: str) -> None:
    build = NetworkBuilder((2, 8, 8), torch.float64, torch.device("cpu"))
    build.at = "the layer"
    call, message = CALLS[name]
    with pytest.raises(BoundsError, match=r"layer 'the layer'") as caught:
        call(build, build.input)
    assert message in str(caught.value)
