"""Published MNIST networks and images, read from a data folder that is not part of the project.

The folder is $BOUNDS_DATA, or `../shared/data` beside the checkout; its `models` are the state
dicts of Salman et al. 2019 (github.com/Hadisalman/robust-verify-benchmark, MIT).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import bounds

FOLDER = Path("models/robust-verify-benchmark")


def data_folder() -> Path:
    """Where the data should be, whether it is there or not."""
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    return Path(os.environ.get("BOUNDS_DATA", beside))


def load_model(path: Path) -> nn.Sequential:
    """A state dict of alternating layers and ReLUs, or a folder of input-major .npy matrices."""
    if path.is_dir():
        layers = [
            linear(np.load(path / f"W{k}.npy").T, np.load(path / f"B{k}.npy")) for k in (1, 2)
        ]
        return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1]).double()
    state = torch.load(path, map_location="cpu", weights_only=True)
    modules: list[nn.Module] = []
    names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    for name in names:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        if weight.dim() == 4:
            modules.append(nn.Conv2d(weight.shape[1], weight.shape[0], 4, stride=2, padding=1))
            modules[-1].load_state_dict({"weight": weight, "bias": bias})
        else:
            if not any(isinstance(module, nn.Flatten) for module in modules):
                modules.append(nn.Flatten())
            modules.append(linear(weight.numpy(), bias.numpy()))
        modules.append(nn.ReLU())
    return nn.Sequential(*modules[:-1]).double()


def linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict(
        {"weight": torch.from_numpy(weight.copy()), "bias": torch.from_numpy(bias.copy())}
    )
    return layer


def ten_images(data: Path) -> Tensor:
    """The ten test images of Salman et al., (10, 1, 28, 28) in [0, 1]."""
    return torch.from_numpy(
        np.load(data / FOLDER / "experiment_2" / "ten_test_images.npy")
    ).double()


def relaxation(
    data: Path, name: str, radius: float, images: slice
) -> tuple[nn.Sequential, bounds.Relaxation]:
    """The nine margins of some of the ten images, pixels clipped to [0, 1], float64."""
    model = load_model(data / FOLDER / name)
    x = ten_images(data)[images]
    with torch.no_grad():
        labels = model(x).argmax(1)
    network = bounds.Network.from_torch(model, (1, 28, 28))
    ball = bounds.Ball(x, radius=radius, lower=0.0, upper=1.0)
    return model, bounds.relax(network, ball, bounds.margins(labels, 10)).double()
