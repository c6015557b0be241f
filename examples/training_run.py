"""A training run between two batches: what a step does, and what a checkpoint holds of it.

Everything that a step depends on is either in the checkpoint or a function of the options and the
time.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bounds
from bounds import BoundsError
from examples.cascades import CHUNK, MEASURED, Reaching
from examples.image_data import Data
from examples.training_options import Options

#: Of the attack on test images after an epoch.
STEPS = 10


def shifted(images: Tensor, most: int) -> Tensor:
    """Each image moved by up to so many pixels in both directions, at random; black comes in."""
    if most == 0:
        return images
    count, _, height, width = images.shape
    down, right = torch.randint(2 * most + 1, (2, count, 1))
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    each = torch.arange(count).reshape(-1, 1, 1)
    padded = F.pad(images, (most,) * 4)
    return padded.movedim(1, 3)[each, rows.unsqueeze(2), columns.unsqueeze(1)].movedim(3, 1)


@dataclass
class Sums:
    """Of the epoch so far."""

    images: int = 0
    loss: float = 0.0
    errors: float = 0.0
    seconds: float = 0.0


@dataclass
class Run:
    """A training run, between two batches.

    reaching: the images that it trains on and is measured on.
    """

    options: Options
    data: Data
    device: torch.device
    model: nn.Sequential
    optimizer: torch.optim.Adam
    reaching: Reaching
    epoch: int = 0
    position: int = 0
    sums: Sums = field(default_factory=Sums)
    records: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def digest(self) -> str:
        """Names the data."""
        digest = hashlib.sha256()
        for part in (self.data.train, self.data.test):
            digest.update(part.raw.numpy().tobytes() + part.labels.numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def batches(self) -> int:
        """An epoch has so many."""
        return math.ceil(len(self.reaching.train) / self.options.batch)

    def batch(self) -> tuple[Tensor, Tensor]:
        """The next images and labels; the order of an epoch is a function of the seed and it."""
        order = np.random.default_rng([self.options.seed, self.epoch]).permutation(
            len(self.reaching.train)
        )
        size = self.options.batch
        places = torch.from_numpy(order[self.position * size : (self.position + 1) * size])
        chosen = self.reaching.train[places]
        like = next(self.model.parameters())
        x = shifted(self.data.train.pixels(chosen, like.detach()), self.options.shift)
        return x, self.data.train.labels[chosen].to(self.device)

    def loss(self, x: Tensor, y: Tensor, epoch: float) -> tuple[Tensor, Tensor]:
        """To train on, and the share of errors that it knows of: of clean inputs, of attacked ones,
        or not proved."""
        options = self.options
        ball: dict[str, Any] = {"radius": options.radius_at(epoch), "lower": 0.0, "upper": 1.0}
        match options.loss:
            case "robust":
                return self.robust_loss(x, y, ball["radius"])
            case "optimised":
                intermediate = options.intermediate
                return bounds.optimised_loss(
                    self.model, x, y, intermediate=intermediate, norm=options.norm, **ball
                )
            case "interval":
                return bounds.interval_loss(self.model, x, y, norm=options.norm, **ball)
            case "crown-ibp":
                share = options.mixture_at(epoch)
                return bounds.crown_ibp_loss(
                    self.model, x, y, mixture=share, fused=True, norm=options.norm, **ball
                )
            case "mixed":
                return bounds.mixed_loss(
                    *(self.model, x, y),
                    norm=options.norm,
                    mixture=options.mixture_at(epoch),
                    combination=options.combination,
                    steps=options.attack_steps,
                    **ball,
                )
            case "small-box":
                share, steps = options.mixture_at(epoch), options.attack_steps
                return bounds.small_box_loss(self.model, x, y, share=share, steps=steps, **ball)
            case _:
                logits = self.model(x)
                return F.cross_entropy(logits, y), (logits.argmax(1) != y).float().mean()

    def robust_loss(self, x: Tensor, y: Tensor, radius: float) -> bounds.LossAndError:
        return bounds.robust_loss(
            self.model, x, y, intermediate=self.options.intermediate, **self._ball(radius)
        )

    def _ball(self, radius: float) -> dict[str, Any]:
        return {"radius": radius, "norm": self.options.norm, "lower": 0.0, "upper": 1.0}

    def step(self) -> dict[str, float]:
        """Train on the next batch; its loss, its error and the radius."""
        start, options = time.perf_counter(), self.options
        now = self.epoch + self.position / self.batches
        x, y = self.batch()
        loss, errors = self.loss(x, y, now)
        shown = {
            "loss": float(loss.detach()),
            "error": float(errors),
            "radius": options.radius_at(now),
        }
        self.optimizer.zero_grad()
        loss.backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        # No checkpoint may hold what such a step would make of the weights.
        if not all(bool(torch.isfinite(tensor).all()) for tensor in (loss, *gradients)):
            raise BoundsError(
                f"the loss is {shown['loss']} in epoch {self.epoch}, batch {self.position}, and it "
                "or its gradient is no number: start again with a smaller --lr or a longer "
                "--schedule-length."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = options.lr_at(now)
        self.optimizer.step()
        self.position += 1
        self.sums.images += len(x)
        self.sums.loss += shown["loss"] * len(x)
        self.sums.errors += shown["error"] * len(x)
        self.sums.seconds += time.perf_counter() - start
        return shown

    def end_epoch(self) -> dict[str, Any]:
        """Measure, and turn to the next epoch; the line of the log."""
        sums, options = self.sums, self.options
        record = {
            "epoch": self.epoch,
            "radius": options.radius_at(self.epoch + (self.batches - 1) / self.batches),
            "train_loss": sums.loss / sums.images,
            "train_error": sums.errors / sums.images,
            "seconds": round(sums.seconds, 2),
            **self.test_errors(),
        }
        self.records.append(record)
        self.epoch, self.position, self.sums = self.epoch + 1, 0, Sums()
        return record

    @torch.no_grad()
    def test_errors(self) -> dict[str, float]:
        """On the first test images, at the full radius: the errors of the cascade that ends with
        this network, and what it does not certify, by fixed slopes and by intervals. They are the
        network's own where it is the first, and only then are there attacks."""
        images, reaching, radius = self.data.test, self.reaching, self.options.full_radius
        wrong = attacked = boxes = unproved = reaching.proved_wrong
        ball = self._ball(radius)
        self.model.eval()
        for part in reaching.test.split(CHUNK) if len(reaching.test) else ():
            x = images.pixels(part, next(self.model.parameters()).detach())
            y = images.labels[part].to(self.device)
            wrong += int((self.model(x).argmax(1) != y).sum())
            generator = torch.Generator().manual_seed(self.options.seed)
            points = bounds.pgd(self.model, x, y, steps=STEPS, generator=generator, **ball)
            attacked += int((self.model(points).argmax(1) != y).sum())
            boxes += int(bounds.interval_loss(self.model, x, y, reduction="sum", **ball).error)
            unproved += round(len(x) * float(self.robust_loss(x, y, radius).error))
        self.model.train()
        count = len(images.first(MEASURED))
        own = {} if self.options.after else {"attacked_error": attacked / count}
        return {
            "test_images": count,
            "test_reaching": len(reaching.test),
            "test_error": wrong / count,
            **own,
            "interval_error": boxes / count,
            "certified_error": unproved / count,
        }

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on, as tensors and plain containers."""
        return {
            "options": asdict(self.options),
            "data": self.digest,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "epoch": self.epoch,
            "position": self.position,
            "sums": asdict(self.sums),
            "records": self.records,
            "reaching": asdict(self.reaching),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        self.epoch, self.position = state["epoch"], state["position"]
        self.sums, self.records = Sums(**state["sums"]), state["records"]
        if self.options.after:  # otherwise it is everything, which old checkpoints do not list
            self.reaching = Reaching(**state["reaching"])
