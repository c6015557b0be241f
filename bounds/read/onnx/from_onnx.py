"""ONNX file → `Network`, from its graph alone: no runtime is needed, and nothing is executed.

The graph is a list of operators, which `bounds.read.onnx.operators` translates; what is not in its
table is refused by name. ONNX's own schemas say which inputs and attributes an operator has in the
file's opset; an attribute that no handler names is refused as well.
"""

from __future__ import annotations

import os

import numpy as np
import torch

from bounds.errors import BoundsError, InvalidInputError, ModelFileError
from bounds.network.graph import Network
from bounds.read.export.archive import first_line


def from_onnx(
    path: str | os.PathLike[str], *, dtype: torch.dtype | None = None, drop_softmax: bool = False
) -> Network:
    """Read an ONNX file into a `Network` on the CPU.

    The network's samples have the shape of the file's input without its first axis, where that has
    size 1 or is open (the batch), and the whole shape where it has another size or is the only one;
    its outputs likewise. The network computes what the file computes of one such input: that is
    compared with ONNX Runtime on a few inputs of a fixed seed, where it is installed and can run
    the file.

    Args:
        path: the .onnx file, gzipped or not, of a model in float32 or float64 with one input and
            one output, in one of the opsets 7 to 27. Weights in files of their own have to lie in
            its folder.
        dtype: torch.float32 or torch.float64; default: that of the model's input.
        drop_softmax: as for `from_torch`.

    Raises:
        ModelFileError: the file is missing, no ONNX file, damaged, too large or of an opset that is
            not read; its weights lie elsewhere; or the package onnx is not installed.
        UnsupportedLayerError: names the first operator that is not modelled, with the remedy; or
            the network and the model differ.
        InvalidInputError: `path` is no path; shapes that do not fit, NaN or infinite parameters, a
            dtype that is neither float32 nor float64.

    >>> from onnx import TensorProto, helper, save
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "", [x], [y])
    >>> opset = helper.make_opsetid("", 17)
    >>> save(helper.make_model(graph, opset_imports=[opset], ir_version=8), "relu.onnx")
    >>> from_onnx("relu.onnx").input_shape
    (4,)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInputError(
            f"from_onnx got a {type(path).__name__}, expected the path of an .onnx file: save the "
            "model to a file."
        )
    try:
        from bounds.read.onnx.file import OnnxFile
        from bounds.read.onnx.reader import OnnxReader
        from bounds.read.onnx.tensors import OneSample
    except ImportError as error:
        raise ModelFileError(
            "from_onnx needs the package onnx, which is not installed: pip install "
            "relu-bounds[onnx]."
        ) from error
    file = OnnxFile(os.fsdecode(path))
    try:
        # NaN and infinities in constants are refused where they become parameters; no warnings.
        with np.errstate(all="ignore"), torch.device("cpu"):
            try:
                return OnnxReader(file, dtype, open_batch=True, drop_softmax=drop_softmax).read()
            except OneSample:
                return OnnxReader(file, dtype, open_batch=False, drop_softmax=drop_softmax).read()
    except BoundsError:
        raise
    except Exception as error:  # a graph unlike the schema can break the reader anywhere
        what = f"{type(error).__name__}: {first_line(error)}"
        raise file.refuse(f"its graph is damaged or inconsistent ({what})") from error
