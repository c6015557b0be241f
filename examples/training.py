"""Provably robust training that can be killed at any time, and goes on bit by bit as if it had not.

Wong & Kolter 2018 (arXiv 1711.00851) with the schedule of Wong et al. 2018 (arXiv 1805.12514): Adam
on the cross-entropy of the worst logits that the bounds allow, while the radius grows. Everything
that a step depends on is either in the checkpoint or a function of the options and the time.
"""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

import bounds
from bounds import BoundsError, InvalidInputError
from examples import checkpoints
from examples.image_data import MODELS, Data, load_model, require_images
from examples.training_options import Options

#: Test images whose certified error is measured after each epoch, and how many at a time.
MEASURED, CHUNK = 1000, 50


@dataclass
class Sums:
    """Of the epoch so far."""

    images: int = 0
    loss: float = 0.0
    unproved: float = 0.0
    seconds: float = 0.0


@dataclass
class Run:
    """A training run, between two batches."""

    options: Options
    data: Data
    device: torch.device
    model: nn.Sequential
    optimizer: torch.optim.Adam
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
        return math.ceil(len(self.data.train) / self.options.batch)

    def batch(self) -> tuple[Tensor, Tensor]:
        """The next images and labels; the order of an epoch is a function of the seed and it."""
        order = np.random.default_rng([self.options.seed, self.epoch]).permutation(
            len(self.data.train)
        )
        size = self.options.batch
        chosen = torch.from_numpy(order[self.position * size : (self.position + 1) * size])
        like = next(self.model.parameters())
        x = self.data.train.pixels(chosen, like.detach())
        return x, self.data.train.labels[chosen].to(self.device)

    def robust_loss(self, x: Tensor, y: Tensor, radius: float) -> bounds.LossAndError:
        options = self.options
        return bounds.robust_loss(
            self.model,
            x,
            y,
            radius=radius,
            norm=options.norm,
            lower=0.0,
            upper=1.0,
            intermediate=options.intermediate,
        )

    def step(self) -> dict[str, float]:
        """Train on the next batch; its loss, its error and the radius."""
        start, options = time.perf_counter(), self.options
        now = self.epoch + self.position / self.batches
        x, y = self.batch()
        radius = options.radius_at(now)
        if options.method == "robust":
            loss, unproved = self.robust_loss(x, y, radius)
        else:
            logits = self.model(x)
            loss = F.cross_entropy(logits, y)
            unproved = (logits.argmax(1) != y).float().mean()
        shown = {"loss": float(loss.detach()), "error": float(unproved), "radius": radius}
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
        self.sums.unproved += shown["error"] * len(x)
        self.sums.seconds += time.perf_counter() - start
        return shown

    def end_epoch(self) -> dict[str, Any]:
        """Measure, and turn to the next epoch; the line of the log."""
        sums, options = self.sums, self.options
        record = {
            "epoch": self.epoch,
            "radius": options.radius_at(self.epoch + (self.batches - 1) / self.batches),
            "train_loss": sums.loss / sums.images,
            "train_error": sums.unproved / sums.images,
            "seconds": round(sums.seconds, 2),
            **self.test_errors(),
        }
        self.records.append(record)
        self.epoch, self.position, self.sums = self.epoch + 1, 0, Sums()
        return record

    @torch.no_grad()
    def test_errors(self) -> dict[str, float]:
        """On the first test images: errors, and what is not certified at the full radius."""
        test = self.data.test.first(MEASURED)
        wrong = unproved = 0.0
        for part in torch.arange(len(test)).split(CHUNK):
            x = test.pixels(part, next(self.model.parameters()))
            y = test.labels[part].to(self.device)
            wrong += float((self.model(x).argmax(1) != y).sum())
            unproved += len(x) * float(self.robust_loss(x, y, self.options.radius).error)
        return {
            "test_images": len(test),
            "test_error": wrong / len(test),
            "certified_error": unproved / len(test),
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


def train(
    options: Options,
    data: Data,
    output: Path,
    *,
    device: torch.device,
    console: Console,
    init: Path | None = None,
    minutes: float = 1.0,
) -> bool:
    """Train, or go on, until the last epoch or a signal; whether all epochs are done.

    output: a folder that gets checkpoint.pt, every so many `minutes`, after each epoch and when a
    SIGINT (Ctrl-C) or SIGTERM arrives, and log.jsonl, a line an epoch.
    """
    for images in (data.train, data.test):
        require_images(options.model, images)
    torch.manual_seed(options.seed)
    model = MODELS[options.model][0]()
    if init is not None:
        name, model = load_model(init)
        if name != options.model:
            raise InvalidInputError(
                f"{str(init)!r} holds weights of {name!r}: start with them with --model {name}."
            )
    model.to(device)
    run = Run(options, data, device, model, torch.optim.Adam(model.parameters(), lr=options.lr))
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / checkpoints.NAME
    if checkpoint.is_file():
        run.restore(checkpoints.load(checkpoint, run.state()))
        console.print(f"Going on from epoch {run.epoch}, batch {run.position}.")
    saved = time.monotonic()
    with _signals() as caught, _progress(console, run) as (progress, task):
        while run.epoch < options.epochs and not caught:
            if run.position < run.batches:
                shown: dict[str, Any] = run.step()
                progress.update(task, advance=1, epoch=run.epoch, **shown)
            else:
                record = run.end_epoch()
                console.print(_line(record))
                saved = -math.inf
            if time.monotonic() - saved >= 60 * minutes:
                checkpoints.save(output, run.state())
                saved = time.monotonic()
        checkpoints.save(output, run.state())
    return run.epoch == options.epochs


def _line(record: dict[str, Any]) -> str:
    return (
        f"epoch {record['epoch']}: radius {record['radius']:.4f}, loss {record['train_loss']:.4f}, "
        f"error {record['train_error']:.2%} in training; {record['test_error']:.2%} wrong, "
        f"{record['certified_error']:.2%} not certified of {record['test_images']} test images; "
        f"{record['seconds']:.0f} s"
    )


@contextmanager
def _progress(console: Console, run: Run) -> Iterator[tuple[Progress, Any]]:
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn(
            "loss {task.fields[loss]:.3f}  error {task.fields[error]:.1%}  "
            "radius {task.fields[radius]:.4f}"
        ),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(
            "training",
            total=run.options.epochs * run.batches,
            completed=run.epoch * run.batches + run.position,
            epoch=run.epoch,
            loss=math.nan,
            error=math.nan,
            radius=run.options.radius_at(run.epoch),
        )
        yield progress, task


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that have arrived: they end the training after the batch that is under way."""
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
