"""Small problems and cells of the speed benchmark, for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.measure import cells
from benchmarks.measure.cells import Cell
from benchmarks.measure.workloads import NETWORKS, Problem, Setting

SMALLEST = "mlp 3×50"


def problem(dtype: torch.dtype, batch: int = 2) -> Problem:
    return NETWORKS[SMALLEST].load(
        Path(), setting=Setting(batch=batch), dtype=dtype, device=torch.device("cpu")
    )


def cell(*, batch: int = 1, **changes: Any) -> Cell:
    fields = {"network": SMALLEST, "method": "solve: exact", "device": "cpu"}
    fields["setting"] = Setting(batch=batch)
    return Cell(**{**fields, "budget": 0.05, "data": Path(), "stored": Path(), **changes})


def without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell is ended for its time, however busy the machine is."""
    for patience in ("READY", "LIMIT", "COUNTING"):
        monkeypatch.setattr(cells, patience, 1e6)
