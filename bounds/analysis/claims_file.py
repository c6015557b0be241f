"""Files of claimed bounds, taken as untrusted: arrays of numbers by "NAME.lower" and "NAME.upper".

NAME is "output", "rows", or a ReLU's node; the rows themselves are "rows.C" and "rows.d". An .npz
file has arrays by these keys; a .json file an object that has them nested:
{"output": {"lower": [[…]], "upper": [[…]]}, "rows": {"C": …, "lower": …}}. Infinity claims nothing.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bounds.errors import InvalidInputError
from bounds.files import shown_path, write_file
from bounds.read.export.archive import first_line
from bounds.read.numpy_file import read_numpy

#: Whole numbers below are numbers of float64.
WHOLE = 2**53


def write_claim_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """An .npz file of them.

    Raises InvalidInputError for a path that cannot be written.
    """
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_file(path, content.getvalue())


def read_claim_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an .npz or .json file by their keys, in float64.

    Raises InvalidInputError for a file that is missing, damaged or of another kind, and for what is
    no number of float64.
    """
    try:
        file = Path(path)
        if not file.is_file():
            raise OSError("it is not there" if not file.exists() else "it is not a regular file")
        arrays = _json(file) if file.suffix == ".json" else _npz(file)
        return {key: _numbers(key, array) for key, array in arrays.items()}
    # numpy parses headers as Python, and raises whatever that does.
    except Exception as error:
        raise InvalidInputError(
            f"{shown_path(path)} is not a readable .npz or .json file of claims "
            f"({first_line(error)}): write it with bounds.Claims(ends).save(path)."
        ) from error


def _npz(file: Path) -> dict[str, np.ndarray]:
    loaded = read_numpy(file)
    if isinstance(loaded, np.ndarray):
        raise ValueError("it is one array without a name")
    return loaded


def _json(file: Path) -> dict[str, np.ndarray]:
    whole = json.loads(file.read_bytes(), object_pairs_hook=_once, parse_int=_whole)
    if not isinstance(whole, dict) or not all(isinstance(part, dict) for part in whole.values()):
        raise ValueError("it is no object of objects")
    if _holds_truths(whole):
        raise ValueError("it holds true or false, which are no numbers")
    return {
        f"{name}.{key}": np.asarray(numbers)
        for name, part in whole.items()
        for key, numbers in part.items()
    }


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has two entries of the same name")
    return found


def _whole(digits: str) -> float:
    """A whole number as float64, which has to hold it."""
    number = int(digits)
    if abs(number) >= WHOLE:
        raise ValueError("it holds whole numbers of 2**53 or more, which float64 may not")
    return float(number)


def _holds_truths(part: object) -> bool:
    """Which NumPy would take for 0 and 1, among numbers."""
    if isinstance(part, dict | list):
        return any(map(_holds_truths, part.values() if isinstance(part, dict) else part))
    return isinstance(part, bool)


def _numbers(key: str, array: np.ndarray) -> np.ndarray:
    """The same numbers in float64, which has to hold them."""
    if array.dtype.kind not in "fiu" or array.itemsize > 8:
        raise ValueError(f"{key} holds {array.dtype}, expected numbers of float64")
    whole = array.dtype.kind != "f" and array.size
    if whole and not -WHOLE < int(array.min()) <= int(array.max()) < WHOLE:
        raise ValueError(f"{key} holds whole numbers of 2**53 or more, which float64 may not")
    with np.errstate(all="ignore"):
        numbers = np.array(array, dtype=np.float64, order="C")
    if bool(np.isnan(numbers).any()):
        raise ValueError(f"{key} holds NaN")
    return numbers
