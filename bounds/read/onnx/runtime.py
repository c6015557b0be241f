"""Models as ONNX Runtime computes them, on one thread of the CPU."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bounds.errors import BoundsError
from bounds.read.export.archive import first_line
from bounds.read.gzipped import unpacked

DTYPES = {"tensor(float)": torch.float32, "tensor(double)": torch.float64}


class OnnxRuntime:
    """A model file, gzipped or not, or the bytes of one. Give it only what `from_onnx` has read.

    inputs, shapes: the names of the inputs and their shapes; default: those of the file, with 1 for
    every size that is open. outputs: the names of the tensors to return, of several one after
    another; default: all.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: bytes | None = None,
        *,
        inputs: Sequence[str] | None = None,
        shapes: Sequence[Sequence[int]] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> None:
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ImportError as error:
            raise BoundsError(
                "OnnxRuntime needs the package onnxruntime, which is not installed: pip install "
                "'relu-bounds[onnx]'."
            ) from error
        self.path = os.fsdecode(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # its complaints come as exceptions
        if model is not None:  # for a few inputs, plainly
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            if model is None and self.path.endswith(".gz"):
                with open(self.path, "rb") as stream:
                    model = unpacked(stream.read())
            self._session: Any = onnxruntime.InferenceSession(
                self.path if model is None else model, options, providers=["CPUExecutionProvider"]
            )
            arguments = self._session.get_inputs()
            if inputs is not None:
                known = {argument.name: argument for argument in arguments}
                arguments = [known[name] for name in inputs]
            self._dtypes = [DTYPES[argument.type] for argument in arguments]
        except Exception as error:  # it has many types of its own
            raise self._failure(error) from error
        #: What a point has to be in, for every input to take it as it is.
        self.dtype = min(self._dtypes, key=lambda dtype: dtype.itemsize)
        self._names = [argument.name for argument in arguments]
        self._outputs = None if outputs is None else [*dict.fromkeys(outputs)]
        self._wanted = outputs
        self._shapes = shapes or [
            [size if isinstance(size, int) else 1 for size in argument.shape]
            for argument in arguments
        ]

    @property
    def size(self) -> int:
        """How many numbers it takes, for all inputs together."""
        return sum(math.prod(shape) for shape in self._shapes)

    def __call__(self, x: Tensor) -> Tensor:
        """The output for one input, which may have any shape; several inputs are one after another
        in it."""
        return self._run(x)

    def each(self, x: Tensor) -> Tensor:
        """The outputs for several inputs, a row each, one after the other."""
        return torch.stack([self._run(sample).flatten() for sample in x])

    def _run(self, x: Tensor) -> Tensor:
        try:
            parts = x.flatten().split([math.prod(shape) for shape in self._shapes])
            arguments = {
                name: part.to(dtype).reshape(tuple(shape)).numpy()
                for name, part, dtype, shape in zip(
                    self._names, parts, self._dtypes, self._shapes, strict=True
                )
            }
            found = self._session.run(self._outputs, arguments)
        except Exception as error:
            raise self._failure(error) from error
        if self._outputs is not None and self._wanted is not None:
            by_name = dict(zip(self._outputs, found, strict=True))
            found = [by_name[name] for name in self._wanted]
        if len(found) == 1:
            return torch.from_numpy(np.asarray(found[0]))
        return torch.cat([torch.from_numpy(np.asarray(y)).double().flatten() for y in found])

    def _failure(self, error: Exception) -> BoundsError:
        return BoundsError(
            f"ONNX Runtime cannot run {self.path!r} ({first_line(error)}): check the file with "
            "onnx.checker."
        )
