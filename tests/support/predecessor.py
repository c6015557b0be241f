"""What `convex_adversarial`, the predecessor, says of a few drawn networks.

    pip install "convex_adversarial==0.4.4"
    python -m tests.support.predecessor

writes `predecessor.json`, which the tests compare with, and what its functions take. The
predecessor is right on these: ℓ∞ balls with and without a box, ℓ2 balls without one, and
convolutions whose stride leaves no rows over.
"""

from __future__ import annotations

import inspect
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.layers import Dice

RECORD = Path(__file__).with_suffix(".json")
INPUTS, CLASSES = 5, 3
SHAPES = {"dense": (4,), "conv": (1, 8, 8)}


@dataclass(frozen=True)
class Case:
    """A drawn network with inputs and labels, and the balls around these."""

    kind: str
    seed: int
    norm: float
    box: bool
    radius: float

    def build(self) -> tuple[nn.Sequential, Tensor, Tensor]:
        dice, shape = Dice(self.seed), SHAPES[self.kind]
        model = {"dense": dense, "conv": conv}[self.kind]().double()
        with torch.no_grad():
            for parameter in model.parameters():
                fan_in = parameter[0].numel()
                parameter.copy_(dice.normal(*parameter.shape) / math.sqrt(fan_in + 1))
        return model, dice.uniform(INPUTS, *shape), dice.below(CLASSES, INPUTS)


def dense() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    )


def conv() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 4, 2, 1), nn.ReLU(), nn.Conv2d(3, 4, 4, 2, 1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, CLASSES)),
    )


def cases() -> Iterator[Case]:
    balls = (math.inf, False), (math.inf, True), (2.0, False)
    for kind, seed, (norm, box), radius in itertools.product(
        SHAPES, range(4), balls, (0.01, 0.05, 0.2)
    ):
        yield Case(kind, seed, norm, box, radius)


def record() -> None:
    import convex_adversarial as predecessor  # the one use of it

    rows: list[dict[str, Any]] = []
    for case in cases():
        model, x, y = case.build()
        norm = "l1" if case.norm == math.inf else "l2"
        loss, error = predecessor.robust_loss(
            model, case.radius, x, y, size_average=False, norm_type=norm, bounded_input=case.box
        )
        rows.append(asdict(case) | {"loss": loss.tolist(), "error": error.tolist()})
    versions = {name: metadata.version(name) for name in ("convex_adversarial", "torch")}
    public = {name: getattr(predecessor, name) for name in vars(predecessor) if name[0] != "_"}
    arguments = {
        name: [*inspect.signature(each).parameters]
        for name, each in public.items()
        if callable(each)
    }
    lines = ",\n".join(map(json.dumps, rows))
    RECORD.write_text(
        f'{{"versions": {json.dumps(versions)},\n"arguments": {json.dumps(arguments)},\n'
        f'"cases": [\n{lines}\n]}}\n'
    )


if __name__ == "__main__":
    record()
