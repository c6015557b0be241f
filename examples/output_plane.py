"""The outputs of a network of two inputs and two outputs on a square, exactly, and their bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import bounds

#: Directions in the plane of the outputs for which its bounds are computed.
DIRECTIONS = 128
#: Cuts that leave nothing but rounding on one side are none.
ROUNDING = 1e-12


def clip(corners: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The part of a convex polygon where an affine function, given at its corners, is ≥ 0. A corner
    is a row: its two coordinates, and whatever else is affine on the polygon."""
    kept = []
    edges = zip(corners, np.roll(corners, -1, 0), values, np.roll(values, -1), strict=True)
    for here, after, value, value_after in edges:
        if value >= 0:
            kept.append(here)
        if value * value_after < 0:
            kept.append(here + value / (value - value_after) * (after - here))
    return np.array(kept).reshape(-1, corners.shape[1])


def linear_pieces(model: nn.Sequential, centre: Tensor, radius: float) -> list[np.ndarray]:
    """The polygons into which the ReLUs cut a square, on each of which the network is affine: rows
    (x_0, x_1, output_0, output_1), one a corner."""
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    square = centre.numpy() + radius * signs
    pieces = [np.hstack([square, square])]
    for layer in model:
        if isinstance(layer, nn.Linear):
            weight, bias = layer.weight.numpy(), layer.bias.numpy()
            pieces = [np.hstack([p[:, :2], p[:, 2:] @ weight.T + bias]) for p in pieces]
            continue
        for neuron in range(2, pieces[0].shape[1]):
            pieces = [part for piece in pieces for part in _halves(piece, neuron)]
        for piece in pieces:
            piece[:, 2:] = piece[:, 2:].clip(min=0)
    return pieces


def _halves(piece: np.ndarray, column: int) -> list[np.ndarray]:
    values = piece[:, column]
    if values.min() > -ROUNDING or values.max() < ROUNDING:
        return [piece]
    return [clip(piece, values), clip(piece, -values)]


def outline(directions: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The corners of {p : ⟨direction, p⟩ ≥ lower for each}, (corners, 2); it has to be bounded."""
    reach = 1 + 4 * abs(lower).max() / np.linalg.norm(directions, axis=1).min()
    polygon = reach * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for direction, least in zip(directions, lower, strict=True):
        polygon = clip(polygon, polygon @ direction - least)
    return polygon


@dataclass
class Plane:
    """The outputs on one square. Shapes are (points, 2), in the coordinates z @ axes.T.

    axes: the rows are z_y − z_other and a second direction. pieces: the exact image, polygon by
    polygon. exact, fixed_slope: the outer bounds of it from the LP optima and from one pass.
    attained: the outputs of the relaxation's feasible points at which the LPs have their optima.
    """

    axes: np.ndarray
    pieces: list[np.ndarray]
    exact: np.ndarray
    fixed_slope: np.ndarray
    attained: np.ndarray


def output_plane(model: nn.Sequential, centre: Tensor, label: int, radius: float) -> Plane:
    """What a network whose last layers are a ReLU and a linear one makes of a square."""
    outputs = [piece[:, 2:] for piece in linear_pieces(model, centre, radius)]
    # A trained network's two outputs nearly lie on a line. Their sum, with what their difference
    # explains of it taken off, shows what there is across that; scaled, since it is small.
    difference = np.array([1, -1]) if label == 0 else np.array([-1, 1])
    z = np.vstack(outputs) - np.vstack(outputs).mean(0)
    margin, total = z @ difference, z.sum(1)
    across = np.ones(2) - (margin @ total) / (margin @ margin) * difference
    axes = np.stack([difference, across / np.ptp(z @ across)])
    # Spread evenly where the image is as wide as it is high.
    angles = np.arange(DIRECTIONS) * 2 * math.pi / DIRECTIONS
    directions = np.stack([np.cos(angles) / np.ptp(margin), np.sin(angles)], 1)
    relaxation = bounds.relax(
        bounds.from_torch(model, (2,)),
        bounds.Ball(centre, radius=radius),
        bounds.Specification(torch.from_numpy(directions @ axes)),
    )
    exact = bounds.solve(relaxation, method="exact")
    fixed_slope = bounds.solve(relaxation, method="fixed_slope")
    return Plane(
        axes,
        [z @ axes.T for z in outputs],
        outline(directions, exact.lower[0].numpy()),
        outline(directions, fixed_slope.lower[0].numpy()),
        model[-1](exact.certificate.z[-1][0]).numpy() @ axes.T,
    )
