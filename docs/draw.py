"""The pictures of the pages on mathematics, drawn from numbers that `bounds` computes.

    python docs/draw.py

writes docs/pictures/*.svg, the same bytes with the same matplotlib.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

import bounds

INK, GREY, BLUE, ORANGE, FILL = "#222222", "#9a9a9a", "#0072b2", "#d06000", "#dcebf7"
STYLE = {
    "font.size": 11.0,
    "svg.hashsalt": "bounds",
    "svg.fonttype": "path",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
#: Of the neuron that is drawn: l ≤ ẑ ≤ u.
L, U = -2.0, 3.0

Picture = Callable[[], Figure]


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _plane(axes: Axes, title: str) -> None:
    """ẑ to the right, z upwards, and ReLU."""
    axes.set_title(title, fontsize=11)
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.plot([L - 1, 0, U + 0.6], [0, 0, U + 0.6], color=GREY, linewidth=1, linestyle=":")
    axes.set(xlim=(L - 1, U + 0.8), ylim=(-0.9, U + 0.8), xticks=[], yticks=[], aspect="equal")
    axes.text(U + 0.8, -0.1, "ẑ", ha="right", va="top")
    axes.text(0.12, U + 0.7, "z", va="top")
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _mark(axes: Axes, x: float, y: float, text: str, **at: Any) -> None:
    placed: dict[str, Any] = {"xytext": (0, -15), "ha": "center", **at}
    axes.plot([x], [y], "o", color=INK, markersize=5, zorder=3)
    axes.annotate(text, (x, y), textcoords="offset points", **placed)


def triangle() -> Figure:
    """The three kinds of neuron."""
    figure, (active, dead, unstable) = _figure(9.6, 3.2, 3)
    _plane(active, "active: 0 ≤ l")
    active.plot([0.7, U], [0.7, U], color=BLUE, linewidth=3)
    _plane(dead, "dead: u ≤ 0")
    dead.plot([L, -0.6], [0, 0], color=BLUE, linewidth=3)
    for axes, low, high in ((active, 0.7, U), (dead, L, -0.6)):
        for end, name in ((low, "l"), (high, "u")):
            axes.plot([end, end], [-0.12, 0.12], color=INK, linewidth=1.2)
            axes.text(end, -0.25, name, ha="center", va="top")
    _plane(unstable, "unstable: l < 0 < u")
    unstable.fill([L, 0, U], [0, 0, U], facecolor=FILL, edgecolor=BLUE, linewidth=2)
    _mark(unstable, L, 0, "(l, 0)")
    _mark(unstable, 0, 0, "(0, 0)")
    _mark(unstable, U, U, "(u, u)", xytext=(-8, 2), ha="right")
    unstable.text(-0.3, 1.7, "(u − l) z ≤ u (ẑ − l)", fontsize=9, ha="right")
    return figure


def _little() -> bounds.Relaxation:
    """Two inputs, two unstable neurons and an active one, one row."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.6], [-0.8, 1.0], [-0.5, -0.6]]))
        model[0].bias.copy_(torch.tensor([0.3, -0.2, 2.0]))
        model[2].weight.copy_(torch.tensor([[1.0, 0.7, 1.0]]))
        model[2].bias.zero_()
    network = bounds.from_torch(model, (2,)).detach()
    ball = bounds.Ball(torch.zeros(1, 2, dtype=torch.float64), radius=1.0)
    row = bounds.Specification(torch.tensor([[1.0]], dtype=torch.float64))
    return bounds.relax(network, ball, row)


def dual() -> Figure:
    """d(ν) of two multipliers, and the ν of each method."""
    relaxation = _little()
    side = torch.linspace(-0.5, 1.4, 80, dtype=torch.float64)
    free = torch.cartesian_prod(side, side)
    rows = len(free)
    nu = torch.cat((free, torch.zeros(rows, 1)), 1).unsqueeze(0)
    many = replace(relaxation, C=relaxation.C.expand(1, rows, 1), d=relaxation.d.expand(1, rows))
    zeros = torch.zeros_like(nu)
    values = bounds.Certificate((nu,), zeros[..., :2], (zeros,)).lower(many, sound=False)
    figure, (axes,) = _figure(6.4, 4.6)
    grid = values.reshape(len(side), len(side)).T.numpy()
    drawn = axes.contourf(side, side, grid, levels=12, cmap="Blues")
    axes.contour(side, side, grid, levels=12, colors="white", linewidths=0.5)
    figure.colorbar(drawn, ax=axes, label="d(ν₁, ν₂)")
    for method, name, marker in (
        ("fixed_slope", "fixed slope", "o"),
        ("adaptive_slope", "adaptive slope", "s"),
        ("exact", "the LP optimum", "*"),
    ):
        solution = bounds.solve(relaxation, method=method)
        first, second = solution.certificate.multipliers[0][0, 0, :2].tolist()
        axes.plot(
            [first], [second], marker, color=ORANGE, markeredgecolor="white",
            markersize=15 if marker == "*" else 9, linestyle="none",
            label=f"{name}: {solution.lower.item():+.2f}",
        )  # fmt: skip
    axes.set(xlabel="ν₁", ylabel="ν₂")
    axes.legend(loc="upper right", framealpha=0.95)
    return figure


def simplices() -> Figure:
    """Points of an input coordinate and of a triangle by the weights of their vertices."""
    figure, (segment, axes) = _figure(8.4, 3.2, 2)
    segment.set_title("an input coordinate: two vertices", fontsize=11)
    segment.plot([0, 1], [0, 0], color=BLUE, linewidth=3)
    _mark(segment, 0, 0, "lower")
    _mark(segment, 1, 0, "upper")
    segment.plot([0.7], [0], "D", color=ORANGE, markersize=8, zorder=4)
    segment.annotate(
        "x = 0.3 · lower + 0.7 · upper", (0.7, 0), (0.5, 0.55), ha="center",
        arrowprops={"arrowstyle": "-", "color": GREY},
    )  # fmt: skip
    segment.set(xlim=(-0.15, 1.15), ylim=(-0.8, 1.2))
    segment.set_axis_off()
    _plane(axes, "a neuron: three")
    axes.fill([L, 0, U], [0, 0, U], facecolor=FILL, edgecolor=BLUE, linewidth=2)
    weights = (0.3, 0.3, 0.4)
    x, z = weights[0] * L + weights[2] * U, weights[2] * U
    for k, (corner, place) in enumerate(zip([(L, 0), (0, 0), (U, U)], weights, strict=True)):
        axes.plot([corner[0], x], [corner[1], z], color=ORANGE, linewidth=1 + 5 * place, alpha=0.35)
        at = {"xytext": (-8, 2), "ha": "right"} if k == 2 else {}
        _mark(axes, *corner, f"t{'₁₂₃'[k]} = {place}", **at)
    axes.plot([x], [z], "D", color=ORANGE, markersize=8, zorder=4)
    return figure


def splits() -> Figure:
    """What splitting a neuron and splitting an input leave of a triangle."""
    figure, all_axes = _figure(9.6, 3.2, 3)
    titles = ("before", "the neuron, split at ẑ = 0", "an input, split: new l and u")
    for axes, title in zip(all_axes, titles, strict=True):
        _plane(axes, title)
    before, neuron, inputs = all_axes
    before.fill([L, 0, U], [0, 0, U], facecolor=FILL, edgecolor=BLUE, linewidth=2)
    for axes in (neuron, inputs):
        axes.fill([L, 0, U], [0, 0, U], facecolor="none", edgecolor=GREY, linestyle="--")
    neuron.plot([L, 0], [0, 0], color=ORANGE, linewidth=4, label="dead: ẑ ≤ 0")
    neuron.plot([0, U], [0, U], color=BLUE, linewidth=4, label="active: ẑ ≥ 0")
    for low, high, colour in ((L, 0.7, ORANGE), (-0.7, U, BLUE)):
        inputs.fill([low, 0, high], [0, 0, high], facecolor=colour, alpha=0.25)
        inputs.plot([low, 0, high, low], [0, 0, high, 0], color=colour, linewidth=2)
    neuron.legend(loc="upper left", frameon=False, fontsize=9)
    return figure


def rounding() -> Figure:
    """Where a sound bound lies on the line of numbers."""
    figure, (axes,) = _figure(8.4, 2.3)
    axes.plot([0, 10], [0, 0], color=GREY, linewidth=1)
    axes.axvspan(3.4, 6.2, ymin=0.42, ymax=0.58, color=FILL)
    for x, colour, text, height in (
        (3.4, ORANGE, "lower: what is returned", -0.75),
        (4.8, INK, "what floating point computed", 0.65),
        (5.5, BLUE, "d(ν), exactly", -0.75),
        (7.6, BLUE, "LP optimum", 0.65),
        (9.2, BLUE, "the network's minimum", -0.75),
    ):
        axes.plot([x], [0], "o", color=colour, markersize=7, zorder=3)
        axes.annotate(
            text, (x, 0), (x, height), ha="center", va="center", color=colour,
            arrowprops={"arrowstyle": "-", "color": GREY},
        )  # fmt: skip
    axes.annotate("", (3.4, 0.22), (4.8, 0.22), arrowprops={"arrowstyle": "<->", "color": INK})
    axes.text(3.3, 0.34, "what rounding can have added", fontsize=9, ha="right")
    axes.set(xlim=(0, 10.6), ylim=(-1, 1))
    axes.set_axis_off()
    return figure


PICTURES: dict[str, Picture] = {
    "triangle": triangle,
    "dual": dual,
    "simplices": simplices,
    "splits": splits,
    "rounding": rounding,
}


def draw(folder: Path) -> None:
    """Write every picture into the folder."""
    with matplotlib.rc_context(STYLE):
        for name, picture in PICTURES.items():
            path = folder / f"{name}.svg"
            picture().savefig(path, metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    draw(Path(__file__).parent / "pictures")
