"""ONNX file → `Network`, from its graph alone: no runtime is needed, and nothing is executed.

The graph is a list of operators, which `bounds.read.onnx.operators` translates; what is not in its
table is refused by name. ONNX's own schemas say which inputs and attributes an operator has in the
file's opset; an attribute that no handler names is refused as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from bounds.errors import BoundsError, InvalidInputError, ModelFileError
from bounds.network.graph import Network
from bounds.read.export.archive import first_line, short

if TYPE_CHECKING:  # which needs the package onnx
    from bounds.read.onnx.file import OnnxFile


def from_onnx(
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    drop_softmax: bool = False,
    output: str | None = None,
) -> Network:
    """Read an ONNX file into a `Network` on the CPU.

    The network's samples have the shape of the file's input without its first axis, where that has
    size 1 or is open (the batch), and the whole shape where it has another size or is the only one;
    its outputs likewise. The network computes what the file computes of one such input: that is
    compared with ONNX Runtime on a few inputs of a fixed seed, where it is installed and can run
    the file. The inputs of a model that has several are one after another, in their order and each
    in row-major order, in the network's only input, which is a vector.

    Args:
        path: the .onnx file, gzipped or not, of a model in float32 or float64, in one of the
            opsets 7 to 27. Weights in files of their own have to lie in its folder.
        dtype: torch.float32 or torch.float64; default: that of the model's input.
        drop_softmax: as for `from_torch`.
        output: the name of the output to return, which a model of several has to say.

    Raises:
        ModelFileError: the file is missing, no ONNX file, damaged, too large or of an opset that is
            not read; its weights lie elsewhere; it has no such output; or the package onnx is not
            installed.
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
    outputs = None
    if output is not None:
        names = [str(value.name) for value in file.graph.output]
        if output not in names:
            raise file.refuse(
                f"it has no output {short(output)}", f"choose one of its outputs {short(names)}"
            )
        outputs = [output]

    def read(*, open_batch: bool) -> Network:
        return OnnxReader(
            file, dtype, open_batch=open_batch, drop_softmax=drop_softmax, outputs=outputs
        ).read()

    with reading(file):
        try:
            return read(open_batch=True)
        except OneSample:
            return read(open_batch=False)


@contextmanager
def reading(file: OnnxFile) -> Iterator[None]:
    """Whatever goes wrong in a reader of the file is said of the file."""
    try:
        # NaN and infinities in constants are refused where they become parameters; no warnings.
        with np.errstate(all="ignore"), torch.device("cpu"):
            yield
    except BoundsError:
        raise
    except Exception as error:  # a graph unlike the schema can break the reader anywhere
        what = f"{type(error).__name__}: {first_line(error)}"
        raise file.refuse(f"its graph is damaged or inconsistent ({what})") from error
