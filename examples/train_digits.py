"""Trains the two digits networks that the package ships, and measures what is proved of each.

    pip install -e ".[examples]"
    python examples/train_digits.py

Takes two minutes on one core. The standard network minimises the cross-entropy of its logits; the
robust one that of the negated lower bounds of its margins over the ℓ∞ ball (Wong & Kolter 2018),
whose radius grows from 0 during training. The table gives, on the held-out images, the share that
each network gets wrong and the share for which the fixed-slope bound does not prove the answer. The
weights, the first 16 held-out images and a README with the same table go to bounds/models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn

import bounds
from bounds.models import DIGITS_CLASSES, DIGITS_SHAPE, digits_layers

HELD_OUT = 360
SHIPPED = 16
BATCH = 64
RADII = (0.05, 0.1, 0.15)
MODELS = Path(bounds.__file__).parent / "models"

Loss = Callable[[nn.Sequential, Tensor, Tensor, float], Tensor]


def margins(model: nn.Sequential, x: Tensor, y: Tensor, radius: float) -> Tensor:
    """Fixed-slope lower bounds of the 9 margins of each image, of shape (batch, 9)."""
    network = bounds.from_torch(model, DIGITS_SHAPE)
    ball = bounds.Ball(x, radius=radius, lower=0.0, upper=1.0)
    relaxation = bounds.relax(network, ball, bounds.margins(y, DIGITS_CLASSES))
    return bounds.solve(relaxation, method="fixed_slope").lower


def standard_loss(model: nn.Sequential, x: Tensor, y: Tensor, progress: float) -> Tensor:
    return F.cross_entropy(model(x), y)


def robust_loss(radius: float) -> Loss:
    """The cross-entropy of the worst logits that the bounds allow.

    The radius is 0 for the first tenth of the training and grows to its full size at seven tenths.
    """

    def loss(model: nn.Sequential, x: Tensor, y: Tensor, progress: float) -> Tensor:
        share = min(1.0, (progress - 0.1) / 0.6)
        if share <= 0:
            return F.cross_entropy(model(x), y)
        # The label's logit is 0, and every other one exceeds it by minus the margin.
        worst = F.pad(-margins(model, x, y, share * radius), (1, 0))
        return F.cross_entropy(worst, torch.zeros_like(y))

    return loss


def train(
    x: Tensor, y: Tensor, loss: Loss, *, epochs: int, seed: int, tick: Callable[[], None]
) -> nn.Sequential:
    """Adam over `epochs` passes of shuffled batches; `tick` is called after each."""
    torch.manual_seed(seed)
    model = digits_layers()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, [round(0.8 * epochs), round(0.93 * epochs)], gamma=0.3
    )
    for epoch in range(epochs):
        batches = torch.randperm(len(x)).split(BATCH)
        for index, batch in enumerate(batches):
            optimizer.zero_grad()
            loss(model, x[batch], y[batch], (epoch + index / len(batches)) / epochs).backward()
            optimizer.step()
        schedule.step()
        tick()
    return model.eval()


@torch.no_grad()
def measure(model: nn.Sequential, x: Tensor, y: Tensor) -> list[float]:
    """The clean error, then the certified error at each of RADII, as shares."""
    errors = [float((model(x).argmax(1) != y).float().mean())]
    for radius in RADII:
        proved = (margins(model, x, y, radius) > 0).all(1)
        errors.append(1 - float(proved.float().mean()))
    return errors


def readme(header: list[str], rows: list[list[str]], args: argparse.Namespace, right: str) -> str:
    """How the files were made and what the networks reach, in Markdown."""
    line = "| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|\n"
    line += "".join("| " + " | ".join(row) + " |\n" for row in rows)
    versions = ", ".join(
        f"{module.__name__} {module.__version__}" for module in (torch, np, sklearn)
    )
    return f"""# Shipped models

Two networks of the same layers (`bounds.models.digits_layers`) for scikit-learn's `load_digits`:
1797 images of 8 × 8 pixels, divided by 16. Made by

    python examples/train_digits.py --epochs {args.epochs} --radius {args.radius} --seed {args.seed}

with {versions}, one thread.
`digits_standard` was trained for accuracy, `digits_robust` on fixed-slope bounds at ℓ∞ radius
{args.radius}.

Errors on the {HELD_OUT} held-out images. Certified error: the share of images for which the
fixed-slope bound does not prove the right answer over the ℓ∞ ball within [0, 1], in float32.

{line}
`digits_images.npz` holds the first {SHIPPED} held-out images and their labels:
{right}.
All files are numpy archives without pickles.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--radius", type=float, default=0.1, help="ℓ∞, pixels in [0, 1]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=MODELS, help="default: %(default)s")
    args = parser.parse_args()

    torch.set_num_threads(1)  # sums in the same order on every machine, and no slower at this size
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(args.seed))
    x, y = images[order[HELD_OUT:]], labels[order[HELD_OUT:]]
    held_x, held_y = images[order[:HELD_OUT]], labels[order[:HELD_OUT]]

    console = Console()
    args.output.mkdir(parents=True, exist_ok=True)
    header = ["model", "clean error", *(f"certified error at {radius}" for radius in RADII)]
    losses = {
        "digits_standard": standard_loss,
        "digits_robust": robust_loss(args.radius),
    }
    rows, right = [], []
    with Progress(console=console) as progress:
        for name, loss in losses.items():
            bar = progress.add_task(f"training {name}", total=args.epochs)
            tick = partial(progress.advance, bar)
            model = train(x, y, loss, epochs=args.epochs, seed=args.seed, tick=tick)
            rows.append([name, *(f"{error:.1%}" for error in measure(model, held_x, held_y))])
            correct = model(held_x[:SHIPPED]).argmax(1) == held_y[:SHIPPED]
            right.append(f"`{name}` gets {int(correct.sum())} right")
            weights = {key: value.numpy() for key, value in model.state_dict().items()}
            np.savez_compressed(args.output / f"{name}.npz", **weights)
    np.savez_compressed(
        args.output / "digits_images.npz",
        images=held_x[:SHIPPED].numpy(),
        labels=held_y[:SHIPPED].numpy(),
    )
    (args.output / "README.md").write_text(
        readme(header, rows, args, ", ".join(right)), encoding="utf-8"
    )
    table = Table(*header, title=f"{HELD_OUT} held-out digits")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(f"Written to {args.output}.")


if __name__ == "__main__":
    main()
