"""A small classifier, and what shows a row of a table: called with the other tool, or with None."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import bounds

INPUTS, CLASSES, EPS = 4, 3, 0.1

Shown = Callable[[ModuleType | None], None]
#: By tool, what shows the row whose first cell begins so.
ROWS: dict[str, dict[str, Shown]] = {}


def row(tool: str, begins: str) -> Callable[[Shown], Shown]:
    """Marks what shows a row."""

    def note(shown: Shown) -> Shown:
        rows = ROWS.setdefault(tool, {})
        assert begins not in rows
        rows[begins] = shown
        return shown

    return note


def model() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(INPUTS, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, CLASSES)
    return nn.Sequential(*layers).double()


def inputs() -> tuple[Tensor, Tensor]:
    """And how the model answers them."""
    x = torch.rand(5, INPUTS, generator=torch.Generator().manual_seed(1)).double()
    return x, model()(x).argmax(1)


def network() -> bounds.Network:
    return bounds.from_torch(model(), (INPUTS,)).detach()


def relaxed(**options: Any) -> bounds.Relaxation:
    """Of the margins."""
    x, y = inputs()
    ball = bounds.Ball(x, radius=EPS)
    return bounds.relax(network(), ball, bounds.margins(y, CLASSES), **options)


def same(ours: Tensor, theirs: object) -> None:
    """But for sums in another order."""
    theirs = torch.as_tensor(theirs).detach().to(ours)
    torch.testing.assert_close(ours.detach(), theirs, rtol=1e-9, atol=1e-9)
