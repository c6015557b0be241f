"""NumPy's own files, taken as untrusted."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

#: What the arrays of an .npz file may be, in bytes: so many times the file's own, or this many.
EXPANSION, SMALL = 64, 2**25


def read_numpy(file: Path) -> np.ndarray | dict[str, np.ndarray]:
    """The array of an .npy file, or those of an .npz file by name.

    Raises ValueError for an .npz file that unpacks out of proportion or has a name twice; and
    whatever NumPy raises for damaged ones, whose headers it parses as Python.
    """
    with warnings.catch_warnings(action="ignore"):
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            size = sum(member.file_size for member in loaded.zip.infolist())
            if size > max(SMALL, EXPANSION * file.stat().st_size):
                raise ValueError(f"its arrays are of {size} bytes, out of proportion to the file")
            if len(set(loaded.files)) < len(loaded.files):
                raise ValueError("it has two arrays of the same name")
            return {key: loaded[key] for key in loaded.files}
