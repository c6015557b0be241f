"""What decides the weights of a training run, and what follows from it at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from bounds import InvalidInputError, RadiusSchedule
from bounds.training.robust_loss import TrainingIntermediate


@dataclass(frozen=True, kw_only=True)
class Options:
    """What decides the weights, besides the data: a run goes on only with the same.

    schedule_length: epochs over which the radius grows from start_radius. init: a digest of the
    weights to start from, "" for random ones. after: digests of the weights before in a cascade.
    """

    model: str
    epochs: int
    batch: int
    lr: float
    radius: float
    start_radius: float
    schedule_length: float
    norm: float
    method: Literal["robust", "standard"]
    intermediate: TrainingIntermediate
    seed: int
    init: str = ""
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"--{name} {getattr(self, name)}: expected at least 1.")
        if self.seed < 0:
            raise InvalidInputError(f"--seed {self.seed}: expected at least 0.")
        if not 0 < self.lr < math.inf:
            raise InvalidInputError(f"--lr {self.lr}: expected a positive number.")
        if self.schedule_length > self.epochs:
            raise InvalidInputError(
                f"--schedule-length {self.schedule_length} exceeds --epochs {self.epochs}: the "
                "full radius would never be reached; choose a shorter one."
            )
        self.radius_at(0.0)  # refuses radii and lengths that are none

    def radius_at(self, epoch: float) -> float:
        schedule = RadiusSchedule(
            start=self.start_radius, end=self.radius, length=self.schedule_length
        )
        return schedule(epoch)

    def lr_at(self, epoch: float) -> float:
        """Constant while the radius grows, and then a cosine down to 0."""
        rest = self.epochs - self.schedule_length
        share = max(0.0, epoch - self.schedule_length) / rest if rest else 0.0
        return self.lr * (1 + math.cos(math.pi * share)) / 2
