"""What auto_LiRPA and convex_adversarial claim of the shipped digits network, judged.

Takes a minute on one core, whichever of the two is installed (the other is left out, and said so):

    pip install "convex_adversarial==0.4.4"
    git clone https://github.com/Verified-Intelligence/auto_LiRPA  # its installer refuses new torch
    PYTHONPATH=auto_LiRPA python examples/audit_tools.py

All compute in float64, on pixels in [0, 1]. Convolutions are written as matrices first, as
convex_adversarial takes no stride that leaves rows over.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from torch import Tensor, nn

import bounds
from bounds.analysis.audit_report import print_audit
from bounds.models import DIGITS_SHAPE, load_digits_images, load_digits_model

Claim = Callable[[Any, bounds.Network, nn.Sequential, Tensor, float, Tensor], bounds.Claims]


def as_matrices(model: nn.Sequential, shape: tuple[int, ...]) -> nn.Sequential:
    """The same function of flattened inputs, with a Linear layer for each affine one."""
    layers: list[nn.Module] = []
    for layer in model:
        if isinstance(layer, nn.Flatten):
            continue
        if isinstance(layer, nn.ReLU):
            layers.append(nn.ReLU())
            continue
        size = torch.Size(shape).numel() if isinstance(layer, nn.Conv2d) else layer.in_features
        units = torch.eye(size, dtype=torch.float64)
        units = units.reshape(size, *shape) if isinstance(layer, nn.Conv2d) else units
        offset = layer(torch.zeros_like(units[:1]))
        columns = layer(units) - offset
        shape = tuple(columns.shape[1:])
        matrix = nn.Linear(size, columns[0].numel(), dtype=torch.float64)
        with torch.no_grad():
            matrix.weight.copy_(columns.flatten(1).T)
            matrix.bias.copy_(offset.flatten())
        layers.append(matrix)
    return nn.Sequential(*layers)


def auto_lirpa(method: str) -> Claim:
    """Both ends of each margin by one of its methods, and l and u of each ReLU."""

    def claim(
        tool: Any,
        network: bounds.Network,
        model: nn.Sequential,
        x: Tensor,
        radius: float,
        C: Tensor,
    ) -> bounds.Claims:
        box = {"x_L": (x - radius).clamp(0, 1), "x_U": (x + radius).clamp(0, 1)}
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # in which it makes some of its tensors
        try:
            bounded = tool.BoundedModule(copy.deepcopy(model), x)
            ball = tool.BoundedTensor(x, tool.PerturbationLpNorm(**box))
            result = bounded.compute_bounds(x=(ball,), C=C, method=method)
        finally:
            torch.set_default_dtype(before)
        return bounds.claims_of_auto_lirpa(network, result, C=C, model=bounded)

    return claim


def convex_adversarial(
    tool: Any, network: bounds.Network, model: nn.Sequential, x: Tensor, radius: float, C: Tensor
) -> bounds.Claims:
    """The lower end of each margin, and l and u of each ReLU."""
    dual = tool.DualNetwork(model, x, radius, bounded_input=True)
    return bounds.claims_of_convex_adversarial(network, dual, (C, dual(C)))


TOOLS: list[tuple[str, str, Claim]] = [
    ("convex_adversarial", "convex_adversarial", convex_adversarial),
    ("auto_LiRPA, CROWN", "auto_LiRPA", auto_lirpa("CROWN")),
    ("auto_LiRPA, α-CROWN", "auto_LiRPA", auto_lirpa("CROWN-Optimized")),
]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3, metavar="N", help="the first N; 3")
    parser.add_argument("--radius", type=float, default=0.1, metavar="R", help="of the ball; 0.1")
    parser.add_argument("--timeout", type=float, metavar="S", help="of each audit, in seconds")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    images, labels = load_digits_images()
    x, y = images[: options.images].double().flatten(1), labels[: options.images]
    model = as_matrices(load_digits_model("digits_robust").double(), DIGITS_SHAPE)
    network = bounds.from_torch(model, x.shape[1:]).detach()
    ball, rows = bounds.Ball(x, radius=options.radius, lower=0.0, upper=1.0), bounds.margins(y, 10)
    tried = 0
    for name, package, claim in TOOLS:
        try:
            with warnings.catch_warnings(action="ignore"):  # of what torch has deprecated
                tool = importlib.import_module(package)
                claims = claim(tool, network, model, x, options.radius, rows.C)
        except ImportError as error:
            console.print(f"{name}: left out, as it is not installed ({error}).\n", markup=False)
            continue
        tried += 1
        console.print(f"{name}:", style="bold")
        found = bounds.audit(network, ball, claims, time_limit=options.timeout)
        print_audit(found, console)
        console.print()
    return 0 if tried else 1


if __name__ == "__main__":
    sys.exit(main())
