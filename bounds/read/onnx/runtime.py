"""Models as ONNX Runtime computes them, on one thread of the CPU."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from bounds.errors import BoundsError
from bounds.read.export.archive import first_line

DTYPES = {"tensor(float)": torch.float32, "tensor(double)": torch.float64}


class OnnxRuntime:
    """A model file, or the bytes of one. Give it only what `from_onnx` has read."""

    def __init__(self, path: str | os.PathLike[str], model: bytes | None = None) -> None:
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
            self._session: Any = onnxruntime.InferenceSession(
                self.path if model is None else model, options, providers=["CPUExecutionProvider"]
            )
            [argument] = self._session.get_inputs()
            self.dtype = DTYPES[argument.type]
        except Exception as error:  # it has many types of its own
            raise self._failure(error) from error
        self._name = argument.name
        self._shape = [size if isinstance(size, int) else 1 for size in argument.shape]

    def __call__(self, x: Tensor) -> Tensor:
        """The output for one input, which may have any shape."""
        return self._run(x)

    def each(self, x: Tensor) -> Tensor:
        """The outputs for several inputs, a row each, one after the other."""
        return torch.stack([self._run(sample).flatten() for sample in x])

    def _run(self, x: Tensor) -> Tensor:
        try:
            array = x.to(self.dtype).reshape(self._shape).numpy()
            [y] = self._session.run(None, {self._name: array})
        except Exception as error:
            raise self._failure(error) from error
        return torch.from_numpy(y)

    def _failure(self, error: Exception) -> BoundsError:
        return BoundsError(
            f"ONNX Runtime cannot run {self.path!r} ({first_line(error)}): check the file with "
            "onnx.checker."
        )
