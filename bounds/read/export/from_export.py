"""`torch.export` archive (.pt2) → `Network`, without unpickling anything."""

from __future__ import annotations

import os

import torch

from bounds.errors import BoundsError, InvalidInputError
from bounds.network.graph import Network
from bounds.read.export.archive import ExportArchive, first_line, open_model_file, refusal
from bounds.read.export.reader import ExportReader


def from_export(
    path: str | os.PathLike[str], *, dtype: torch.dtype | None = None, drop_softmax: bool = False
) -> Network:
    """Read a model that `torch.export.save` wrote (torch 2.9 or later) into a `Network` on the CPU.

    The network computes what torch's own operators compute of the file's graph, one after the
    other: that is compared on a few inputs of a fixed seed.

    Args:
        path: the .pt2 file of a model that was exported with a batch axis, dynamic or not: the
            first axis of its input is always taken as the batch.
        dtype: torch.float32 or torch.float64; default: that of the model's input.
        drop_softmax: as for `from_torch`.

    Raises:
        ModelFileError: the file is missing, not such an archive, damaged, too large, or its weights
            are pickled.
        UnsupportedLayerError: names the first layer that is not modelled, with the remedy; or the
            network and the model differ.
        InvalidInputError: `path` is no path; shapes that do not fit, NaN or infinite parameters, a
            dtype that is neither float32 nor float64.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU()).eval()
    >>> torch.export.save(torch.export.export(model, (torch.zeros(1, 4),)), "model.pt2")
    >>> from_export("model.pt2").output_shape
    (2,)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInputError(
            f"from_export got a {type(path).__name__}, expected the path of a .pt2 file: "
            "write the bytes to a file."
        )
    name = os.fsdecode(path)
    with open_model_file(name) as stream, torch.device("cpu"):
        try:
            return ExportReader(
                ExportArchive(name, stream), dtype, drop_softmax=drop_softmax
            ).read()
        except BoundsError:
            raise
        except Exception as error:  # a graph unlike the schema can break the reader anywhere
            what = f"{type(error).__name__}: {first_line(error)}"
            raise refusal(name, f"its graph is damaged or inconsistent ({what})") from error
