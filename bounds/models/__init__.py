"""The small models that come with the package: two networks for scikit-learn's 8 × 8 digits.

Both have the same layers. "digits_standard" was trained for accuracy, "digits_robust" so that
fixed-slope bounds prove its answers; bounds/models/README.md says how, and what they reach.
"""

from __future__ import annotations

from importlib import resources
from typing import IO, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from bounds.errors import InvalidInputError

DigitsModel = Literal["digits_standard", "digits_robust"]
DIGITS_SHAPE = (1, 8, 8)
DIGITS_CLASSES = 10


def digits_layers() -> nn.Sequential:
    """The layers of the digits networks, untrained, for inputs of shape (batch, 1, 8, 8)."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, DIGITS_CLASSES),
    )


def load_digits_model(name: DigitsModel) -> nn.Sequential:
    """The network "digits_standard" or "digits_robust", in float32 and eval mode.

    Raises:
        InvalidInputError: another name.
    """
    if name not in get_args(DigitsModel):
        raise InvalidInputError(
            f"load_digits_model({name!r}): expected one of "
            f"{', '.join(map(repr, get_args(DigitsModel)))}."
        )
    model = digits_layers()
    with _open(f"{name}.npz") as file, np.load(file, allow_pickle=False) as weights:
        model.load_state_dict({key: torch.from_numpy(weights[key]) for key in weights.files})
    return model.eval()


def load_digits_images() -> tuple[Tensor, Tensor]:
    """The first 16 images of the held-out split, whether the networks get them right or not.

    Returns:
        Images of shape (16, 1, 8, 8), float32, pixels in [0, 1]; labels of shape (16,), int64.
    """
    with _open("digits_images.npz") as file, np.load(file, allow_pickle=False) as data:
        return torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])


def _open(name: str) -> IO[bytes]:
    return resources.files("bounds").joinpath("models", name).open("rb")
