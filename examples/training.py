"""Provably robust training that can be killed at any time, and goes on bit by bit as if it had not.

Wong & Kolter 2018 (arXiv 1711.00851) with the schedule of Wong et al. 2018 (arXiv 1805.12514): Adam
on the cross-entropy of the worst logits that the bounds allow, while the radius grows.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bounds import InvalidInputError
from examples import checkpoints
from examples.cascades import Reaching, left_by
from examples.error_report import plot_epochs
from examples.image_data import MODELS, Data, load_model, load_models, require_images
from examples.training_options import Options
from examples.training_run import Run


def train(
    options: Options,
    data: Data,
    output: Path,
    *,
    device: torch.device,
    console: Console,
    init: Path | None = None,
    after: Sequence[Path] = (),
    minutes: float = 1.0,
    picture: Path | None = None,
) -> bool:
    """Train, or go on, until the last epoch or a signal; whether all epochs are done.

    after: weights of the networks of a cascade, in order; the new one is trained as their next on
    those training images alone that none of them proves within the radius of `options`.
    output: a folder that gets checkpoint.pt, every so many `minutes`, after each epoch and when a
    SIGINT (Ctrl-C) or SIGTERM arrives, log.jsonl, a line an epoch, and in the end weights.pth, the
    state dict alone. picture: a file that gets the errors after all epochs so far.

    Raises:
        InvalidInputError: images or weights that do not fit the options, a checkpoint of other
            options, or networks that leave no training image unproved.
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
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    run = Run(options, data, device, model, optimizer, Reaching.everything(data))
    checkpoint = output / checkpoints.NAME
    if checkpoint.is_file():
        run.restore(checkpoints.load(checkpoint, run.state()))
        if run.epoch < options.epochs:
            console.print(f"Going on from epoch {run.epoch}, batch {run.position}.")
        else:
            console.print(f"All {run.epoch} epochs are done; the last: {_line(run.records[-1])}")
    elif after:
        run.reaching = _reaching(after, run, console)
    output.mkdir(parents=True, exist_ok=True)
    saved = time.monotonic()
    with _signals() as caught, _progress(console, run) as (progress, task):
        while run.epoch < options.epochs and not caught:
            if run.position < run.batches:
                shown = run.step()
                figures = (
                    f"loss {shown['loss']:.3f}  error {shown['error']:.1%}  "
                    f"radius {shown['radius']:.4f}"
                )
                progress.update(task, advance=1, epoch=run.epoch, figures=figures)
            else:
                record = run.end_epoch()
                console.print(_line(record))
                if picture is not None:
                    plot_epochs(picture, run.records)
                saved = -math.inf
            if time.monotonic() - saved >= 60 * minutes:
                checkpoints.save(output, run.state())
                saved = time.monotonic()
        checkpoints.save(output, run.state())
    done = run.epoch == options.epochs
    if done:
        checkpoints.save_weights(output, model)
    return done


def _reaching(after: Sequence[Path], run: Run, console: Console) -> Reaching:
    named = [part for path in after for part in load_models(path)]
    for name, _ in named:
        require_images(name, run.data.train)
    found = left_by(
        [model for _, model in named],
        run.data,
        radius=run.options.radius,
        norm=run.options.norm,
        device=run.device,
        console=console,
    )
    count = len(run.data.train)
    if not len(found.train):
        raise InvalidInputError(
            f"--after: the networks that are given prove all {count} training images, and there is "
            "nothing to train another one on: use them as they are, or choose a larger --radius."
        )
    console.print(f"{len(found.train)} of {count} training images are left to this network.")
    return found


def _line(record: dict[str, Any]) -> str:
    count, reaching = record["test_images"], record["test_reaching"]
    cascade = "" if reaching == count else f" by the cascade ({reaching} reach this network)"
    # Records of old checkpoints have fewer figures.
    attacked, boxes = (
        f"{record[name]:.2%} {text}, " if name in record else ""
        for name, text in (
            ("attacked_error", "attacked"),
            ("interval_error", "not certified by intervals"),
        )
    )
    return (
        f"epoch {record['epoch']}: radius {record['radius']:.4f}, loss {record['train_loss']:.4f}, "
        f"error {record['train_error']:.2%} in training; {record['test_error']:.2%} wrong, "
        f"{attacked}{boxes}"
        f"{record['certified_error']:.2%} not certified of {count} test images{cascade}; "
        f"{record['seconds']:.0f} s"
    )


@contextmanager
def _progress(console: Console, run: Run) -> Iterator[tuple[Progress, Any]]:
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(
            "training",
            total=run.options.epochs * run.batches,
            completed=run.epoch * run.batches + run.position,
            epoch=run.epoch,
            figures="",
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
