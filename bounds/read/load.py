"""A model file by its ending."""

from __future__ import annotations

import os

import torch

from bounds.network.graph import Network
from bounds.read.export.from_export import from_export
from bounds.read.onnx.from_onnx import from_onnx


def load(
    path: str | os.PathLike[str], *, dtype: torch.dtype | None = None, drop_softmax: bool = False
) -> Network:
    """Read an ONNX file, whose name ends in .onnx or .onnx.gz, or else a `torch.export` archive.

    dtype, drop_softmax: as for `from_torch`. Raises what `from_onnx` and `from_export` raise.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU()).eval()
    >>> torch.export.save(torch.export.export(model, (torch.zeros(1, 4),)), "model.pt2")
    >>> load("model.pt2", dtype=torch.float64).input_shape
    (4,)
    """
    endings = (".onnx", ".onnx.gz")
    onnx = isinstance(path, (str, os.PathLike)) and os.fsdecode(path).endswith(endings)
    return (from_onnx if onnx else from_export)(path, dtype=dtype, drop_softmax=drop_softmax)
