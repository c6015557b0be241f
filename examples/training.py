"""Provably robust training that can be killed at any time, and goes on bit by bit as if it had not.

Wong & Kolter 2018 (arXiv 1711.00851) with the schedule of Wong et al. 2018 (arXiv 1805.12514): Adam
on the cross-entropy of the worst logits that the bounds allow, while the radius grows. Everything
that a step depends on is either in the checkpoint or a function of the options and the time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

import bounds
from bounds import BoundsError, InvalidInputError
from bounds.robust_loss import TrainingIntermediate
from examples.image_data import MODELS, Data, load_file, load_models

#: Test images whose certified error is measured after each epoch, and how many at a time.
MEASURED, CHUNK = 1000, 50
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Options:
    """What decides the weights, besides the data: a run goes on only with the same.

    schedule_length: epochs over which the radius grows from start_radius. init: a digest of the
    weights to start from, "" for random ones.
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

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"--{name} {getattr(self, name)}: expected at least 1.")
        if not 0 < self.lr < math.inf:
            raise InvalidInputError(f"--lr {self.lr}: expected a positive number.")
        if self.schedule_length > self.epochs:
            raise InvalidInputError(
                f"--schedule-length {self.schedule_length} exceeds --epochs {self.epochs}: the "
                "full radius would never be reached; choose a shorter one."
            )
        self.radius_at(0.0)  # refuses radii and lengths that are none

    def radius_at(self, epoch: float) -> float:
        schedule = bounds.RadiusSchedule(
            start=self.start_radius, end=self.radius, length=self.schedule_length
        )
        return schedule(epoch)

    def lr_at(self, epoch: float) -> float:
        """Constant while the radius grows, and then a cosine down to 0."""
        rest = self.epochs - self.schedule_length
        share = max(0.0, epoch - self.schedule_length) / rest if rest else 0.0
        return self.lr * (1 + math.cos(math.pi * share)) / 2


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

    def step(self) -> dict[str, float]:
        """Train on the next batch; its loss, its error and the radius."""
        start, options = time.perf_counter(), self.options
        now = self.epoch + self.position / self.batches
        x, y = self.batch()
        radius = options.radius_at(now)
        if options.method == "robust":
            loss, unproved = bounds.robust_loss(
                self.model,
                x,
                y,
                radius=radius,
                norm=options.norm,
                lower=0.0,
                upper=1.0,
                intermediate=options.intermediate,
            )
        else:
            logits = self.model(x)
            loss = F.cross_entropy(logits, y)
            unproved = (logits.argmax(1) != y).float().mean()
        shown = {"loss": float(loss.detach()), "error": float(unproved), "radius": radius}
        if not math.isfinite(shown["loss"]):
            raise BoundsError(
                f"the loss became {shown['loss']} in epoch {self.epoch}, batch {self.position}: "
                "start again with a smaller --lr or a longer --schedule-length."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = options.lr_at(now)
        self.optimizer.zero_grad()
        loss.backward()
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
        options, test = self.options, self.data.test.first(MEASURED)
        wrong = unproved = 0.0
        for part in torch.arange(len(test)).split(CHUNK):
            x = test.pixels(part, next(self.model.parameters()))
            y = test.labels[part].to(self.device)
            wrong += float((self.model(x).argmax(1) != y).sum())
            unproved += float(
                bounds.robust_loss(
                    self.model,
                    x,
                    y,
                    radius=options.radius,
                    norm=options.norm,
                    lower=0.0,
                    upper=1.0,
                    intermediate=options.intermediate,
                    reduction="sum",
                ).error
            )
        return {
            "test_images": len(test),
            "test_error": wrong / len(test),
            "certified_error": unproved / len(test),
        }

    # -- checkpoints

    def save(self, folder: Path) -> None:
        """All at once, so that being killed leaves the old checkpoint or the new one."""
        content = {
            "format": FORMAT,
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
        whole = folder / "checkpoint.pt.part"
        torch.save(content, whole)
        os.replace(whole, folder / "checkpoint.pt")
        lines = "".join(json.dumps(record) + "\n" for record in self.records)
        (folder / "log.jsonl.part").write_text(lines, encoding="utf-8")
        os.replace(folder / "log.jsonl.part", folder / "log.jsonl")

    def restore(self, path: Path) -> None:
        """Go on where the checkpoint is; refuses one of other options or data."""
        content = load_file(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InvalidInputError(
                f"{str(path)!r} is no checkpoint of this version: choose another --output."
            )
        ours = asdict(self.options) | {"data": self.digest}
        theirs = content["options"] | {"data": content["data"]}
        differing = [name for name in ours if ours[name] != theirs.get(name)]
        if differing:
            raise InvalidInputError(
                f"{str(path)!r} was made with other options ("
                + ", ".join(
                    f"{name}: {theirs.get(name)!r}, now {ours[name]!r}" for name in differing
                )
                + "): give the same ones, or another --output."
            )
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["rng"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all(content["cuda_rng"])
        self.epoch, self.position = content["epoch"], content["position"]
        self.sums, self.records = Sums(**content["sums"]), content["records"]


def digest_of_file(path: Path | None) -> str:
    """Names the contents of a file; "" for none."""
    if path is None:
        return ""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InvalidInputError(
            f"{str(path)!r} cannot be read ({error.strerror}): give a file of weights."
        ) from error


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
    layers, shape = MODELS[options.model]
    if tuple(data.train.raw.shape[1:]) != shape or tuple(data.test.raw.shape[1:]) != shape:
        raise InvalidInputError(
            f"--model {options.model} takes inputs of shape {shape}, and the images have "
            f"{tuple(data.train.raw.shape[1:])}: choose one of {', '.join(MODELS)}."
        )
    torch.manual_seed(options.seed)
    model = layers()
    if init is not None:
        [weights] = [given.state_dict() for given in load_models(init)[:1]]
        model.load_state_dict(weights)
    model.to(device)
    run = Run(options, data, device, model, torch.optim.Adam(model.parameters(), lr=options.lr))
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / "checkpoint.pt"
    if checkpoint.is_file():
        run.restore(checkpoint)
        console.print(f"Going on from epoch {run.epoch}, batch {run.position}.")
    saved = time.monotonic()
    with _signals() as caught, _progress(console, run) as (progress, task):
        while run.epoch < options.epochs and not caught:
            if run.position < run.batches:
                shown = run.step()
                progress.update(task, advance=1, epoch=run.epoch, **shown)
            else:
                record = run.end_epoch()
                console.print(_line(record))
                saved = -math.inf
            if time.monotonic() - saved >= 60 * minutes:
                run.save(output)
                saved = time.monotonic()
        run.save(output)
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
