"""Two moons: what robust training changes, and why one pass may fail where the LP optimum proves.

Two networks learn the same 2-D points: one the usual way, one on fixed-slope bounds over squares
around them (Wong & Kolter 2018, arXiv 1711.00851). In two dimensions all can be seen: the squares
on which the answer changes, those on which it is proved not to, and for one of them its image under
each network, with the outer bounds of the relaxation. Takes half a minute on one core:

    python examples/two_moons.py
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

import bounds
from examples.output_plane import Plane, linear_pieces, output_plane

POINTS, NOISE, WIDTH = 40, 0.1, 30
#: How far apart two points are at least, in radii: of one class, and of different classes, where it
#: leaves room for a boundary between their squares.
SAME, APART = 0.8, 2.4
#: Points that are drawn to find as many that lie so.
TRIES = 10_000
#: The share of the training in which the radius grows to its full size, and the step size.
WARM, RATE = 0.5, 0.02
#: Points a side at which the regions are evaluated.
GRID = 500

#: Light and dark for each class, after Okabe and Ito's palette, which colour-blind readers tell
#: apart; what else is drawn differs in its line style as well.
LIGHT, DARK = ("#dcebf7", "#fdebd0"), ("#0072b2", "#e08000")
INK, BROKEN = "#222222", "#c0005a"
IMAGE, IMAGE_EDGE = "#2fb58c", "#00694c"
#: How a square is drawn that one pass proves, that the LP optimum alone proves, that neither proves
#: though it holds, and on which the answer changes.
SQUARES: dict[str, dict[str, Any]] = {
    "proved by one pass": {"edgecolor": INK, "linewidth": 0.7, "linestyle": "-"},
    "proved by the LP optimum alone": {"edgecolor": INK, "linewidth": 2.2, "linestyle": "-"},
    "holds, but neither proves it": {"edgecolor": BROKEN, "linewidth": 1.6, "linestyle": "--"},
    "the answer changes at ×": {"edgecolor": BROKEN, "linewidth": 2.2, "linestyle": "-"},
}


# -- data, networks, training


def moons(radius: float, seed: int) -> tuple[Tensor, Tensor]:
    """Points of two interleaving half circles, (POINTS, 2), and their classes, (POINTS,)."""
    dice = np.random.default_rng(seed)
    x, y = np.empty((0, 2)), np.empty(0, dtype=np.int64)
    for _ in range(TRIES if radius > 0 else 0):
        label, angle = len(x) % 2, dice.uniform(0, math.pi)
        point = np.array([math.cos(angle), math.sin(angle)])
        if label:
            point = np.array([1, 0.5]) - point
        point += NOISE * dice.normal(size=2)
        distance = abs(x - point).max(1)
        if (distance >= np.where(y == label, SAME * radius, APART * radius)).all():
            x, y = np.vstack([x, point]), np.append(y, label)
        if len(x) == POINTS:
            return torch.from_numpy(x), torch.from_numpy(y)
    raise bounds.InvalidInputError(
        f"moons(radius={radius}) found no room for squares of that size around {POINTS} points: "
        "give a radius above 0 and up to about 0.2."
    )


def train(
    x: Tensor, y: Tensor, *, radius: float, epochs: int, seed: int, tick: Callable[[], None]
) -> nn.Sequential:
    """Adam on the robust loss, or for radius 0 on the cross-entropy; `tick` after each epoch."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(2, WIDTH), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 2)).double()
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for epoch in range(epochs):
        if radius:
            grown = radius * min(1.0, epoch / (WARM * epochs))
            loss = bounds.robust_loss(model, x, y, radius=grown).loss
        else:
            loss = F.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        tick()
    return model.eval().requires_grad_(False)


# -- what holds of each point


@dataclass
class Judgement:
    """Margins z_y − z_other, one a point: `clean` at the point, `least` the least on its square,
    attained at `worst`; `exact` and `fixed_slope` the bounds that are proved."""

    clean: np.ndarray
    least: np.ndarray
    worst: np.ndarray
    exact: np.ndarray
    fixed_slope: np.ndarray

    def kinds(self) -> np.ndarray:
        """The position of each point's square in SQUARES."""
        return np.select([self.fixed_slope > 0, self.exact > 0, self.least > 0], [0, 1, 2], 3)

    def errors(self) -> list[float]:
        """The shares of points that are answered wrongly, can be, and are not proved otherwise."""
        margins = (self.clean, self.least, self.exact, self.fixed_slope)
        return [float(np.mean(margin <= 0)) for margin in margins]


def judge(model: nn.Sequential, x: Tensor, y: Tensor, radius: float) -> Judgement:
    """What holds on the squares around x for the classes y, and what is proved."""
    relaxation = bounds.relax(
        bounds.from_torch(model, (2,)),
        bounds.Ball(x, radius=radius),
        bounds.margins(y, classes=2),
    )
    exact, fixed_slope = (
        bounds.solve(relaxation, method=method).lower[:, 0].numpy()
        for method in ("exact", "fixed_slope")
    )
    z = model(x).numpy()
    sign = np.where(y.numpy() == 0, 1, -1)
    least, worst = [], []
    for point, s in zip(x, sign, strict=True):
        corners = np.vstack(linear_pieces(model, point, radius))  # the least is at one of them
        margins = s * (corners[:, 2] - corners[:, 3])
        least.append(margins.min())
        worst.append(corners[margins.argmin(), :2])
    return Judgement(
        sign * (z[:, 0] - z[:, 1]), np.array(least), np.array(worst), exact, fixed_slope
    )


def most_telling(judgement: Judgement) -> int:
    """A point that the LP optimum proves and one pass does not; or else, where they differ most."""
    gain = judgement.exact - judgement.fixed_slope
    only_exact = (judgement.exact > 0) & (judgement.fixed_slope <= 0)
    return int(np.where(only_exact, gain + gain.max(), gain).argmax())


# -- the picture


def draw_inputs(
    axes: Axes, model: nn.Sequential, x: Tensor, y: Tensor, judgement: Judgement, radius: float
) -> None:
    """The decision regions, the points and their squares."""
    low, high = (x.amin(0) - 1.4 * radius).tolist(), (x.amax(0) + 1.4 * radius).tolist()
    ticks = [np.linspace(*ends, GRID) for ends in zip(low, high, strict=True)]
    z = model(torch.cartesian_prod(*map(torch.from_numpy, ticks))).numpy()
    margin = (z[:, 1] - z[:, 0]).reshape(GRID, GRID).T
    axes.contourf(*ticks, margin, levels=[-math.inf, 0, math.inf], colors=LIGHT)
    axes.contour(*ticks, margin, levels=[0], colors="white", linewidths=2)
    kinds = judgement.kinds()
    for kind, style in enumerate(SQUARES.values()):  # the worst on top
        for point in x[kinds == kind]:
            axes.add_patch(square(point, radius, fill=False, zorder=3 + kind, **style))
    for label, marker in enumerate("o^"):
        axes.scatter(*x[y == label].T.numpy(), s=30, c=DARK[label], marker=marker, lw=0, zorder=7)
    axes.scatter(*judgement.worst[kinds == 3].T, s=40, c=BROKEN, marker="x", lw=2, zorder=8)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[])


def square(centre: Tensor, radius: float, **style: Any) -> Rectangle:
    """The ℓ∞ ball."""
    return Rectangle((centre - radius).tolist(), 2 * radius, 2 * radius, **style)


def draw_plane(axes: Axes, plane: Plane, label: int) -> None:
    """The image of a square and its outer bounds, beside the line where the answer changes."""
    for polygon, style in ((plane.exact, "-"), (plane.fixed_slope, "--")):
        axes.fill(*polygon.T, color="white", alpha=0.5, lw=0, zorder=2)
        axes.fill(*polygon.T, fill=False, edgecolor=INK, linestyle=style, linewidth=1.6, zorder=5)
    axes.add_collection(
        PolyCollection(plane.pieces, facecolor=IMAGE, edgecolor=IMAGE_EDGE, linewidth=0.6, zorder=4)
    )
    axes.plot(*plane.attained.T, ".", color=INK, markersize=5, zorder=6)
    (least, bottom), (most, top) = plane.fixed_slope.min(0), plane.fixed_slope.max(0)
    width, height = most - min(least, 0), top - bottom
    left, true = min(least, 0) - 0.15 * width, np.vstack(plane.pieces)[:, 0].min()
    right = max(most + 0.06 * width, (true - 0.45 * left) / 0.55)  # room for what is written
    axes.set(xlim=(left, right), ylim=(bottom - 0.33 * height, top + 0.17 * height), yticks=[])
    axes.axvspan(left, 0, color=LIGHT[1 - label], zorder=0)
    axes.axvspan(0, right, color=LIGHT[label], zorder=0)
    axes.axvline(0, color="white", linewidth=2, zorder=1)
    axes.text(0.01 * width, top + 0.08 * height, "right answer", fontsize=11)
    axes.text(-0.01 * width, top + 0.08 * height, "other", fontsize=11, ha="right")
    shapes = (
        ("network", np.vstack(plane.pieces), IMAGE_EDGE),
        ("LP optimum", plane.exact, INK),
        ("one pass", plane.fixed_slope, INK),
    )
    for line, (name, corners, colour) in enumerate(shapes):
        margin, start = corners[corners[:, 0].argmin()]
        end = bottom - (0.1 + 0.09 * line) * height
        axes.plot([margin, margin], [start, end], ":", color=colour, linewidth=1.2, zorder=7)
        text = f" {name}: margin ≥ {margin:+.2f}".replace("-", "−")
        axes.text(margin, end, text, color=colour, fontsize=11, zorder=8)
    axes.set_xlabel("margin of the right answer over the other")
    axes.set_ylabel("another direction of the outputs")


def picture(
    x: Tensor, y: Tensor, models: dict[str, nn.Sequential], radius: float, output: Path
) -> dict[str, Judgement]:
    """Draw all of it into a file."""
    figure = Figure(figsize=(12, 10), dpi=130)
    panels = figure.subplot_mosaic(
        "ab;ss;cd;oo",
        height_ratios=[10, 1.2, 10.5, 1.4],
        gridspec_kw={"left": 0.03, "right": 0.99, "bottom": 0.0, "top": 0.92, "wspace": 0.06},
    )
    judgements = {name: judge(model, x, y, radius) for name, model in models.items()}
    chosen = most_telling(next(iter(judgements.values())))
    label = int(y[chosen])
    for (name, model), above, below in zip(models.items(), "ab", "cd", strict=True):
        axes = panels[above]
        draw_inputs(axes, model, x, y, judgements[name], radius)
        axes.add_patch(square(x[chosen], radius, color=IMAGE, alpha=0.6, lw=0, zorder=2))
        clean, attacked, exact, fixed = (
            f"{100 * error:.3g}%" for error in judgements[name].errors()
        )
        axes.set_title(f"{name} training", fontsize=17, fontweight="bold", pad=26)
        errors = f"errors: clean {clean}, attacked {attacked}, not proved {fixed} (LP: {exact})"
        axes.text(0.5, 1.025, errors, fontsize=12, ha="center", transform=axes.transAxes)
        draw_plane(panels[below], output_plane(model, x[chosen], label, radius), label)
        panels[below].set_title("Where the network sends the filled square", fontsize=13)
    seen = np.unique([judgement.kinds() for judgement in judgements.values()])
    styles = list(SQUARES.items())
    squares = [Patch(fill=False, label=styles[k][0], **styles[k][1]) for k in seen]
    outputs = [
        Patch(facecolor=IMAGE, edgecolor=IMAGE_EDGE, label="its image, cut into linear pieces"),
        Line2D(
            [], [], color=INK, marker=".", label="outer bound by LP optima, attained at the dots"
        ),
        Line2D([], [], color=INK, linestyle="--", label="outer bound by one pass"),
    ]
    for panel, handles in (("s", squares), ("o", outputs)):
        panels[panel].axis("off")
        panels[panel].legend(
            handles=handles, loc="center", ncols=4, fontsize=11.5, frameon=False, handlelength=2.2
        )
    figure.savefig(output)
    return judgements


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--radius", type=float, default=0.2, help="half the side of a square")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".png"))
    args = parser.parse_args()

    torch.set_num_threads(1)  # sums in the same order on every machine, and no slower at this size
    x, y = moons(args.radius, args.seed)
    console, models = Console(), {}
    with Progress(console=console) as progress:
        for name, radius in (("Standard", 0.0), ("Robust", args.radius)):
            bar = progress.add_task(f"{name} training", total=args.epochs)
            tick = partial(progress.advance, bar)
            options = {"epochs": args.epochs, "seed": args.seed, "tick": tick}
            models[name] = train(x, y, radius=radius, **options)
    judgements = picture(x, y, models, args.radius, args.output)
    table = Table("training", "clean", "attacked", "not proved (LP)", "not proved (one pass)")
    for name, judgement in judgements.items():
        table.add_row(name, *(f"{100 * error:.3g}%" for error in judgement.errors()))
    console.print(table)
    console.print(f"Written to {args.output}.")


if __name__ == "__main__":
    main()
