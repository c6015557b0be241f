"""`torch.export` archive (.pt2) → `Network`, without unpickling anything.

The graph in the archive is a list of ATen operators. Each is looked up in a table and translated by the same handlers
as the torch.fx reader's; what is not in the table is refused by name. Every shape and dtype that the archive declares
is compared with the one that the translation gives.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bounds import operations as ops
from bounds.affine import Shape
from bounds.builder import NetworkBuilder, Symbol
from bounds.errors import BoundsError, InvalidInputError
from bounds.export_archive import DTYPES, ExportArchive, open_model_file, refusal
from bounds.network import Network

Json = dict[str, Any]


def _reshape(build: NetworkBuilder, input: Symbol, shape: list[Any]) -> Symbol:
    return ops.reshape(build, input, shape)


#: Handlers whose output is their input's memory seen in another way, so that a change in place of one changes both.
VIEWS = (_reshape, ops.flatten, ops.identity, ops.dropout)
HANDLERS: dict[str, ops.Handler] = {
    **dict.fromkeys(("relu.default", "relu_.default"), ops.relu),
    **dict.fromkeys(("dropout.default", "dropout_.default"), ops.dropout),
    **dict.fromkeys(("feature_dropout.default", "feature_dropout_.default"), ops.dropout),
    **dict.fromkeys(("linear.default",), ops.linear),
    **dict.fromkeys(("conv1d.default", "conv1d.padding"), ops.convolution),
    **dict.fromkeys(("conv2d.default", "conv2d.padding"), ops.convolution),
    **dict.fromkeys(("batch_norm.default",), ops.aten_batch_norm),
    **dict.fromkeys(("avg_pool2d.default",), ops.average_pool),
    **dict.fromkeys(("flatten.using_ints",), ops.flatten),
    **dict.fromkeys(("view.default", "reshape.default"), _reshape),
    **dict.fromkeys(("add.Tensor", "add.Scalar", "add_.Tensor", "add_.Scalar"), ops.add),
    **dict.fromkeys(("sub.Tensor", "sub.Scalar", "sub_.Tensor", "sub_.Scalar"), ops.sub),
    **dict.fromkeys(("mul.Tensor", "mul.Scalar", "mul_.Tensor", "mul_.Scalar"), ops.mul),
    **dict.fromkeys(("div.Tensor", "div.Scalar", "div_.Tensor", "div_.Scalar"), ops.div),
    **dict.fromkeys(("rsub.Tensor", "rsub.Scalar"), ops.rsub),
    **dict.fromkeys(("neg.default", "neg_.default"), ops.neg),
    **dict.fromkeys(("contiguous.default", "clone.default", "alias.default"), ops.identity),
    **dict.fromkeys(("detach.default", "detach_.default", "to.dtype"), ops.identity),
    "sym_size.int": ops.size,
}
#: What parameters and constants may go through before they meet the input. None of these changes its input.
CONSTANT_FUNCTIONS: dict[str, Any] = {
    **dict.fromkeys(("view.default", "reshape.default"), torch.reshape),
    **dict.fromkeys(("lift_fresh_copy.default", "clone.default"), torch.clone),
    **dict.fromkeys(("detach.default", "detach_.default"), torch.detach),
    "to.dtype": lambda input, dtype, **_: input.to(dtype),
    "flatten.using_ints": torch.flatten,
    "unsqueeze.default": torch.unsqueeze,
    "t.default": torch.t,
    "transpose.int": torch.transpose,
    "permute.default": torch.permute,
    "add.Tensor": torch.add,
    "sub.Tensor": torch.sub,
    "mul.Tensor": torch.mul,
    "div.Tensor": torch.div,
    "neg.default": torch.neg,
}
#: Checks that torch.export writes down; what they assert of dtypes is compared anyway.
SKIPPED = {"_assert_tensor_metadata.default"}
#: Targets that look at a tensor's shape, not at its numbers.
SHAPE_ONLY = {"sym_size.int", *SKIPPED}
#: Schema names that differ from those of the torch functions.
ARGUMENT_NAMES = {"self": "input", "size": "shape"}
#: A sample with more numbers than this is taken for a damaged or hostile file rather than for a network.
MAX_NUMBERS = 2**28


def from_export(path: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> Network:
    """Read a model that `torch.export.save` wrote (torch 2.9 or later) into a `Network` on the CPU.

    Args:
        path: the .pt2 file. Its first axis is taken as the batch, be it dynamic or that of the example input.
        dtype: torch.float32 or torch.float64; default: that of the model's input.

    Raises:
        ModelFileError: the file is missing, no such archive, damaged, too large, or holds pickled weights.
        UnsupportedLayerError: names the first layer that is not modelled, with the remedy.
        InvalidInputError: `path` is no path; shapes that do not fit, NaN parameters, a dtype that is not float32 or 64.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInputError(
            f"from_export got a {type(path).__name__}, expected the path of a .pt2 file: write the bytes to a file."
        )
    name = os.fsdecode(path)
    with open_model_file(name) as stream:
        try:
            network = _Reader(ExportArchive(name, stream), dtype).read()
            probe = network(torch.zeros(1, *network.input_shape, dtype=network.dtype))
        except BoundsError:
            raise
        except Exception as error:  # a graph that is not as the schema says can break the reader anywhere
            reason = str(error).split("\n")[0][:200]
            raise refusal(
                name, f"its graph is damaged or inconsistent ({type(error).__name__}: {reason})"
            ) from error
    if probe.shape != (1, *network.output_shape):
        raise refusal(name, "its parameters do not fit the shapes that its graph declares")
    return network


class _Reader:
    """Walks the graph; what depends on the input becomes nodes, all else is computed and stays a constant."""

    def __init__(self, archive: ExportArchive, dtype: torch.dtype | None) -> None:
        self.archive = archive
        module = archive.program["graph_module"]
        self.graph: Json = module["graph"]
        self.signature: Json = module["signature"]
        self.declared: Json = self.graph["tensor_values"]
        self.values: dict[str, Any] = {}
        self.stored: dict[str, tuple[str, str]] = {}  # name in the graph → folder and name of a tensor in the archive
        self.input_name = self._read_inputs()
        self.input_dtype = self._dtype(self.input_name)
        batch = self.declared[self.input_name]["sizes"][0]
        self.batch = batch.get("as_int")  # None where it is dynamic
        self.build = NetworkBuilder(
            self._sample(self.input_name), dtype or self.input_dtype, torch.device("cpu")
        )
        self.values[self.input_name] = self.build.input
        self.readers = Counter(
            name
            for node in self.graph["nodes"]
            if _target(node) not in SHAPE_ONLY
            for name in set(_tensor_names(node))
        )
        self.readers.update(_tensor_names({"inputs": [{"arg": a} for a in self.graph["outputs"]]}))
        self.producers: Json = {}
