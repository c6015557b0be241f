"""A model file by its ending."""

from __future__ import annotations

import os

import torch

from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.read.export.from_export import from_export
from bounds.read.onnx.from_onnx import from_onnx


def load(
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    drop_softmax: bool = False,
    output: str | None = None,
) -> Network:
    """Read an ONNX file, whose name ends in .onnx or .onnx.gz, or else a `torch.export` archive.

    dtype, drop_softmax: as for `from_torch`. output: as for `from_onnx`. Raises what `from_onnx`
    and `from_export` raise.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU()).eval()
    >>> torch.export.save(torch.export.export(model, (torch.zeros(1, 4),)), "model.pt2")
    >>> load("model.pt2", dtype=torch.float64).input_shape
    (4,)
    """
    endings = (".onnx", ".onnx.gz")
    onnx = isinstance(path, (str, os.PathLike)) and os.fsdecode(path).endswith(endings)
    if onnx:
        return from_onnx(path, dtype=dtype, drop_softmax=drop_softmax, output=output)
    if output is not None:
        raise InvalidInputError(
            f"load({os.fspath(path)!r}) got output={output!r}, which chooses one of an ONNX file: "
            "an archive of torch.export has its only one."
        )
    return from_export(path, dtype=dtype, drop_softmax=drop_softmax)
