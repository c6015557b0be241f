"""Walks an ONNX graph: its operators become layers of a network under construction."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import onnx
import torch
from onnx import AttributeProto, ModelProto, NodeProto, ValueInfoProto, numpy_helper

from bounds.errors import BoundsError
from bounds.network.affine import Shape
from bounds.network.build.builder import NetworkBuilder
from bounds.network.graph import Network
from bounds.read.agreement import require_agreement
from bounds.read.export.archive import short
from bounds.read.onnx.file import MAX_AXES, OnnxFile, element_name
from bounds.read.onnx.operators import CARRIERS, HANDLERS, RANDOM
from bounds.read.onnx.runtime import OnnxRuntime
from bounds.read.onnx.tensors import (
    BATCH,
    FIXED_BATCH,
    MAX_INTEGERS,
    MAX_NUMBERS,
    Tensor,
    Tensors,
    Variable,
)

DTYPES: dict[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
}


class OnnxReader:
    """Walks the graph: what depends on the input becomes nodes, all else stays a constant."""

    def __init__(
        self, file: OnnxFile, dtype: torch.dtype | None, *, open_batch: bool, drop_softmax: bool
    ) -> None:
        self.file, self.opset, self.open_batch = file, file.opset(), open_batch
        self.nodes = self._live_nodes()
        self.initializers = {str(tensor.name): tensor for tensor in file.graph.initializer}
        if len(self.initializers) < len(file.graph.initializer):
            raise file.refuse("it has two initializers of one name")
        self.read_names = {name for node in self.nodes for name in node.input}
        self.read_names.update(value.name for value in file.graph.output)
        self.values: dict[str, Tensor] = {}
        declared = self._find_input()
        element, shape = declared.type.tensor_type.elem_type, self._input_shape(declared)
        if element not in DTYPES:
            raise file.refuse(
                f"its input has elements of type {element_name(element)}, expected FLOAT or DOUBLE"
            )
        batched = shape[:1] == (BATCH,)
        if len(shape) < 1 + batched:
            raise file.refuse(
                f"its input {short(declared.name)} has no axis but the batch",
                "export the model with an input of shape (batch, features)",
            )
        own = DTYPES[element]
        build = NetworkBuilder(
            *(_sample(shape), dtype or own, torch.device("cpu")),
            model_dtype=own,
            drop_softmax=drop_softmax,
        )
        self.tensors = Tensors(file, build, batched=batched)
        self.tensors.opset = self.opset
        kind = np.dtype(np.float32 if element == onnx.TensorProto.FLOAT else np.float64)
        self.input_name = declared.name
        self.values[declared.name] = self.tensors.variable(build.input, shape, kind)

    def read(self) -> Network:
        """The network, after a comparison with ONNX Runtime where that is installed."""
        outputs = self.file.graph.output
        for node in self.nodes:
            self._read_node(node)
        build = self.tensors.build
        build.at = str(outputs[0].name)[:200]
        output = self._lookup(outputs[0].name)
        if not isinstance(output, Variable):
            raise self.tensors.refuse(
                "the model's output does not depend on its input", "export one that returns logits"
            )
        self._check_declared(outputs[0], output.shape)
        network = build.finish(build.reshape(output.symbol, _sample(output.shape)))
        self._compare(network, build)
        return network

    def _live_nodes(self) -> list[NodeProto]:
        """The nodes that the output depends on, in their order."""
        outputs = self.file.graph.output
        if len(outputs) != 1:
            raise self.file.refuse(f"the model has {len(outputs)} outputs, expected one")
        needed, found = {outputs[0].name}, []
        for node in reversed(self.file.graph.node):
            if needed.intersection(node.output):
                needed.update(node.input)
                found.append(node)
        return found[::-1]

    def _compare(self, network: Network, build: NetworkBuilder) -> None:
        model = ModelProto()
        model.CopyFrom(self._without_numbers())
        names = self.read_names & self.initializers.keys()
        try:
            model.graph.initializer.extend(
                numpy_helper.from_array(value, name)
                for name, value in self.values.items()
                if name in names and isinstance(value, np.ndarray)
            )
            runtime = OnnxRuntime(self.file.path, model.SerializeToString())
            runtime.each(torch.zeros(1, *network.input_shape))
        except (BoundsError, ValueError):  # not installed, beyond it, or too large for a message
            return
        call = f"from_onnx({self.file.path!r})"
        require_agreement(call, network, build, runtime.each, build.model_dtype)

    def _without_numbers(self) -> ModelProto:
        """The model without its initializers and what its output does not need."""
        old, graph = self.file.model, self.file.graph
        new = ModelProto(ir_version=old.ir_version)
        new.opset_import.extend([e for e in old.opset_import if e.domain in ("", "ai.onnx")][:1])
        new.graph.name = "graph"
        new.graph.node.extend(self.nodes)
        new.graph.input.extend(v for v in graph.input if v.name == self.input_name)
        new.graph.output.extend(ValueInfoProto(name=v.name) for v in graph.output)
        return new

    # -- the graph's ends --------------------------------------------------------------------------

    def _find_input(self) -> ValueInfoProto:
        inputs = [value for value in self.file.graph.input if value.name not in self.initializers]
        inputs = [value for value in inputs if value.name in self.read_names] or inputs
        if len(inputs) != 1:
            raise self.file.refuse(
                f"the model has {len(inputs)} inputs {short([i.name for i in inputs])}, expected "
                "one"
            )
        return inputs[0]

    def _input_shape(self, value: ValueInfoProto) -> Shape:
        """The shape that the input is declared with, in which BATCH is an open first axis."""
        name, sizes = short(str(value.name)), self.file.declared(value)
        if sizes is None:
            raise self.file.refuse(f"its input {name} is declared without a shape")
        if None in sizes[1:]:
            raise self.file.refuse(
                f"axis {sizes.index(None, 1)} of its input {name} has no fixed size",
                "export the model with no open axis but the first",
            )
        fixed = [size for size in sizes if size is not None]
        if len(sizes) > MAX_AXES or min(fixed, default=1) < 1 or math.prod(fixed) > MAX_NUMBERS:
            raise self.file.refuse(
                f"its input {name} is declared with shape {short(sizes)}, expected positive sizes "
                f"and at most {MAX_NUMBERS} numbers"
            )
        batch = BATCH if self.open_batch else 1
        return tuple(batch if size is None else size for size in sizes)

    def _check_declared(self, value: ValueInfoProto, found: Shape) -> None:
        sizes = self.file.declared(value)
        if sizes is None:
            return
        pairs = zip(sizes, found, strict=False)
        if len(sizes) != len(found) or any(
            size not in (None, actual) and actual != BATCH for size, actual in pairs
        ):
            raise self.file.refuse(
                f"its output {short(str(value.name))} is declared with shape {short(sizes)}, but "
                f"its graph computes {self.tensors.show(found)}"
            )

    # -- nodes -------------------------------------------------------------------------------------

    def _read_node(self, node: NodeProto) -> None:
        t, kind = self.tensors, str(node.op_type)
        t.build.at = str(node.name or next(iter(node.output), "") or kind)[:200]
        t.outputs = len(node.output)
        if kind in RANDOM:
            raise t.refuse(
                f"the operator {kind} draws random numbers, so that the outputs for one input "
                "differ",
                "export the model in eval mode, without it",
            )
        if node.domain not in ("", "ai.onnx") or kind not in HANDLERS:
            what = f"{node.domain}.{kind}" if node.domain else kind
            raise t.refuse(
                f"the operator {short(what)} is not modelled",
                "rewrite it with Gemm, MatMul, Conv, Relu, pooling, reshapes, sums and constant "
                "factors",
            )
        inputs = [self._lookup(str(name)) if name else None for name in node.input]
        schema = onnx.defs.get_schema(kind, self.opset, "")
        if not schema.min_input <= len(inputs) <= schema.max_input or any(
            value is None for value in inputs[: schema.min_input]
        ):
            raise t.damaged(f"is {kind}, and has {len(inputs)} inputs or an empty one")
        if any(map(t.is_batch_size, inputs[CARRIERS.get(kind, 0) :])):
            raise t.refuse("it computes with the size of an open batch", FIXED_BATCH)
        attributes = self._attributes(node, schema)
        results: Any = HANDLERS[kind](t, *inputs, **attributes)
        results = results if isinstance(results, list) else [results]
        for name in node.output[len(results) :]:
            if name in self.read_names:
                raise t.refuse(
                    f"the output {short(str(name))} of the operator {kind} is not modelled",
                    "export the model in eval mode, without that output",
                )
        for name, value in zip(node.output, results, strict=False):
            self._define(str(name), value)

    def _attributes(self, node: NodeProto, schema: Any) -> dict[str, Any]:
        """The node's attributes, of the types that ONNX prescribes."""
        modelled = inspect.getfullargspec(HANDLERS[node.op_type]).kwonlyargs
        found: dict[str, Any] = {}
        for attribute in node.attribute:
            name = str(attribute.name)
            declared = schema.attributes.get(name)
            if declared is None or declared.type.value != attribute.type or name in found:
                raise self.tensors.damaged(
                    f"has the attribute {short(name)} twice, or as {node.op_type} has it not in "
                    f"opset {self.opset}"
                )
            if name not in modelled:
                raise self.tensors.refuse(
                    f"the attribute {name} of the operator {node.op_type} is not modelled",
                    "export the model without it",
                )
            found[name] = self._attribute(attribute)
        return found

    def _attribute(self, attribute: AttributeProto) -> Any:
        if len(attribute.ints) > MAX_INTEGERS:
            raise self.tensors.damaged(f"has {len(attribute.ints)} integers in one attribute")
        match attribute.type:
            case AttributeProto.FLOAT:
                return attribute.f
            case AttributeProto.INT:
                return attribute.i
            case AttributeProto.STRING:
                return attribute.s.decode("ascii", "replace")
            case AttributeProto.FLOATS:
                return tuple(attribute.floats)
            case AttributeProto.INTS:
                return tuple(attribute.ints)
            case AttributeProto.TENSOR:
                return self.file.array(attribute.t)
        raise self.tensors.damaged(f"has the attribute {short(attribute.name)} of unknown type")

    # -- values ------------------------------------------------------------------------------------

    def _lookup(self, name: str) -> Tensor:
        if name not in self.values and name in self.initializers:
            self.values[name] = self.file.array(self.initializers[name])
        if name not in self.values:
            raise self.tensors.damaged(f"reads {short(name)}, which nothing before it computes")
        return self.values[name]

    def _define(self, name: str, value: Tensor) -> None:
        if name in self.values or name in self.initializers:
            raise self.tensors.damaged(f"computes {short(name)}, which is there already")
        if name:
            self.values[name] = value


def _sample(shape: Shape) -> Shape:
    """The shape of one sample: without the first axis, where that is the batch or has size 1."""
    if shape[:1] == (BATCH,) or (shape[:1] == (1,) and len(shape) > 1):
        shape = shape[1:]
    return shape or (1,)
