"""The instances of a benchmark, as the competition lists them in instances.csv."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bounds.errors import InvalidInputError

#: What a result may be. "error" is a process that failed.
VERDICTS = ("sat", "unsat", "unknown", "timeout", "error")
#: The largest list of instances, in bytes.
MAX_BYTES = 2**25


@dataclass(frozen=True)
class Instance:
    """model, query: as they are listed, from the benchmark's folder. timeout: in seconds."""

    model: str
    query: str
    timeout: float

    @property
    def key(self) -> tuple[str, str]:
        """By which results of different tools are compared: file names, without endings."""
        return stem(self.model), stem(self.query)

    @property
    def name(self) -> str:
        """What its result file is called, but for the ending."""
        return re.sub(r"[^\w.\-]", "_", "__".join(self.key))[:200]


def stem(path: str) -> str:
    """A file's name without its folder, .gz, and .onnx or .vnnlib."""
    name = path.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".gz")
    return name.removesuffix(".onnx").removesuffix(".vnnlib")


def existing(folder: Path, name: str) -> Path:
    """A file of the benchmark, which may be there gzipped, as competitions have them."""
    path = folder / name
    packed = path.with_name(f"{path.name}.gz")
    return packed if not path.exists() and packed.exists() else path


def read_instances(folder: str | os.PathLike[str]) -> list[Instance]:
    """The lines of instances.csv: model, property, timeout in seconds.

    Raises InvalidInputError where it is missing, or a line is not of that form.
    """
    path = Path(folder) / "instances.csv"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInputError(
                f"{os.fspath(path)!r} has over {MAX_BYTES} bytes: split the benchmark."
            )
        lines = list(csv.reader(path.read_text().splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, InvalidInputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(
            f"{os.fspath(path)!r} cannot be read ({reason}): give a folder that has instances.csv."
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line or (number == 1 and line[0].strip().lower() in ("onnx", "onnx_path")):
            continue
        fields = [field.strip() for field in line]
        timeout = _seconds(fields[2]) if len(fields) == 3 else None
        if timeout is None or not fields[0] or not fields[1]:
            raise InvalidInputError(
                f"{os.fspath(path)!r}, line {number}: found {','.join(line)[:100]!r}, expected "
                "model, property, timeout in seconds."
            )
        found.append(Instance(fields[0], fields[1], timeout))
    if not found:
        raise InvalidInputError(f"{os.fspath(path)!r} lists no instances: add one a line.")
    return found


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def shard(instances: Sequence[Instance], number: int, count: int) -> list[Instance]:
    """Every count-th instance, beginning with the number-th, counted from 1."""
    return list(instances[number - 1 :: count])
