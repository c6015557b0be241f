"""Reads a `torch.export` archive (.pt2) as data: a zip of JSON and raw numbers.

    <root>/byteorder                                  little | big
    <root>/models/<model>.json                        the graph: ExportedProgram of torch's
                                                      _export/serde/schema.py
    <root>/data/weights/<model>_weights_config.json   name → file, dtype, sizes, strides, offset
    <root>/data/weights/weight_<n>                    the bytes of one storage
    <root>/data/constants/…                           the same for constants and those buffers that
                                                      are not persistent

torch.export.load unpickles whatever an archive says is a pickle, so a file from elsewhere can run
code. Here such files are refused, nothing is unpickled, and every size is checked against the bytes
that are there before anything is allocated.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import zipfile
from typing import Any, BinaryIO

import torch
from torch import Tensor

from bounds.errors import ModelFileError

#: The numbers of `ScalarType` in torch's schema that are read.
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
STRIDED = 7  # of `Layout` in torch's schema
SCHEMA = 8  # the major version that torch 2.9 to 2.13 write
MAX_BYTES = 4 * 2**30
MAX_JSON_BYTES = 64 * 2**20

EXPORT = "torch.export.save(torch.export.export(model, (x,)), 'model.pt2')"
OLDER = torch.__version__ < torch.torch_version.TorchVersion("2.9")
SAVE_AGAIN = f"save it again with {EXPORT} under torch 2.9 or later" + (
    f", and not under the installed {torch.__version__}" if OLDER else ""
)


def open_model_file(path: str) -> BinaryIO:
    """Open a regular file for reading; anything else raises ModelFileError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            kind = "a directory" if os.path.isdir(path) else "not a regular file"
            raise refusal(path, f"it is {kind}", "give the path of a .pt2 file")
        return open(path, "rb")
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or error
        raise refusal(
            path, f"it cannot be opened ({reason})", "give the path of a readable .pt2 file"
        ) from error


def short(value: object) -> str:
    """What was found, quoted for a message of one line."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"


def first_line(error: Exception) -> str:
    """What an error of Python or torch says, for a message of one line."""
    return str(error).strip().split("\n")[0][:200]


def refusal(path: str, found: str, remedy: str = SAVE_AGAIN) -> ModelFileError:
    """The error for a file that cannot be read; raise what it returns."""
    return ModelFileError(f"from_export({path!r}): {found}; {remedy}.")


class ExportArchive:
    """An open archive, checked; `program` is its graph as parsed JSON."""

    def __init__(self, path: str, stream: BinaryIO) -> None:
        self.path = path
        self._zip = self._open(stream)
        self._members = self._list_members()
        self._root, self._model = self._find_model()
        byteorder = self._read(f"{self._root}/byteorder").decode("ascii", "replace")
        if byteorder != sys.byteorder:
            raise self.refuse(
                f"its numbers are in byte order {short(byteorder)}, expected {sys.byteorder!r}",
                "save it again on a machine of that byte order",
            )
        self.program: dict[str, Any] = self._json(f"{self._root}/models/{self._model}.json")
        self._configs = {
            folder: self._json(f"{self._root}/data/{folder}/{self._model}_{folder}_config.json")
            for folder in ("weights", "constants")
        }
        major = self.program["schema_version"]["major"]
        if major != SCHEMA:
            raise self.refuse(
                f"its schema has version {short(major)}, expected {SCHEMA}",
                f"save it with one of torch 2.9 to 2.13: {EXPORT}",
            )

    def refuse(self, found: str, remedy: str = SAVE_AGAIN) -> ModelFileError:
        """The error for this file; raise what it returns."""
        return refusal(self.path, found, remedy)

    def tensor(self, folder: str, name: str) -> Tensor:
        """A private copy of the tensor called `name` in "weights" or "constants".

        Raises:
            ModelFileError: the tensor is missing or pickled, or its metadata do not fit its bytes.
        """
        entry = self._configs[folder]["config"].get(name)
        if entry is None:
            raise self.refuse(f"{short(name)} is missing from its {folder}")
        if entry["use_pickle"] is not False:
            raise self.refuse(
                f"{short(name)} is stored as a pickle, which can run code when it is read",
                f"make every parameter, buffer and constant a plain torch.Tensor and {SAVE_AGAIN}",
            )
        meta = entry["tensor_meta"]
        if meta["dtype"] not in DTYPES or meta["layout"] != STRIDED:
            raise self.refuse(
                f"{short(name)} has dtype number {short(meta['dtype'])} and layout number "
                f"{short(meta['layout'])}, expected a dense tensor of real numbers",
                f"convert it to a dense float32 or float64 tensor and {SAVE_AGAIN}",
            )
        dtype = DTYPES[meta["dtype"]]
        sizes = [self._integer(name, size, 1) for size in meta["sizes"]]
        strides = [self._integer(name, stride, 0) for stride in meta["strides"]]
        offset = self._integer(name, meta["storage_offset"], 0)
        if "/" in entry["path_name"]:
            raise self.refuse(
                f"{short(name)} lies at {short(entry['path_name'])}, "
                f"expected the name of a file in data/{folder}"
            )
        stored = self._read(f"{self._root}/data/{folder}/{entry['path_name']}")
        available = len(stored) // dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        # The first condition keeps overlapping strides from making a large tensor of few bytes.
        if torch.Size(sizes).numel() > available or last >= available:
            raise self.refuse(
                f"{short(name)} has sizes {short(sizes)}, strides {short(strides)} and offset "
                f"{offset}, "
                f"but its file holds {available} numbers",
                f"make it contiguous with .contiguous() and {SAVE_AGAIN}",
            )
        storage = torch.frombuffer(bytearray(stored), dtype=dtype, count=available)
        return storage.as_strided(sizes, strides, offset)

    # -- the zip file ------------------------------------------------------------------------------

    def _open(self, stream: BinaryIO) -> zipfile.ZipFile:
        head = stream.read(4)
        if head[:1] == b"\x80" and head[1:2] <= b"\x05":
            raise self._pickled()
        try:
            return zipfile.ZipFile(stream)
        except Exception as error:  # zipfile raises whatever a damaged directory makes of it
            found = (
                "it is a zip archive that is cut short or damaged"
                if head == b"PK\x03\x04"
                else f"it begins with {head!r}, expected a zip archive of torch.export.save"
            )
            raise self.refuse(found) from error

    def _list_members(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            name = info.filename
            if name in members:
                raise self.refuse(f"it holds {short(name)} twice")
            plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
            if not plain or info.compress_size != info.file_size:
                raise self.refuse(
                    f"its member {short(name)} is compressed or encrypted, expected plain bytes"
                )
            members[name] = info
        total = sum(info.file_size for info in members.values())
        if total > MAX_BYTES:
            raise self.refuse(
                f"it declares {total} bytes of content, expected at most {MAX_BYTES}",
                "export a smaller model",
            )
        return members

    def _find_model(self) -> tuple[str, str]:
        names = self._members
        if any(re.search(r"(^|/)data\.pkl$", name) for name in names):
            raise self._pickled()
        old = r"(^|/)(serialized_\w+\.(json|pt)|data/(weights|constants)/[^/]+\.pt)$"
        if any(re.search(old, name) for name in names):
            raise self.refuse("it has the layout of torch 2.8 or older, which pickles the weights")
        graph = re.compile(r"([^/]+)/models/([^/]+)\.json")
        found = [(m[1], m[2]) for name in names if (m := graph.fullmatch(name))]
        if len(found) != 1:
            raise self.refuse(
                f"it is a zip archive with {len(found)} members models/*.json, expected one model"
            )
        return found[0]

    def _pickled(self) -> ModelFileError:
        return self.refuse(
            "it is a pickle checkpoint or a TorchScript file, and unpickling can run code",
            f"load it where you trust it and export the model: {EXPORT}",
        )

    def _read(self, name: str) -> bytes:
        if name not in self._members:
            raise self.refuse(f"its member {short(name)} is missing")
        try:
            return self._zip.read(name)
        except Exception as error:  # as above; a wrong checksum is the usual one
            raise self.refuse(
                f"its member {short(name)} is damaged ({first_line(error)})"
            ) from error

    def _json(self, name: str) -> Any:
        if name in self._members and self._members[name].file_size > MAX_JSON_BYTES:
            raise self.refuse(
                f"its member {short(name)} has {self._members[name].file_size} bytes, "
                f"expected at most {MAX_JSON_BYTES}",
                "export a smaller model",
            )
        try:
            return json.loads(self._read(name))
        except (ValueError, RecursionError) as error:
            raise self.refuse(
                f"its member {short(name)} is not JSON ({first_line(error)})"
            ) from error

    def _integer(self, name: str, value: dict[str, Any], least: int) -> int:
        number = value.get("as_int")
        if type(number) is not int or not least <= number <= MAX_BYTES:
            raise self.refuse(
                f"{short(name)} has {short(value)} among its sizes, strides or offset, "
                f"expected integers of at least {least}"
            )
        return number
