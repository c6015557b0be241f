"""Provably robust training on MNIST.

    pip install -e ".[examples,plot]"
    python -m examples.mnist train --data DIR --output RUN

DIR holds MNIST's four IDX files, gzipped; without --data it takes scikit-learn's digits.
The same train command again goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

from bounds import BoundsError
from examples.image_data import MODELS, load_data
from examples.training import Options, digest_of_file, train

#: The run was stopped by a signal, and can go on.
STOPPED = 3


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="examples.mnist", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    shows = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}
    training = commands.add_parser("train", help="train, or go on", **shows)
    training.add_argument("--output", type=Path, required=True, help="folder of the run")
    training.add_argument("--epochs", type=int, default=20)
    training.add_argument("--batch", type=int, default=50)
    training.add_argument("--lr", type=float, default=1e-3)
    training.add_argument("--start-radius", type=float, default=0.01)
    training.add_argument("--schedule-length", type=float, default=10.0, help="in epochs")
    training.add_argument("--method", choices=("robust", "standard"), default="robust")
    training.add_argument("--intermediate", choices=("backward", "interval"), default="backward")
    training.add_argument("--model", choices=tuple(MODELS), help="by default as the data ask for")
    training.add_argument("--init", type=Path, help="weights to start from")
    training.add_argument("--save-minutes", type=float, default=1.0, help="between checkpoints")
    for command in (training,):
        command.add_argument("--data", type=Path, help="folder of the IDX files")
        command.add_argument("--radius", type=float, default=0.1, help="pixels in [0, 1]")
        command.add_argument("--norm", type=float, default=float("inf"), help="inf, 2 or 1")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--device", default="cpu")
        command.add_argument("--threads", type=int, help="of torch")
    return parser


def run_train(args: argparse.Namespace, console: Console) -> int:
    options = Options(
        model=args.model or ("digits" if args.data is None else "small"),
        epochs=args.epochs,
        batch=args.batch,
        lr=args.lr,
        radius=args.radius,
        start_radius=args.start_radius,
        schedule_length=args.schedule_length,
        norm=args.norm,
        method=args.method,
        intermediate=args.intermediate,
        seed=args.seed,
        init=digest_of_file(args.init),
    )
    done = train(
        options,
        load_data(args.data),
        args.output,
        device=torch.device(args.device),
        console=console,
        init=args.init,
        minutes=args.save_minutes,
    )
    if not done:
        console.print("Stopped and saved; the same command goes on.")
    return 0 if done else STOPPED


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    try:
        return run_train(args, Console())
    except BoundsError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
