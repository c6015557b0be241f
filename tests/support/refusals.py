"""What the tests of refusals share: the judge of an error, and small models to be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bounds import from_torch

Thunk = Callable[[], object]


def refused(act: Thunk, error: type[Exception], *fragments: str) -> None:
    """`act` raises exactly `error`, in one sentence or two that hold every fragment."""
    with pytest.raises(error) as caught:
        act()
    assert caught.type is error
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message, f"{fragment!r} is not in {message!r}"


def read(model: nn.Module, *shape: int, **options: Any) -> Thunk:
    return lambda: from_torch(model, shape or (3,), **options)


def changed(layer: nn.Module, change: Callable[[Any], object]) -> nn.Sequential:
    with torch.no_grad():
        change(layer)
    return nn.Sequential(layer)


class Net(nn.Module):
    """A linear layer, a buffer, and a `forward` that each case writes for itself."""

    buffer: Tensor

    def __init__(self, compute: Callable[[Net, Tensor], object]) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.flat = nn.Flatten()
        self.relu_ = nn.ReLU(inplace=True)
        self.register_buffer("buffer", torch.ones(3))
        self.compute = compute

    def forward(self, x: Tensor) -> object:
        return self.compute(self, x)
