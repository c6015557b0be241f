"""Walks an ONNX graph: its operators become layers of a network under construction."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import AttributeProto, ModelProto, NodeProto, ValueInfoProto, numpy_helper

from bounds.errors import BoundsError
from bounds.network.affine import Shape
from bounds.network.build.builder import NetworkBuilder, Symbol
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
        self,
        file: OnnxFile,
        dtype: torch.dtype | None,
        *,
        open_batch: bool,
        drop_softmax: bool,
        outputs: Sequence[str] | None = None,
        shapes: Sequence[Shape] | None = None,
    ) -> None:
        """outputs: the names of tensors to return, one after another where they are several;
        default: the one output that the graph has. shapes: those that every input is to have, in
        the graph's order; default: as they are declared, of those that something reads."""
        self.file, self.opset, self.open_batch = file, file.opset(), open_batch
        self.outputs = [*outputs] if outputs is not None else [self._only_output()]
        self.nodes = self._live_nodes()
        self.initializers = {str(tensor.name): tensor for tensor in file.graph.initializer}
        if len(self.initializers) < len(file.graph.initializer):
            raise file.refuse("it has two initializers of one name")
        self.read_names = {name for node in self.nodes for name in node.input}
        self.read_names.update(self.outputs)
        self.values: dict[str, Tensor] = {}
        self.inputs = self._find_inputs(None if shapes is None else len(shapes))
        elements = [value.type.tensor_type.elem_type for value in self.inputs]
        for element in elements:
            if element not in DTYPES:
                raise file.refuse(
                    f"its input has elements of type {element_name(element)}, expected FLOAT or "
                    "DOUBLE"
                )
        self.interface = shapes is not None
        self.shapes = [*shapes] if shapes is not None else self._input_shapes()
        batched = all(shape[:1] == (BATCH,) for shape in self.shapes)
        for value, shape in zip(self.inputs, self.shapes, strict=True):
            if len(shape) < batched + (not self.interface):
                raise file.refuse(
                    f"its input {short(value.name)} has no axis but the batch",
                    "export the model with an input of shape (batch, features)",
                )
        own = min((DTYPES[element] for element in elements), key=lambda kind: kind.itemsize)
        samples = [_sample(shape) for shape in self.shapes]
        whole = samples[0] if len(samples) == 1 else (sum(map(math.prod, samples)),)
        build = NetworkBuilder(
            *(whole, dtype or own, torch.device("cpu")),
            model_dtype=own,
            drop_softmax=drop_softmax,
        )
        self.tensors = Tensors(file, build, batched=batched)
        self.tensors.opset = self.opset
        start = 0
        for value, element, shape, sample in zip(
            self.inputs, elements, self.shapes, samples, strict=True
        ):
            symbol, build.at = build.input, str(value.name)[:200]
            if len(samples) > 1:  # one after another in the network's only input
                stop = start + math.prod(sample)
                symbol = build.reshape(build.slice(build.input, 0, start, stop), sample)
                start = stop
            kind = np.dtype(np.float32 if element == onnx.TensorProto.FLOAT else np.float64)
            self.values[value.name] = self.tensors.variable(symbol, shape, kind)

    def read(self) -> Network:
        """The network, after a comparison with ONNX Runtime where that is installed."""
        declared = {value.name: value for value in self.file.graph.output}
        for node in self.nodes:
            self._read_node(node)
        build, found = self.tensors.build, list[Symbol]()
        for name in self.outputs:
            build.at = str(name)[:200]
            output = self._lookup(name)
            if name in declared:
                self._check_declared(declared[name], output.shape)
            if not isinstance(output, Variable):
                output = self._constant(output)
            found.append(build.reshape(output.symbol, _sample(output.shape)))
        if len(found) > 1:
            flat = [build.reshape(symbol, (math.prod(symbol.shape),)) for symbol in found]
            found = [build.concat(flat, 0)]
        network = build.finish(found[0])
        self._compare(network, build)
        return network

    def _constant(self, value: np.ndarray) -> Variable:
        """An output that is the same for every input, where a query may ask for it."""
        if not self.interface:
            raise self.tensors.refuse(
                "the model's output does not depend on its input", "export one that returns logits"
            )
        numbers = torch.from_numpy(np.ascontiguousarray(value, np.float64))
        build, t = self.tensors.build, self.tensors
        if not bool((numbers.to(build.dtype).double() == numbers).all()) or not np.array_equal(
            numbers.numpy().astype(value.dtype), value
        ):
            raise t.refuse(f"its numbers are none of {build.dtype}", "use smaller ones")
        numbers = numbers.reshape(value.shape or (1,))
        first = build.select(build.input, torch.zeros(numbers.shape, dtype=torch.int64))
        symbol = build.shift(build.scale(first, 0.0), numbers)
        return t.variable(symbol, value.shape, value.dtype)

    def _only_output(self) -> str:
        names = [str(value.name) for value in self.file.graph.output]
        if len(names) != 1:
            raise self.file.refuse(
                f"the model has {len(names)} outputs {short(names)}, expected one",
                "choose one by its name, with output=",
            )
        return names[0]

    def _live_nodes(self) -> list[NodeProto]:
        """The nodes that the outputs depend on, in their order."""
        needed, found = {*self.outputs}, []
        for node in reversed(self.file.graph.node):
            if needed.intersection(node.output):
                needed.update(node.input)
                found.append(node)
        return found[::-1]

    def _compare(self, network: Network, build: NetworkBuilder) -> None:
        try:
            runtime = self.runtime(self.portable())
            runtime.each(torch.zeros(1, *network.input_shape))
        except (BoundsError, ValueError):  # not installed, beyond it, or too large for a message
            return
        call = f"from_onnx({self.file.path!r})"
        require_agreement(call, network, build, runtime.each, build.model_dtype)

    def runtime(self, model: bytes | None = None) -> OnnxRuntime:
        """ONNX Runtime for what was read, of this message or else of the file itself."""
        shapes = [tuple(1 if n == BATCH else n for n in shape) for shape in self.shapes]
        names = [str(value.name) for value in self.inputs]
        return OnnxRuntime(self.file.path, model, inputs=names, shapes=shapes, outputs=self.outputs)

    def portable(self) -> bytes:
        """The model as one message, of what its outputs need alone, these among its outputs."""
        old = self.file.model
        new = ModelProto(ir_version=old.ir_version)
        new.opset_import.extend([e for e in old.opset_import if e.domain in ("", "ai.onnx")][:1])
        new.graph.name = "graph"
        new.graph.node.extend(self.nodes)
        new.graph.input.extend(self.inputs)
        new.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(self.outputs))
        own = {value.name for value in self.inputs}
        names = (self.read_names & self.initializers.keys()) - own
        new.graph.initializer.extend(
            numpy_helper.from_array(value, name)
            for name, value in self.values.items()
            if name in names and isinstance(value, np.ndarray)
        )
        return bytes(new.SerializeToString())

    # -- the graph's ends --------------------------------------------------------------------------

    def _find_inputs(self, count: int | None) -> list[ValueInfoProto]:
        """Those that something reads, or where a query says how many there are, all of them:
        without, or with, those that have a default."""
        every = [*self.file.graph.input]
        inputs = [value for value in every if value.name not in self.initializers]
        if count is None:
            inputs = [value for value in inputs if value.name in self.read_names] or inputs[:1]
        elif len(inputs) != count == len(every):
            inputs = every
        if not inputs or len(inputs) != (count or len(inputs)):
            raise self.file.refuse(
                f"the model has {len(inputs)} inputs {short([i.name for i in inputs])}, expected "
                f"{count or 'one or more'}"
            )
        if len({value.name for value in inputs}) < len(inputs):
            raise self.file.refuse("it has two inputs of one name")
        return inputs

    def _input_shapes(self) -> list[Shape]:
        """The shapes that the inputs are declared with, in which BATCH is an open first axis: of
        all of them, or of none."""
        found = [self._input_shape(value) for value in self.inputs]
        if all(shape[:1] == (BATCH,) for shape in found):
            return found
        return [tuple(1 if size == BATCH else size for size in shape) for shape in found]

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
