"""Images, networks and weights for `examples.mnist`; all files are taken as untrusted."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bounds import BoundsError, InvalidInputError, ModelFileError
from bounds.models import DIGITS_SHAPE, digits_layers

CLASSES = 10
#: Of an image of CIFAR-10; the files that it is trained on, and the one of its test images.
CIFAR_SHAPE = (3, 32, 32)
CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR_TEST = "test_batch.bin"
#: An IDX file of more bytes is none of ours.
LARGEST = 2**28
#: Of the digits: how many are held out, and the seed of the split, as in train_digits.py.
HELD_OUT, SPLIT_SEED = 360, 0


def small_layers() -> nn.Sequential:
    """The small convolutional network of Wong & Kolter for MNIST, untrained."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def wide_layers() -> nn.Sequential:
    """The small one with twice the channels."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def normed_layers() -> nn.Sequential:
    """The wide one with batch normalisation before each ReLU."""
    layers = list(wide_layers())
    return nn.Sequential(
        *(layers[0], nn.BatchNorm2d(32), layers[1]),
        *(layers[2], nn.BatchNorm2d(64), *layers[3:5]),
        *(layers[5], nn.BatchNorm1d(128), *layers[6:]),
    )


def cifar_layers() -> nn.Sequential:
    """The wide one for CIFAR-10."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 8 * 8, 250),
        nn.ReLU(),
        nn.Linear(250, 10),
    )


#: By name: what makes the network, and the shape of its inputs.
MODELS: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...]]] = {
    "small": (small_layers, (1, 28, 28)),
    "wide": (wide_layers, (1, 28, 28)),
    "normed": (normed_layers, (1, 28, 28)),
    "cifar": (cifar_layers, CIFAR_SHAPE),
    "digits": (digits_layers, DIGITS_SHAPE),
}


@dataclass(frozen=True, eq=False)
class Split:
    """raw: (images, channels, height, width), from 0 to `white`. labels: (images,), int64."""

    raw: Tensor
    labels: Tensor
    white: int

    def pixels(self, chosen: Tensor | slice, like: Tensor) -> Tensor:
        """These images with pixels in [0, 1], in the dtype and on the device of `like`."""
        return self.raw[chosen].to(like) / self.white

    def first(self, count: int | None) -> Split:
        return Split(self.raw[:count], self.labels[:count], self.white)

    def __len__(self) -> int:
        return len(self.raw)


@dataclass(frozen=True)
class Data:
    """Images to train on, and others to measure errors on."""

    train: Split
    test: Split


def load_data(folder: Path | None) -> Data:
    """MNIST's four IDX files, gzipped, from `folder`, or CIFAR-10's six binary ones; without a
    folder, scikit-learn's digits.

    Raises InvalidInputError for a file that is missing, damaged, or not of this kind.
    """
    if folder is None:
        return _digits()
    if (folder / CIFAR_TEST).is_file():
        train = [read_cifar(folder / name) for name in CIFAR_TRAIN]
        raw, labels = (torch.cat(parts) for parts in zip(*train, strict=True))
        return Data(Split(raw, labels, 255), Split(*read_cifar(folder / CIFAR_TEST), 255))
    return Data(_split(folder, "train"), _split(folder, "t10k"))


def _split(folder: Path, part: str) -> Split:
    image_path = folder / f"{part}-images-idx3-ubyte.gz"
    images = read_idx(image_path, axes=3)
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", axes=1)
    if len(images) != len(labels) or len(images) == 0:
        raise InvalidInputError(
            f"{str(image_path)!r} has {len(images)} images and its label file {len(labels)} "
            "labels: expected as many of both, and at least one; download them again."
        )
    if labels.max() >= CLASSES:
        raise InvalidInputError(
            f"the label file of {str(image_path)!r} has a label {labels.max()}: expected 0 … "
            f"{CLASSES - 1}; download it again."
        )
    return Split(
        torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64)), 255
    )


def read_cifar(path: Path) -> tuple[Tensor, Tensor]:
    """Images and labels of one of CIFAR-10's binary files: for each a byte that is its class, and
    the bytes of its channels.

    Raises InvalidInputError for anything else.
    """
    size = 1 + math.prod(CIFAR_SHAPE)
    try:
        content = path.read_bytes() if path.stat().st_size <= LARGEST else b""
    except OSError as error:
        raise InvalidInputError(
            f"{str(path)!r} cannot be read ({error.strerror}): expected the six files "
            "of CIFAR-10's binary version."
        ) from error
    if not content or len(content) % size or max(content[::size]) >= CLASSES:
        raise InvalidInputError(
            f"{str(path)!r} is no file of CIFAR-10's binary version, of {size} bytes an image that "
            f"begin with a class below {CLASSES}: download it again."
        )
    records = torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(-1, size)
    return records[:, 1:].reshape(-1, *CIFAR_SHAPE), records[:, 0].long()


def read_idx(path: Path, *, axes: int) -> np.ndarray:
    """The bytes of a gzipped IDX file with so many axes: two zeros, 8 for bytes, the number of
    axes, each length as a big-endian uint32, and the numbers, with nothing after them.

    Raises InvalidInputError for anything else.
    """

    def refused(arrived: str) -> InvalidInputError:
        return InvalidInputError(
            f"{str(path)!r} {arrived}: expected a gzipped IDX file of bytes with {axes} "
            f"{'axes' if axes > 1 else 'axis'}; download it again."
        )

    try:
        with gzip.open(path) as stream:
            content = stream.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise refused(f"cannot be read ({error})") from error
    if len(content) > LARGEST:
        raise refused(f"holds over {LARGEST} bytes")
    magic, header = bytes((0, 0, 8, axes)), 4 + 4 * axes
    if content[:4] != magic or len(content) < header:
        raise refused(f"starts with {content[:4].hex() or 'nothing'} rather than {magic.hex()}")
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], ">u4"))
    if len(content) - header != math.prod(shape):
        raise refused(f"says {' × '.join(map(str, shape))} and holds {len(content) - header} bytes")
    return np.frombuffer(bytearray(content[header:]), np.uint8).reshape(shape)


def _digits() -> Data:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise BoundsError(
            "the digits come with scikit-learn, which is not installed: pip install -e "
            "'.[examples]', or give --data."
        ) from error
    digits = load_digits()
    raw = torch.tensor(digits.images, dtype=torch.uint8).unsqueeze(1)
    labels = torch.tensor(digits.target, dtype=torch.int64)
    order = torch.randperm(len(raw), generator=torch.Generator().manual_seed(SPLIT_SEED))
    test, train = order[:HELD_OUT], order[HELD_OUT:]
    return Data(Split(raw[train], labels[train], 16), Split(raw[test], labels[test], 16))


def load_file(path: Path) -> Any:
    """What a .pth file holds, without unpickling anything but tensors and plain containers."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # it has many types of its own
        reason = f"{type(error).__name__}: {str(error).strip()}".split("\n")[0]
        raise ModelFileError(
            f"{str(path)!r} cannot be read ({reason}): expected what torch.save wrote of a state "
            "dict."
        ) from error


def load_models(path: Path) -> list[tuple[str, nn.Sequential]]:
    """The networks whose weights a file holds, in float32 and eval mode, each with its name.

    path: a state dict, a dict whose "state_dict" is one or a list of them (a cascade), or the
    checkpoint of a training run. Raises ModelFileError for anything else.
    """
    content = load_file(path)
    if isinstance(content, dict):
        content = content.get("state_dict", content.get("model", content))
    parts = content if isinstance(content, list) else [content]
    return [_built(path, weights) for weights in parts]


def load_model(path: Path) -> tuple[str, nn.Sequential]:
    """The one network whose weights a file holds, and its name.

    Raises InvalidInputError for a cascade, and what `load_models` raises.
    """
    models = load_models(path)
    if len(models) != 1:
        raise InvalidInputError(
            f"{str(path)!r} holds a cascade of {len(models)} networks: give the weights of one."
        )
    return models[0]


def fitting(images: Split) -> str:
    """The name of the first network that takes these images, or "small" where none does."""
    given = tuple(images.raw.shape[1:])
    return next((name for name, (_, taken) in MODELS.items() if taken == given), "small")


def require_images(name: str, images: Split) -> None:
    """Refuse, with an InvalidInputError, images that the network of this name does not take."""
    given, (_, taken) = tuple(images.raw.shape[1:]), MODELS[name]
    if given != taken:
        raise InvalidInputError(
            f"the network {name!r} takes images of shape {taken}, and the data have {given}: "
            "choose another network, or --data."
        )


def _built(path: Path, weights: Any) -> tuple[str, nn.Sequential]:
    shapes = weights.items() if isinstance(weights, dict) else ()
    given = {name: getattr(tensor, "shape", None) for name, tensor in shapes}
    for name, (layers, _) in MODELS.items():
        model = layers()
        if given == {part: tensor.shape for part, tensor in model.state_dict().items()}:
            model.load_state_dict(weights)
            return name, model.eval()
    raise ModelFileError(
        f"{str(path)!r} holds no weights of a network that is known here: expected a state dict of "
        f"one of {', '.join(map(repr, MODELS))}."
    )
