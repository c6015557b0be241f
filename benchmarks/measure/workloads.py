"""The networks that are timed: published ones, and generated families that grow in one direction.

A generated network has He weights and normal inputs of one fixed seed, and an MLP a radius at which
backward bounds leave a fifth of its neurons unstable: if that share were another at each size,
times would show it and not the size. Nothing is clipped: the peers take no box besides the ball.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bounds
from benchmarks.published import instances
from benchmarks.published import tables as published

SEED = 20260801
#: Inputs and outputs of the generated networks, as those of MNIST are.
SHAPE, CLASSES = (1, 28, 28), 10


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is bounded, and for peers that bound a PyTorch model, the model itself if there is one.

    centre, radius: of the balls. stored: where its LPs are kept for whoever needs them next.
    """

    network: bounds.Network
    region: bounds.Ball | bounds.Box
    specification: bounds.Specification
    model: nn.Sequential | None
    centre: Tensor
    radius: float
    stored: Path | None = None

    def relax(self, **options: Any) -> bounds.Relaxation:
        return bounds.relax(self.network, self.region, self.specification, **options)

    def lps(self) -> bounds.Relaxation:
        """The same LPs for everyone who solves them: l and u are backward bounds."""
        if self.stored is None or not self.stored.exists():
            relaxation = self.relax()
            if self.stored is not None:
                torch.save(relaxation, self.stored)
            return relaxation
        # Our own file, seconds old.
        return torch.load(self.stored, map_location=self.centre.device, weights_only=False)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A network by how it is made, with the radius of its balls and the batches it is timed with.

    make: from the data folder, the model in float64 and as many inputs as asked for, float64.
    property_of: a network of VNN-COMP in place of that, with one box of its own.
    fast, exact: batches for methods of few passes, and for those that solve LPs; the first of each
    is what networks are compared at. published: whether it needs the data folder.
    """

    make: Callable[[Path, int], tuple[nn.Sequential, Tensor]] | None = None
    property_of: str = ""
    radius: float = 0.0
    fast: tuple[int, ...] = (10,)
    exact: tuple[int, ...] = (3,)
    published: bool = False

    def load(
        self,
        data: Path,
        *,
        batch: int,
        dtype: torch.dtype,
        device: torch.device,
        stored: Path | None = None,
    ) -> Problem:
        if self.make is None:
            network, box, specification = instances.resnet_property(data, self.property_of)
            assert batch == len(box.lower), "a property of VNN-COMP has its own boxes"
            rows = specification.resolve(batch, network.output_shape, box.lower)
            return Problem(
                network=network.convert(lambda tensor: tensor.to(device, dtype)),
                region=box.convert(lambda tensor: tensor.to(device, dtype)),
                specification=bounds.Specification(*(part.to(device, dtype) for part in rows)),
                model=None,
                centre=((box.lower + box.upper) / 2).to(device, dtype),
                radius=0.0,
                stored=stored,
            )
        model, centre = self.make(data, batch)
        with torch.no_grad():
            labels = model(centre).argmax(1)
        model, centre = model.to(device, dtype).requires_grad_(False), centre.to(device, dtype)
        return Problem(
            network=bounds.from_torch(model, centre.shape[1:]),
            region=bounds.Ball(centre, radius=self.radius),
            specification=bounds.margins(labels.to(device), CLASSES),
            model=model,
            centre=centre,
            radius=self.radius,
            stored=stored,
        )


# -- generated


def generated(*layers: nn.Module) -> nn.Sequential:
    """The layers with ReLUs between them and He weights."""
    generator = torch.Generator().manual_seed(SEED)
    modules: list[nn.Module] = []
    for layer in layers:
        modules.append(layer)
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            assert layer.bias is not None
            nn.init.normal_(layer.bias, std=0.1, generator=generator)
            modules.append(nn.ReLU())
    return nn.Sequential(*modules[:-1]).double()


def inputs(batch: int) -> Tensor:
    """Normal numbers; those of a smaller batch are the first of a larger one."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.stack(
        [torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(batch)]
    )


def mlp(depth: int, width: int, radius: float, **batches: tuple[int, ...]) -> Workload:
    """`depth` hidden layers of `width` neurons."""

    def make(_: Path, batch: int) -> tuple[nn.Sequential, Tensor]:
        sizes = [math.prod(SHAPE), *[width] * depth, CLASSES]
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        return generated(nn.Flatten(), *layers), inputs(batch)

    return Workload(make=make, radius=radius, **batches)


def deep_conv(radius: float) -> Workload:
    """Six convolutions and two linear layers, about 13,000 neurons."""

    def make(_: Path, batch: int) -> tuple[nn.Sequential, Tensor]:
        model = generated(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.Conv2d(8, 8, 4, stride=2, padding=1),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.Conv2d(16, 16, 4, stride=2, padding=1),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.Flatten(),
            nn.Linear(32 * 3 * 3, 100),
            nn.Linear(100, CLASSES),
        )
        return model, inputs(batch)

    return Workload(make=make, radius=radius)


# -- published


def salman(name: str, radius: float) -> Workload:
    """Of Salman et al. 2019, on the first test images; the radius is in units of a pixel."""
    cifar = name.startswith("cifar")
    deviation = instances.CIFAR_DEVIATION if cifar else 1.0

    def make(data: Path, batch: int) -> tuple[nn.Sequential, Tensor]:
        model = instances.load_model(data / instances.FOLDER / "experiment_2" / f"{name}.pth")
        if not cifar:
            return model, published.mnist(data)[0][:batch]
        mean = torch.tensor(instances.CIFAR_MEAN, dtype=torch.float64).reshape(3, 1, 1)
        return model, (instances.cifar_images(data)[0][:batch] - mean) / deviation

    return Workload(make=make, radius=radius / deviation, fast=(10, 1, 50), published=True)


# -- the table

#: A family's from small to large: what takes too long on one is not tried on the next.
NETWORKS: dict[str, Workload] = {
    "mlp 3×50": mlp(3, 50, 0.0076),
    "mlp 2×100": mlp(2, 100, 0.0092),
    "mlp 3×100": mlp(3, 100, 0.0079, fast=(10, 1, 3, 30, 100, 300), exact=(3, 1, 10, 30)),
    "mlp 4×100": mlp(4, 100, 0.0073),
    "mlp 6×100": mlp(6, 100, 0.0061),
    "mlp 9×100": mlp(9, 100, 0.0043),
    "mlp 3×200": mlp(3, 200, 0.0073),
    "mlp 3×400": mlp(3, 400, 0.0073),
    "mlp 3×800": mlp(3, 800, 0.0060),
    "mlp 9×500": mlp(9, 500, 0.0024),
    "deep conv": deep_conv(0.01),
    "mnist_MLP_2_100_NOR": salman("mnist_MLP_2_100_NOR", 0.02),
    "mnist_MLP_9_100_NOR": salman("mnist_MLP_9_100_NOR", 0.005),
    "mnist_cnn_small_NOR": salman("mnist_cnn_small_NOR", 0.02),
    "mnist_cnn_small_LPD": salman("mnist_cnn_small_LPD", 0.1),
    "mnist_cnn_wide_1_LPD": salman("mnist_cnn_wide_1_LPD", 0.1),
    "cifar_cnn_small_LPD": salman("cifar_cnn_small_LPD", 2 / 255),
    "cifar10_resnet_2b": Workload(property_of="resnet_2b", fast=(1,), exact=(1,), published=True),
}
#: The networks along which one size grows, by that size; the batch grows on one network.
FAMILIES: dict[str, dict[int, str]] = {
    "width": {width: f"mlp 3×{width}" for width in (50, 100, 200, 400, 800)},
    "depth": {depth: f"mlp {depth}×100" for depth in (2, 3, 4, 6, 9)},
}
GROWING_BATCH = "mlp 3×100"
#: What --quick takes, with the largest batch besides the first.
QUICK = {
    "mlp 3×50": 0,
    "mlp 3×100": 10,
    "mlp 3×200": 0,
    "mlp 2×100": 0,
    "mlp 4×100": 0,
    "mnist_MLP_2_100_NOR": 0,
}
