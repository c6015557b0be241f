"""Arrays from files: .npy, .npz, and IDX, gzipped or not. All are taken as untrusted."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from bounds.errors import InvalidInputError
from bounds.read.export.archive import first_line
from bounds.read.numpy_file import read_numpy

#: An IDX file of more bytes is refused before they are read.
LARGEST = 2**32


def read_arrays(option: str, path: str) -> dict[str, np.ndarray]:
    """The arrays of a file by name; a file of one array has it under "".

    Raises InvalidInputError for a file that is missing, damaged or of another kind.
    """
    file = Path(path)
    try:
        if not file.is_file():
            raise OSError("it is not there" if not file.exists() else "it is not a regular file")
        if file.suffix not in (".npy", ".npz"):
            return {"": _idx(file)}
        loaded = read_numpy(file)
        return {"": loaded} if isinstance(loaded, np.ndarray) else loaded
    # numpy parses headers as Python, and raises whatever that does.
    except Exception as error:
        raise InvalidInputError(
            f"{option} {path!r} is not a readable .npy, .npz or IDX file ({first_line(error)}): "
            "save it with numpy.save or numpy.savez."
        ) from error


def _idx(file: Path) -> np.ndarray:
    """The bytes of an IDX file: two zeros, 8 for bytes, the number of axes, then each axis's length
    in four bytes, then the numbers."""
    with file.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(file) if zipped else file.open("rb") as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
                raise ValueError("it does not begin as an IDX file of bytes does")
            sizes = np.frombuffer(stream.read(4 * head[3]), ">u4").tolist()
            count = math.prod(sizes)
            if len(sizes) < head[3] or count > LARGEST:
                raise ValueError("its header states no size, or one beyond 4 GiB")
            content = stream.read(count + 1)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"it is cut off or damaged: {error}") from error
    if len(content) != count:
        raise ValueError(f"it states {count} numbers and has {len(content)} or more")
    return np.frombuffer(content, np.uint8).reshape(sizes)
