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
from benchmarks.measure.modules import Model
from benchmarks.published import instances
from benchmarks.published import tables as published

SEED = 20260801
#: Inputs and outputs of the generated networks, as those of MNIST are.
SHAPE, CLASSES = (1, 28, 28), 10


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A batch, and what is not as usual besides.

    batch: of inputs. rows: of each, the first of its margins and of drawn ones behind them; None
    for all margins. radii: times the network's own. cores: None for all.
    """

    batch: int
    rows: int | None = None
    radii: float = 1.0
    cores: int | None = None

    def __str__(self) -> str:
        """As in the names of cells."""
        return ", ".join(
            [str(self.batch)]
            + [f"{self.rows} row{'s' * (self.rows != 1)}"] * (self.rows is not None)
            + [f"{self.radii:g} radii"] * (self.radii != 1)
            + [f"{self.cores} core"] * (self.cores is not None)
        )


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is bounded, and the same as a PyTorch model, for peers that bound those.

    centre, radius: of the balls; where the inputs are a box, its middle and 0. stored: where its
    LPs are kept for whoever needs them next.
    """

    network: bounds.Network
    region: bounds.Ball | bounds.Box
    specification: bounds.Specification
    model: nn.Module
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
        setting: Setting,
        dtype: torch.dtype,
        device: torch.device,
        stored: Path | None = None,
    ) -> Problem:
        if self.make is None:
            network, box, specification = instances.resnet_property(data, self.property_of)
            assert setting.batch == len(box.lower), "a property of VNN-COMP has its own boxes"
            rows = specification.resolve(len(box.lower), network.output_shape, box.lower)
            network = network.convert(lambda tensor: tensor.to(device, dtype))
            return Problem(
                network=network,
                region=box.convert(lambda tensor: tensor.to(device, dtype)),
                specification=bounds.Specification(*(part.to(device, dtype) for part in rows)),
                model=Model(network).requires_grad_(False),
                centre=((box.lower + box.upper) / 2).to(device, dtype),
                radius=0.0,
                stored=stored,
            )
        model, centre = self.make(data, setting.batch)
        with torch.no_grad():
            labels = model(centre).argmax(1)
        model, centre = model.to(device, dtype).requires_grad_(False), centre.to(device, dtype)
        radius = setting.radii * self.radius
        return Problem(
            network=bounds.from_torch(model, centre.shape[1:]),
            region=bounds.Ball(centre, radius=radius),
            specification=rows_of(labels.to(device), setting.rows),
            model=model,
            centre=centre,
            radius=radius,
            stored=stored,
        )


def rows_of(labels: Tensor, number: int | None) -> bounds.Specification:
    """All margins, or the first so many of them and of the rows that are drawn once for all."""
    margins = bounds.margins(labels, CLASSES)
    if number is None:
        return margins
    generator = torch.Generator().manual_seed(SEED)
    drawn = [torch.randn(CLASSES, generator=generator) for _ in range(number)]
    # Drawn in float32, so that they are the same rows in either dtype.
    rows = torch.stack(drawn).to(margins.C).expand(len(labels), -1, -1)
    return bounds.Specification(torch.cat((margins.C, rows), 1)[:, :number])


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
#: What --quick takes, with the largest batch besides the first.
QUICK = {
    "mlp 3×50": 0,
    "mlp 3×100": 10,
    "mlp 3×200": 0,
    "mlp 2×100": 0,
    "mlp 4×100": 0,
    "mnist_MLP_2_100_NOR": 0,
}
