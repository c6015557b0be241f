"""Small ONNX graphs for Hypothesis.

What is drawn is a description: a failure prints a `Graph(...)` whose `model()` gives it again.
While a graph is drawn, ONNX Runtime says what shape each tensor has, so that no shape comes from
the code under test.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest
from hypothesis import reject
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from bounds import from_onnx
from bounds.read.onnx import file as onnx_file
from tests.support.refusals import refused

Shape = tuple[int, ...]
onnxruntime.set_default_logger_severity(4)

#: A tensor of one sample with more numbers than this is not drawn on.
NUMBERS = 100
WINDOWS = {"AveragePool", "ConvTranspose", "MaxPool"}
#: How many samples a batch of open size has while a graph is drawn.
SAMPLES = 2


@dataclass(frozen=True)
class Normal:
    """Random numbers; `away` from 0, as divisors are, or `positive`, as variances are."""

    shape: Shape
    kind: Literal["", "away", "positive"] = ""


@dataclass(frozen=True)
class Whole:
    """Integers as they are written here."""

    values: tuple[int, ...] | int


Operand = int | Normal | Whole | None  # a tensor by its number, a constant, or nothing
DTYPE = "dtype"  # as an attribute: the element type of the model


@dataclass(frozen=True)
class Step:
    """One node; its outputs are the next tensors."""

    op: str
    inputs: tuple[Operand, ...]
    attributes: tuple[tuple[str, Any], ...] = ()
    outputs: int = 1


@dataclass(frozen=True)
class Graph:
    """Tensor 0 is the input, whose first axis is open where it is a name; the last is the output.

    `constants` says whether constants are initializers or come from Constant nodes.
    """

    input_shape: tuple[int | str, ...]
    steps: tuple[Step, ...]
    opset: int
    seed: int
    constants: str = "initializer"

    def model(self, dtype: type[np.generic] = np.float32, outputs: int = 1) -> ModelProto:
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        dice = np.random.default_rng(self.seed)
        nodes: list[NodeProto] = []
        initializers: list[TensorProto] = []
        count = 1
        for step in self.steps:
            names = []
            for operand in step.inputs:
                if not isinstance(operand, Normal | Whole):
                    names.append("" if operand is None else f"t{operand}")
                    continue
                names.append(f"c{count}_{len(names)}")
                tensor = numpy_helper.from_array(_array(operand, dice, dtype), names[-1])
                if self.constants == "initializer":
                    initializers.append(tensor)
                else:
                    nodes.append(helper.make_node("Constant", [], [names[-1]], value=tensor))
            results = [f"t{count + i}" for i in range(step.outputs)]
            count += step.outputs
            attributes = {k: element if v == DTYPE else v for k, v in step.attributes}
            nodes.append(helper.make_node(step.op, names, results, **attributes))
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("t0", element, self.input_shape)],
            [ValueInfoProto(name=f"t{i}") for i in range(count - outputs, count)],
            initializers,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )


def step(op: str, *inputs: Operand, outputs: int = 1, **attributes: Any) -> Step:
    return Step(op, inputs, tuple(attributes.items()), outputs)


def graph_of(*steps: Step, shape: tuple[int | str, ...] = (1, 2, 3), opset: int = 13) -> Graph:
    return Graph(shape, steps, opset, 0)


def _array(operand: Normal | Whole, dice: np.random.Generator, dtype: Any) -> np.ndarray:
    if isinstance(operand, Whole):
        return np.array(operand.values, np.int64)
    if operand.kind:
        sign = dice.choice((-1, 1), operand.shape) if operand.kind == "away" else 1
        return (sign * dice.uniform(0.5, 2.0, operand.shape)).astype(np.float32).astype(dtype)
    numbers = dice.standard_normal(operand.shape) / math.sqrt(math.prod(operand.shape[1:]) or 1)
    return numbers.astype(np.float32).astype(dtype)


def run(model: ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """What ONNX Runtime makes of x, kernel by kernel: its optimiser refuses some valid graphs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"t0": x})


def write(model: ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refused_onnx(
    model: ModelProto, folder: Path, error: type[Exception], *fragments: str, **options: Any
) -> None:
    """Reading the model raises exactly `error`, in one line that holds every fragment."""
    path = write(model, folder)

    with pytest.raises(error, match=r"\A[^\n]*\Z"):
        from_onnx(path, **options)
    refused(lambda: from_onnx(path, **options), error, *fragments)


def _newest_opset() -> int:
    """The newest opset that the reader takes and that the installed runtime knows."""
    for version in reversed(onnx_file.OPSETS):
        with contextlib.suppress(Exception):
            run(Graph((1,), (Step("Relu", (0,)),), version, 0).model(), np.ones(1, np.float32))
            return version
    raise AssertionError("ONNX Runtime runs no model")


OPSETS = (onnx_file.OPSETS[0], _newest_opset())


@dataclass
class Draft:
    """A graph while it is drawn: `last` is the tensor to go on from."""

    draw: st.DrawFn
    input_shape: tuple[int | str, ...]
    opset: int
    steps: list[Step] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    variables: set[int] = field(default_factory=lambda: {0})
    last: int = 0

    def __post_init__(self) -> None:
        self.shapes.append(tuple(SAMPLES if s == "batch" else int(s) for s in self.input_shape))

    @property
    def batched(self) -> bool:
        return self.input_shape[0] == "batch"

    @property
    def first(self) -> int:
        """The first axis that operators may work along."""
        return int(self.batched)

    @property
    def shape(self) -> Shape:
        return self.shapes[self.last]

    @property
    def size(self) -> int:
        """How many numbers one sample has."""
        return math.prod(self.shape) // (SAMPLES if self.batched else 1)

    def add(self, op: str, *inputs: Operand, outputs: int = 1, **attributes: Any) -> int:
        """Append a node and go on from its last output, whose number is returned."""
        self.steps.append(step(op, *inputs, outputs=outputs, **attributes))
        graph = Graph(self.shapes[0], tuple(self.steps), self.opset, 0)
        try:
            found = run(graph.model(outputs=outputs), np.ones(self.shapes[0], np.float32))
        except Fail:  # its shape inference errs behind some windows: output_shape, ceil_mode
            assert {step.op for step in self.steps} & WINDOWS, self.steps
            reject()
        if op not in ("Shape", "Size") and self.variables & {i for i in inputs if type(i) is int}:
            self.variables.update(range(len(self.shapes), len(self.shapes) + outputs))
        self.shapes += [array.shape for array in found]
        self.last = len(self.shapes) - 1
        return self.last

    def axis(self, *, signed: bool = True) -> int:
        """An axis of the last tensor to work along, counted from either end."""
        rank = len(self.shape)
        axis = self.draw(st.integers(self.first, rank - 1))
        return axis - rank if signed and self.draw(st.booleans()) else axis

    def broadcastable(self) -> Shape:
        """The shape of a constant that broadcasts to the last tensor's."""
        shape = self.shape[self.draw(st.integers(self.first, len(self.shape))) :]
        return tuple(self.draw(st.sampled_from([size, size, 1])) for size in shape)
