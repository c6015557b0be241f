"""IDX files for the tests of the MNIST example."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bounds.models import load_digits_images


def idx(array: np.ndarray) -> bytes:
    """The array as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_data(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return folder


def write_digits(folder: Path) -> Path:
    """IDX files of the shipped digits in `folder`, which is made."""
    x, y = load_digits_images()
    images = (255 * x.squeeze(1)).round().to(torch.uint8).numpy()
    folder.mkdir()
    return write_data(folder, images, y.to(torch.uint8).numpy())


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
