"""What callers give as a model, as a `Network`: the one place where it is read."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from bounds.arguments import shown
from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.read.load import load
from bounds.read.torch.from_torch import read_module


def network_of(
    call: str,
    model: Network | nn.Module | str | os.PathLike[str],
    x: Tensor,
    *,
    dtype: torch.dtype | None = None,
    files: bool = False,
    output: str | None = None,
    often: bool = False,
) -> Network:
    """The network that a model is: itself, a module read for inputs of the shape of the batch x, or
    where `files` the one in a file. dtype: that it computes in; default: its own. output:
    of a file that has several, the one that is asked for. often: see `read_module`."""
    # Read outside of inference mode, or no gradient could be taken through it.
    with torch.inference_mode(False):
        if isinstance(model, Network):
            return model.convert(ordinary) if dtype is None else model.convert(ordinary).to(dtype)
        if isinstance(model, nn.Module):
            if x.dim() < 2:
                raise InvalidInputError(
                    f"{call} got x of shape {tuple(x.shape)} for a module, which does not say what "
                    "one input is: expected a batch, (batch, *input_shape), such as x[None]."
                )
            read = read_module(model, tuple(x.shape[1:]), dtype=dtype, often=often)
            return read.convert(ordinary)
        if files and isinstance(model, (str, os.PathLike)):
            return load(model, dtype=dtype, output=output)
    paths = ", or the path of an .onnx or .pt2 file" if files else ""
    raise InvalidInputError(
        f"{call} got {shown(model)} for the model, expected a torch.nn.Module or a bounds.Network"
        f"{paths}."
    )


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of one that inference mode has made unfit for gradients."""
    return tensor.clone() if tensor.is_inference() else tensor
