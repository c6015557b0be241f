"""Published networks and images, read from a data folder that is not part of the project.

The folder is $BOUNDS_DATA, or `../shared/data` beside the checkout; its `models` are the state
dicts of Salman et al. 2019 (github.com/Hadisalman/robust-verify-benchmark, MIT).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import bounds
from bounds.read.vnnlib import read_vnnlib

FOLDER = Path("models/robust-verify-benchmark")
#: What the CIFAR-10 networks subtract from a pixel in [0, 1] and divide it by.
CIFAR_MEAN, CIFAR_DEVIATION = (0.485, 0.456, 0.406), 0.225


def data_folder() -> Path:
    """Where the data should be, whether it is there or not."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
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


def cifar_images(data: Path) -> tuple[Tensor, Tensor]:
    """The first hundred CIFAR-10 test images, (100, 3, 32, 32) in [0, 1], and their labels."""
    with np.load(data / "cifar10" / "cifar10_test_first100_eran.npz") as archive:
        images, labels = archive["images"], archive["labels"]
    return torch.from_numpy(images).double() / 255, torch.from_numpy(labels)


@dataclass(frozen=True)
class Images:
    """What a published network is asked about: x, (images, *shape), and the box of its pixels, in
    the network's units, of which a pixel's are `unit`; what it answers, and the network."""

    model: nn.Sequential
    network: bounds.Network
    x: Tensor
    lower: Tensor
    upper: Tensor
    labels: Tensor
    unit: float

    @property
    def margins(self) -> bounds.Specification:
        return bounds.margins(self.labels, 10)


def images_of(data: Path, name: str, images: slice) -> Images:
    """Some of the images of a network, float64.

    MNIST networks get the ten images; those of CIFAR-10 the first ones that they classify rightly,
    and, as in their training, (pixel − mean) / 0.225.
    """
    model = load_model(data / FOLDER / name)
    if "cifar" in name:
        x, y = cifar_images(data)
        mean, deviation = torch.tensor(CIFAR_MEAN).double().reshape(3, 1, 1), CIFAR_DEVIATION
        with torch.no_grad():
            x = x[model((x - mean) / deviation).argmax(1) == y][images]
    else:
        x, mean, deviation = ten_images(data)[images], torch.zeros(1, 1, 1).double(), 1.0
    centre, lower, upper = ((t - mean) / deviation for t in (x, 0.0 * x, 0.0 * x + 1))
    with torch.no_grad():
        labels = model(centre).argmax(1)
    network = bounds.from_torch(model, x.shape[1:])
    return Images(model, network, centre, lower, upper, labels, 1 / deviation)


def relaxation(
    data: Path, name: str, radius: float, images: slice
) -> tuple[nn.Sequential, bounds.Relaxation]:
    """The nine margins of some of the images, pixels clipped to [0, 1], float64. The radius is in
    units of a pixel."""
    of = images_of(data, name, images)
    ball = bounds.Ball(of.x, radius=radius * of.unit, lower=of.lower, upper=of.upper)
    return of.model, bounds.relax(of.network, ball, of.margins).double()


def resnet_property(
    data: Path, name: str
) -> tuple[bounds.Network, bounds.Box, bounds.Specification]:
    """The first property of a residual CIFAR-10 network of VNN-COMP 2021, float64."""
    folder = data / "vnncomp" / "cifar10_resnet"
    network = bounds.from_onnx(folder / "onnx" / f"{name}.onnx", dtype=torch.float64)
    properties = folder / "vnnlib_properties_pgd_filtered"
    first = sorted((properties / f"{name.replace('_', '')}_pgd_filtered").glob("*.vnnlib"))[0]
    stated = read_vnnlib(first)
    case = stated.cases[0]
    box = stated.box([case], network.input_shape, torch.float64)
    return network, box, stated.specification(case.disjuncts, grown=True)


def resnet_relaxation(data: Path, name: str) -> bounds.Relaxation:
    """That property's LPs."""
    return bounds.relax(*resnet_property(data, name))
