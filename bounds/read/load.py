"""A model file by its ending."""

from __future__ import annotations

import os

import torch

from bounds.network.graph import Network


def load_network(path: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> Network:
    """Read an ONNX file, whose name ends in .onnx, or else a `torch.export` archive.

    Raises what `Network.from_onnx` and `Network.from_export` raise.
    """
    onnx = isinstance(path, (str, os.PathLike)) and os.fsdecode(path).endswith(".onnx")
    return (Network.from_onnx if onnx else Network.from_export)(path, dtype=dtype)
