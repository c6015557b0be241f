"""Small problems and cells of the speed benchmark, for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.measure.cells import Cell
from benchmarks.measure.workloads import NETWORKS, Problem

SMALLEST = "mlp 3×50"


def problem(dtype: torch.dtype, batch: int = 2) -> Problem:
    return NETWORKS[SMALLEST].load(Path(), batch=batch, dtype=dtype, device=torch.device("cpu"))


def cell(**changes: Any) -> Cell:
    fields = {"network": SMALLEST, "method": "solve: exact", "batch": 1, "device": "cpu"}
    return Cell(**{**fields, "budget": 0.05, "data": Path(), "stored": Path(), **changes})
