"""The published MNIST networks of `../shared/data`, for tests and benchmarks that want real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path("models/robust-verify-benchmark")


def load_model(path: Path) -> nn.Sequential:
    """A state dict of alternating layers and ReLUs, or a folder of input-major .npy matrices."""
    if path.is_dir():
        layers = [
            linear(np.load(path / f"W{k}.npy").T, np.load(path / f"B{k}.npy")) for k in (1, 2)
        ]
        return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1]).double()
    state = torch.load(path, weights_only=True)
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
