"""What decides the weights of a training run, and what follows from it at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from bounds import InvalidInputError, RadiusSchedule
from bounds.training.mixed_loss import Combination
from bounds.training.robust_loss import TrainingIntermediate

Loss = Literal["standard", "robust", "optimised", "interval", "crown-ibp", "mixed", "small-box"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What decides the weights, besides the data: a run goes on only with the same.

    schedule_length: epochs over which the radius grows from start_radius, and the mixture from
    start_mixture. mixture: of `mixed_loss` and `crown_ibp_loss`, or the share of `small_box_loss`.
    attack_steps: of these. test_radius: that errors are measured at; default: radius. shift: of
    training images, at random, by up to so many pixels. init: a digest of the weights to start
    from, "" for random ones. after: digests of the weights before in a cascade.
    """

    model: str
    epochs: int
    batch: int
    lr: float
    radius: float
    start_radius: float
    schedule_length: float
    norm: float
    loss: Loss
    intermediate: TrainingIntermediate
    seed: int
    mixture: float = 0.1
    start_mixture: float = 0.1
    combination: Combination = "losses"
    attack_steps: int = 1
    test_radius: float | None = None
    shift: int = 0
    init: str = ""
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "attack_steps"):
            if getattr(self, name) < 1:
                raise InvalidInputError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: expected at least 1."
                )
        for name in ("seed", "shift"):
            if getattr(self, name) < 0:
                raise InvalidInputError(f"--{name} {getattr(self, name)}: expected at least 0.")
        if not 0 < self.lr < math.inf:
            raise InvalidInputError(f"--lr {self.lr}: expected a positive number.")
        for name in ("mixture", "start_mixture"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInputError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: expected a number from 0 "
                    "to 1."
                )
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

    @property
    def full_radius(self) -> float:
        """That errors are measured at."""
        return self.radius if self.test_radius is None else self.test_radius

    def mixture_at(self, epoch: float) -> float:
        """A straight line while the radius grows."""
        schedule = RadiusSchedule(
            start=self.start_mixture, end=self.mixture, length=self.schedule_length
        )
        return schedule(epoch)

    def lr_at(self, epoch: float) -> float:
        """Constant while the radius grows, and then a cosine down to 0."""
        rest = self.epochs - self.schedule_length
        share = max(0.0, epoch - self.schedule_length) / rest if rest else 0.0
        return self.lr * (1 + math.cos(math.pi * share)) / 2
