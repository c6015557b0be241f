"""Images from a folder of PNG files, with Pillow (the extra `images`)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bounds.errors import BoundsError, InvalidInputError
from bounds.read.export.archive import first_line

#: Pillow's names of bytes, and of colours by their number in a table, which are looked up.
MODES = {"L": "L", "RGB": "RGB", "P": "RGB"}


def read_pictures(folder: Path) -> tuple[np.ndarray, list[str]]:
    """The PNG files in a folder and its subfolders, in the order of their names: bytes (images,
    height, width) or (images, height, width, 3), and the path of each within the folder.

    Raises BoundsError where Pillow is missing, InvalidInputError for a folder without PNG files, or
    with some that are damaged, of other modes or not all of one shape.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".png")
    names = [path.relative_to(folder).as_posix() for path in paths]
    if not paths:
        raise InvalidInputError(
            f"--data {str(folder)!r} has no .png file in it: give a folder of PNG images."
        )
    if find_spec("PIL") is None:
        raise BoundsError(
            "--data with PNG files needs Pillow, which is not installed: pip install "
            "'relu-bounds[images]'."
        )
    images = [_read(path) for path in paths]
    for name, image in zip(names, images, strict=True):
        if image.shape != images[0].shape:
            raise InvalidInputError(
                f"--data has images of several shapes, {names[0]!r} of {images[0].shape} and "
                f"{name!r} of {image.shape}: scale or crop them to that of the network's input."
            )
    return np.stack(images), names


def _read(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            mode = image.mode
            array = np.asarray(image.convert(MODES[mode])) if mode in MODES else None
    # Pillow raises errors of many kinds for damaged files.
    except Exception as error:
        raise InvalidInputError(
            f"--data has {str(path)!r}, which is not a readable PNG file ({first_line(error)}): "
            "save it again, or remove it."
        ) from error
    if array is None:
        raise InvalidInputError(
            f"--data has {str(path)!r} with pixels of mode {mode!r}, expected 8 bits of grey or of "
            "three colours: convert it with PIL.Image.convert('L') or convert('RGB')."
        )
    return array
