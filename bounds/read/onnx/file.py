"""Opens an ONNX file as data: the graph as a parsed message, and its tensors as arrays.

Nothing in the file is trusted. It is parsed by protobuf alone, whose messages are plain data; every
size is checked against the bytes that are there before anything is allocated; and numbers that lie
in a file of their own ("external data") are read from the model's folder and from nowhere else.
"""

from __future__ import annotations

import math
import os
import stat
from typing import Any, BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, ValueInfoProto

from bounds.errors import ModelFileError
from bounds.read.export.archive import short
from bounds.read.gzipped import EXPANSION, MAX_BYTES, unpacked

#: Element types that are read, with the field that has the numbers where `raw_data` has not.
ELEMENTS: dict[int, tuple[type[np.generic], str]] = {
    TensorProto.FLOAT: (np.float32, "float_data"),
    TensorProto.DOUBLE: (np.float64, "double_data"),
    TensorProto.FLOAT16: (np.float16, "int32_data"),
    TensorProto.INT8: (np.int8, "int32_data"),
    TensorProto.INT16: (np.int16, "int32_data"),
    TensorProto.INT32: (np.int32, "int32_data"),
    TensorProto.INT64: (np.int64, "int64_data"),
    TensorProto.UINT8: (np.uint8, "int32_data"),
    TensorProto.BOOL: (np.bool_, "int32_data"),
}
DATA_FIELDS = ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "string_data")
#: Since opset 7 operators broadcast as numpy does; 27 is the newest that was compared with a
#: runtime.
OPSETS = range(7, 28)
MAX_AXES = 64
MAX_CONSTANTS = 2**28  # numbers, of all tensors together: as many as such a message has room for

EXPORT_AGAIN = "export the model again, in float32"


def element_name(number: int) -> str:
    """The name of an element type, such as FLOAT16."""
    names = {v: k for k, v in TensorProto.DataType.items()}
    return names.get(number, f"number {number}")


def opsets() -> range:
    """The versions of ONNX's operators that are read, of those that the package onnx knows."""
    return range(OPSETS[0], min(OPSETS[-1], onnx.defs.onnx_opset_version()) + 1)


class OnnxFile:
    """A file, parsed and otherwise unchecked."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.model = self._parse()
        self.graph = self.model.graph
        self._room = MAX_CONSTANTS

    def refuse(self, found: str, remedy: str = EXPORT_AGAIN) -> ModelFileError:
        """The error for this file; raise what it returns."""
        return ModelFileError(f"from_onnx({self.path!r}): {found}; {remedy}.")

    def claim(self, numbers: int) -> None:
        """Count the numbers of a constant before they are made, up to MAX_CONSTANTS in all."""
        self._room -= numbers
        if self._room < 0:
            raise self.refuse(
                f"its constants have more than {MAX_CONSTANTS} numbers", "export a smaller model"
            )

    def array(self, tensor: TensorProto) -> np.ndarray:
        """A private copy of the tensor's numbers.

        Raises:
            ModelFileError: an element type that is not read, or metadata that do not fit the bytes.
        """
        name, shape = short(tensor.name), tuple(tensor.dims)
        if tensor.data_type not in ELEMENTS:
            raise self.refuse(
                f"its tensor {name} has elements of type {element_name(tensor.data_type)}, "
                f"expected one of {', '.join(map(element_name, ELEMENTS))}"
            )
        kind, field = ELEMENTS[tensor.data_type]
        if len(shape) > MAX_AXES or any(size < 0 for size in shape):
            raise self.refuse(f"its tensor {name} has shape {short(shape)}")
        # Numbers are little-endian; a byte other than 0 and 1 is no bool that numpy may see.
        stored = np.dtype(np.uint8 if kind is np.bool_ else kind).newbyteorder("<")
        count = math.prod(shape)
        self.claim(count)
        filled = [f for f in DATA_FIELDS if len(getattr(tensor, f))]
        if tensor.data_location == TensorProto.EXTERNAL:
            filled.append("external data")
            data = self._external(tensor, count * stored.itemsize)
        elif tensor.HasField("raw_data"):
            data = tensor.raw_data
        else:
            numbers = np.array(getattr(tensor, field))
            if kind is np.float16:  # whose bits are written as integers
                numbers = numbers.astype(np.uint16).view(np.float16)
            data = numbers.astype(kind).astype(stored).tobytes()
        if len(filled) > 1 or tensor.HasField("segment"):
            raise self.refuse(f"its tensor {name} has its numbers in several places")
        if len(data) != count * stored.itemsize:
            raise self.refuse(
                f"its tensor {name} has shape {short(shape)} and type "
                f"{element_name(tensor.data_type)}, but {len(data)} bytes of numbers"
            )
        return np.frombuffer(data, stored).reshape(shape).astype(kind)

    def opset(self) -> int:
        """The version of ONNX's operators that the model is written in.

        Raises:
            ModelFileError: a version that is not read, or something in the model that no network
                has.
        """
        model, graph = self.model, self.graph
        versions = [e.version for e in model.opset_import if e.domain in ("", "ai.onnx")]
        if not model.HasField("graph") or len({*versions}) != 1:
            raise self.refuse(
                "it has no graph, or not one version of the ONNX operators but "
                f"{short(sorted(versions))}"
            )
        known = opsets()
        if versions[0] not in known:
            raise self.refuse(
                f"its opset is {versions[0]}, expected {known[0]} to {known[-1]}",
                "convert it with onnx.version_converter, or export it with such an opset",
            )
        others: dict[str, Any] = {
            "functions of its own": model.functions,
            "training information": model.training_info,
            "sparse initializers": graph.sparse_initializer,
        }
        for what, found in others.items():
            if found:
                raise self.refuse(f"it has {what}, which are not modelled")
        return int(versions[0])

    def declared(self, value: ValueInfoProto) -> list[int | None] | None:
        """The sizes that the graph declares, None for one that is open; None without a shape."""
        if not value.type.tensor_type.HasField("shape"):
            return None
        dims = value.type.tensor_type.shape.dim
        return [d.dim_value if d.WhichOneof("value") == "dim_value" else None for d in dims]

    # -- the file ----------------------------------------------------------------------------------

    def _parse(self) -> ModelProto:
        with self._open(self.path, "give the path of an .onnx file") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_BYTES:
                raise self.refuse(
                    f"it has {size} bytes, expected at most {MAX_BYTES}",
                    "save its weights as external data",
                )
            data = unpacked(stream.read())
            if data is None:
                raise self.refuse(
                    f"it unpacks to more than {EXPANSION} times its size, or is damaged",
                    "unpack it with gunzip",
                )
        model = ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError as error:
            raise self.refuse(
                f"it begins with {data[:4]!r} and is no ONNX file, or a damaged one"
            ) from error
        return model

    def _open(self, path: str, remedy: str) -> BinaryIO:
        name = "it" if path == self.path else short(path)
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                kind = "a directory" if os.path.isdir(path) else "not a regular file"
                raise self.refuse(f"{name} is {kind}", remedy)
            return open(path, "rb")
        except (OSError, ValueError) as error:  # ValueError: a path with a null character
            reason = getattr(error, "strerror", None) or error
            raise self.refuse(f"{name} cannot be opened ({reason})", remedy) from error

    def _external(self, tensor: TensorProto, length: int) -> bytes:
        name = short(tensor.name)
        entries: dict[str, str] = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        folder = os.path.dirname(os.path.realpath(self.path))
        path = os.path.normpath(os.path.join(folder, location))
        inside = os.path.commonpath((folder, path)) == folder != path and "\0" not in location
        if not inside or ".." in location.split("/") or os.path.realpath(path) != path:
            raise self.refuse(
                f"its tensor {name} lies in the file {short(location)}, expected a file in the "
                "model's own folder that no link leads to",
                "put the file of weights beside the model",
            )
        numbers = {key: entries[key] for key in ("offset", "length") if key in entries}
        if not all(
            text.isascii() and text.isdigit() and len(text) < 20 for text in numbers.values()
        ):
            raise self.refuse(
                f"its tensor {name} has {short(numbers)} in {short(location)}, expected integers"
            )
        offset = int(numbers.get("offset", 0))
        with self._open(path, "put the file of weights beside the model") as stream:
            available = os.fstat(stream.fileno()).st_size - offset
            if int(numbers.get("length", length)) != length or available < length:
                raise self.refuse(
                    f"its tensor {name} needs {length} bytes of {short(location)}, of which "
                    f"{numbers.get('length', max(available, 0))} are there from {offset} on"
                )
            stream.seek(offset)
            return stream.read(length)
