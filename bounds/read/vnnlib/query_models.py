"""The models that a query's networks stand for, with the inputs and outputs that it declares."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bounds.errors import BoundsError, InvalidInputError, ModelFileError
from bounds.network.graph import Network
from bounds.read.export.archive import short
from bounds.read.onnx.from_onnx import reading
from bounds.read.onnx.runtime import OnnxRuntime
from bounds.read.vnnlib.query import Declaration, Declared, Query

if TYPE_CHECKING:  # which needs the package onnx
    from onnx import ValueInfoProto

    from bounds.read.onnx.file import OnnxFile
    from bounds.read.onnx.reader import OnnxReader

Path = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Model:
    """network: in float64; takes the inputs one after another, and gives the hidden tensors and
    then the outputs, in the order of their declaration. runtime: the same, where it can be had."""

    network: Network
    runtime: OnnxRuntime | None


def read_models(query: Query, files: Mapping[str, Path]) -> list[Model]:
    """The model of each declared network; files: by the names of those that stand for themselves.

    Raises:
        InvalidInputError: files are missing or too many, or a model has other inputs or outputs
            than the query declares.
        ModelFileError, UnsupportedLayerError: what `from_onnx` refuses.
    """
    own = [network.name for network in query.networks if network.equal_to is None]
    missing, spare = [n for n in own if n not in files], [n for n in files if n not in own]
    if missing or spare:
        found = [f"no model for {short(missing)}"] * bool(missing)
        found += [f"a model for {short(spare)}, which it does not ask for"] * bool(spare)
        raise InvalidInputError(
            f"VNN-LIB {query.name!r} got {' and '.join(found)}: give one model for each of "
            f"{short(own)}, as NAME=MODEL.onnx."
        )
    read: dict[tuple[str, tuple[str | None, ...]], Model] = {}
    models = []
    for network in query.networks:
        path = os.fsdecode(files[network.equal_to or network.name])
        key = (path, tuple(tensor.node for tensor in network.hidden))
        if network.equal_to is None or key not in read:
            read[key] = _Interface(query, network, path).model()
        models.append(read[key])
    return models


class _Interface:
    def __init__(self, query: Query, network: Declaration, path: str) -> None:
        self.query, self.network = query, network
        try:
            from bounds.read.onnx.file import OnnxFile
        except ImportError as error:
            raise ModelFileError(
                "queries need the package onnx, which is not installed: pip install "
                "relu-bounds[onnx]."
            ) from error
        self.file: OnnxFile = OnnxFile(path)

    def model(self) -> Model:
        from bounds.read.onnx.reader import OnnxReader

        network, graph = self.network, self.file.graph
        every = [*graph.input]
        defaults = {tensor.name for tensor in graph.initializer}
        inputs = [value for value in every if value.name not in defaults]
        if len(inputs) != len(network.inputs):
            inputs = every
        self._match("input", network.inputs, inputs)
        self._match("output", network.outputs, [*graph.output])
        for tensor in network.hidden:
            if not any(tensor.node in node.output for node in graph.node):
                raise self._refusal(f"has no node with the output {short(tensor.node)}", tensor)
        names = [*[str(t.node) for t in network.hidden], *[str(v.name) for v in graph.output]]
        with reading(self.file):
            reader = OnnxReader(
                self.file,
                torch.float64,
                open_batch=False,
                drop_softmax=False,
                outputs=names,
                shapes=[tensor.shape for tensor in network.inputs],
            )
            read = reader.read()
        for tensor, name in zip(network.hidden + network.outputs, names, strict=True):
            value = reader.values[name]
            if tuple(value.shape) != tensor.shape:
                raise self._refusal(
                    f"computes {short(name)} with shape {list(value.shape)}", tensor
                )
            if tensor.element not in ("real", value.dtype.name):
                raise self._refusal(f"computes {short(name)} as {value.dtype}", tensor)
        return Model(read, self._runtime(reader, inputs, defaults))

    def _runtime(
        self, reader: OnnxReader, inputs: Sequence[ValueInfoProto], defaults: set[str]
    ) -> OnnxRuntime | None:
        # The file itself returns no hidden tensor, and may need no value for an input.
        other = self.network.hidden or any(value.name in defaults for value in inputs)
        try:
            return reader.runtime(reader.portable() if other else None)
        except (BoundsError, ValueError):  # not installed, beyond it, or too large for a message
            return None

    def _match(
        self, kind: str, tensors: Sequence[Declared], values: Sequence[ValueInfoProto]
    ) -> None:
        if len(tensors) != len(values):
            raise self._refusal(
                f"has {len(values)} {kind}s {short([str(v.name) for v in values])}, where "
                f"{len(tensors)} are declared"
            )
        for tensor, value in zip(tensors, values, strict=True):
            name, element = short(str(value.name)), _element(value)
            if tensor.element not in ("real", element):
                raise self._refusal(f"has the {kind} {name} of type {element}", tensor)
            sizes = self.file.declared(value)
            if sizes is not None and (
                len(sizes) != len(tensor.shape)
                or any(n not in (None, own) for n, own in zip(sizes, tensor.shape, strict=True))
            ):
                shown = ["?" if size is None else size for size in sizes]
                raise self._refusal(f"has the {kind} {name} of shape {short(shown)}", tensor)

    def _refusal(self, found: str, tensor: Declared | None = None) -> InvalidInputError:
        declared = ""
        if tensor is not None:
            declared = f", where {tensor.name} is declared {tensor.element} {list(tensor.shape)}"
        return InvalidInputError(
            f"VNN-LIB {self.query.name!r}: the model {self.file.path!r} of {self.network.name} "
            f"{found}{declared}: declare what the model has, in its order."
        )


def _element(value: ValueInfoProto) -> str:
    """The type of a value as VNN-LIB calls it."""
    import onnx

    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name)
    except KeyError:
        return f"number {value.type.tensor_type.elem_type}"
