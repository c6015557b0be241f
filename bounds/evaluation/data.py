"""A data set: images as a network takes them, each with its label and name."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bounds.arguments import all_finite
from bounds.errors import InvalidInputError
from bounds.evaluation.arrays import read_arrays
from bounds.evaluation.pictures import read_pictures
from bounds.network.affine import Shape

#: What an array of images, or of labels, is called where an .npz has several that could be it.
IMAGES = ("images", "x", "X", "x_test", "data")
LABELS = ("labels", "y", "Y", "y_test", "label")
#: Characters of a text file of labels that are read.
LONGEST = 2**26


@dataclass(frozen=True, eq=False)
class DataSet:
    """images: (images, *input_shape), float32 or float64. labels: (images,), int64. names: of the
    files, or the images' positions. pixels: whether they were bytes, which are in [0, 1] now."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    pixels: bool


def read_data(data: str, labels: str | None, input_shape: Shape) -> DataSet:
    """Images from a folder of PNG files, an .npy, .npz or IDX file, as a network of this input
    shape takes them, and their labels.

    Bytes are divided by 255, in float32; floating-point numbers are taken as they are. Grey images
    (height, width) fit inputs (1, height, width) and (height · width,); images with their channels
    last fit inputs that have them first.

    labels: an .npy, .npz, IDX or text file, the name of an array in the .npz, or None for the
    .npz's own labels or the names of the folder's subfolders, which are numbers, or else stand for
    0, 1, … in alphabetical order. A text file has a line an image, in the order of the images: the
    label, or the file's name, a comma, and the label.

    Raises InvalidInputError for files that are missing, damaged, or do not fit.
    """
    path, known = Path(data), None
    if path.is_dir():
        array, names = read_pictures(path)
        if labels is None:
            known = _of_folders(names)
    else:
        arrays = read_arrays("--data", data)
        name, array = _images_of(arrays, data)
        names = [str(number) for number in range(len(array))]
        rest = {key: value for key, value in arrays.items() if key != name}
        if labels is None:
            known = _labels_among(rest)
        elif labels in rest:
            known = rest[labels]
    if known is None:
        if labels is None:
            raise InvalidInputError(
                "--labels is missing: give a file of labels, the name of an array in the .npz, or "
                "images in one folder a class."
            )
        known = _labels_of(labels, names)
    return DataSet(
        _shaped(array, input_shape, data),
        _checked(known, len(array)),
        tuple(names),
        array.dtype == np.uint8,
    )


def _images_of(arrays: dict[str, np.ndarray], data: str) -> tuple[str, np.ndarray]:
    found = [name for name, array in arrays.items() if array.ndim >= 2]
    if len(found) > 1:
        found = [name for name in IMAGES if name in found][:1]
    if not found or len(arrays[found[0]]) == 0:
        held = ", ".join(f"{name or 'an array'} {value.shape}" for name, value in arrays.items())
        raise InvalidInputError(
            f"--data {data!r} holds {held[:200] or 'nothing'}, expected one array of images "
            "(images, …), or one that is called 'images'."
        )
    return found[0], arrays[found[0]]


def _labels_among(arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    whole = [name for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "iu"]
    if len(whole) > 1:
        whole = [name for name in LABELS if name in whole][:1]
    return arrays[whole[0]] if whole else None


def _labels_of(labels: str, names: list[str]) -> np.ndarray:
    path = Path(labels)
    if path.suffix not in (".txt", ".csv"):
        arrays = read_arrays("--labels", labels)
        found = arrays[""] if "" in arrays else _labels_among(arrays)
        if found is None:
            raise InvalidInputError(
                f"--labels {labels!r} has no array of whole numbers, one an image: save one as "
                "'labels'."
            )
        return found
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file.read(LONGEST).splitlines()) if row]
        if all(len(row) == 1 for row in rows):
            return np.array([int(row[0]) for row in rows], dtype=np.int64)
        of_name = {row[0].strip(): int(row[1]) for row in rows if len(row) == 2}
        missing = [name for name in names if name not in of_name]
        if missing:
            raise ValueError(f"it has no line 'name,label' for {missing[0]!r}")
        return np.array([of_name[name] for name in names], dtype=np.int64)
    except (OSError, ValueError, OverflowError, csv.Error) as error:
        raise InvalidInputError(
            f"--labels {labels!r} is no text file of labels ({error}): write one whole number a "
            "line, or a file's name, a comma and its label."
        ) from error


def _of_folders(names: list[str]) -> np.ndarray | None:
    """The class of each file by the first folder on its path; None where one is in no folder."""
    if any("/" not in name for name in names):
        return None
    folders = [name.split("/")[0] for name in names]
    if all(folder.isascii() and folder.isdigit() and len(folder) < 10 for folder in folders):
        return np.array(list(map(int, folders)), dtype=np.int64)
    position = {folder: k for k, folder in enumerate(sorted(set(folders)))}
    return np.array([position[folder] for folder in folders], dtype=np.int64)


def _checked(labels: np.ndarray, images: int) -> Tensor:
    if labels.dtype.kind not in "iu" or labels.shape != (images,):
        raise InvalidInputError(
            f"--labels has {labels.dtype} of shape {labels.shape} for {images} images, expected a "
            f"whole number for each, ({images},)."
        )
    # What exceeds int64 wraps to a negative class, which is refused as well.
    return torch.from_numpy(labels.astype(np.int64))


def _shaped(array: np.ndarray, shape: Shape, data: str) -> Tensor:
    """The images as a batch of the network's inputs."""
    size, arrived = array.shape[1:], f"--data {data!r} has images of shape {array.shape[1:]}"
    if array.dtype != np.uint8 and (array.dtype.kind != "f" or array.itemsize > 8):
        raise InvalidInputError(
            f"--data {data!r} holds {array.dtype}, expected bytes (uint8, which become 0 … 1) or "
            "floating-point numbers: convert with array.astype('float32')."
        )
    if size == shape:
        pass
    elif len(size) == 2 and shape in ((1, *size), (math.prod(size),)):
        array = array.reshape(-1, *shape)
    elif len(size) == 3 and (size[2], *size[:2]) == shape:
        array = np.moveaxis(array, 3, 1)
    else:
        raise InvalidInputError(
            f"{arrived}, and the network takes {shape}: save them in that shape, or give the "
            "network that they are for."
        )
    if array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)) / 255
    wide = np.float64 if array.itemsize == 8 else np.float32
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=wide))
    if not all_finite(tensor):
        raise InvalidInputError(f"--data {data!r} has NaN or infinite numbers: remove them first.")
    return tensor
