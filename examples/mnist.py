"""Provably robust training on MNIST, and the errors that attacks find and that bounds leave.

    pip install -e ".[examples,plot]"
    python examples/mnist.py train --data DIR --output RUN
    python examples/mnist.py evaluate RUN/checkpoint.pt --data DIR --plot errors.png

DIR holds MNIST's four IDX files, gzipped; without --data both take scikit-learn's digits. The same
command again goes on where the first was stopped. What wrote the weights beside this file, and the
like for CIFAR-10, where DIR holds the six files of its binary version:

    python examples/mnist.py train --loss mixed --mixture 0.01 --radius 0.11 --test-radius 0.1 \
        --shift 1 --start-radius 0 --schedule-length 4 --epochs 22 --batch 128 --lr 0.002 \
        --model wide --data DIR --output RUN                                  # mnist_0.1.pth
    python examples/mnist.py train --loss mixed --mixture 0.5 --radius 0.31 --test-radius 0.3 \
        --shift 1 --start-radius 0 --schedule-length 12 --epochs 70 --batch 128 --lr 0.002 \
        --intermediate interval --model normed --data DIR --output RUN        # mnist_0.3.pth
    python examples/mnist.py train --loss mixed --mixture 0.01 --radius 0.00784313725490196 \
        --shift 2 --start-radius 0 --schedule-length 20 --epochs 80 --batch 128 --lr 0.001 \
        --attack-steps 2 --data DIR --output RUN

A cascade, whose next network is trained on
the images that the ones before do not prove (there must be some), and its errors:

    python examples/mnist.py train --after RUN/checkpoint.pt --data DIR --output NEXT
    python examples/mnist.py evaluate RUN/checkpoint.pt NEXT/checkpoint.pt --data DIR
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.support.environment import describe
from bounds import BoundsError, InvalidInputError
from bounds.training.mixed_loss import Combination
from examples.checkpoints import digest_of_file
from examples.error_report import plot, stage_table, stages, table, write_json
from examples.evaluation import Question, measure
from examples.image_data import MODELS, fitting, load_data, load_models, require_images
from examples.kept import Kept
from examples.training import train
from examples.training_options import Loss, Options

#: The run was stopped by a signal, and can go on.
STOPPED = 3


def device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the meta device has no numbers
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(
            f"{name!r} is no device that computes here, such as cpu"
        ) from error
    return device


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    shows: dict[str, Any] = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}
    training = commands.add_parser("train", help="train, or go on", **shows)
    training.add_argument("--output", type=Path, required=True, help="folder of the run")
    training.add_argument("--epochs", type=int, default=20)
    training.add_argument("--batch", type=int, default=50)
    training.add_argument("--lr", type=float, default=1e-3)
    training.add_argument("--start-radius", type=float, default=0.01)
    training.add_argument("--schedule-length", type=float, default=10.0, help="in epochs")
    training.add_argument("--loss", choices=get_args(Loss), default="robust")
    training.add_argument("--intermediate", choices=("backward", "interval"), default="backward")
    training.add_argument(
        "--mixture",
        type=float,
        default=0.1,
        help="share of intervals (mixed), backward pass (crown-ibp) or ball (small-box)",
    )
    training.add_argument(
        "--start-mixture", type=float, help="while the radius grows it goes from here; default: it"
    )
    training.add_argument(
        "--combination",
        choices=get_args(Combination),
        default="losses",
        help="what is mixed (MTL-IBP, CC-IBP, Exp-IBP)",
    )
    training.add_argument("--attack-steps", type=int, default=1, help="of these two losses")
    training.add_argument(
        "--test-radius", type=float, help="that errors are measured at; default: --radius"
    )
    training.add_argument(
        "--shift", type=int, default=0, help="move training images by up to so many pixels"
    )
    training.add_argument("--model", choices=tuple(MODELS), help="by default as the data ask for")
    training.add_argument("--init", type=Path, help="weights to start from")
    training.add_argument(
        "--after",
        type=Path,
        nargs="+",
        default=[],
        help="weights of a cascade: train its next network, on what these do not prove",
    )
    training.add_argument("--plot", type=Path, help="draw the errors after each epoch")
    training.add_argument("--save-minutes", type=float, default=1.0, help="between checkpoints")
    evaluation = commands.add_parser("evaluate", help="measure errors", **shows)
    evaluation.add_argument(
        "weights",
        type=Path,
        nargs="+",
        help="state dicts, lists of them, or runs' checkpoints; several networks are a cascade",
    )
    evaluation.add_argument("--images", type=int, help="the first so many; default: all")
    evaluation.add_argument(
        "--exact", action=argparse.BooleanOptionalAction, default=True, help="solve LPs"
    )
    evaluation.add_argument(
        "--box", action=argparse.BooleanOptionalAction, default=True, help="pixels stay in [0, 1]"
    )
    evaluation.add_argument("--steps", type=int, default=40, help="of PGD")
    evaluation.add_argument("--restarts", type=int, default=1, help="of PGD")
    evaluation.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        help="seconds of search for an image that LPs leave, on average; 0 for no search",
    )
    evaluation.add_argument(
        "--json",
        type=Path,
        help="write the figures and what they depend on; until then FILE.kept holds what is found, "
        "and the same command goes on",
    )
    evaluation.add_argument("--plot", type=Path, help="draw them")
    for command in (training, evaluation):
        command.add_argument("--data", type=Path, help="folder of the IDX files")
        command.add_argument("--radius", type=float, default=0.1, help="pixels in [0, 1]")
        command.add_argument("--norm", type=float, default=float("inf"), help="inf, 2 or 1")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--device", type=device, default="cpu")
        command.add_argument("--threads", type=int, help="of torch")
    return parser


def run_train(args: argparse.Namespace, console: Console) -> int:
    data = load_data(args.data)
    options = Options(
        model=args.model or fitting(data.train),
        epochs=args.epochs,
        batch=args.batch,
        lr=args.lr,
        radius=args.radius,
        start_radius=args.start_radius,
        schedule_length=args.schedule_length,
        norm=args.norm,
        loss=args.loss,
        intermediate=args.intermediate,
        seed=args.seed,
        mixture=args.mixture,
        start_mixture=args.mixture if args.start_mixture is None else args.start_mixture,
        combination=args.combination,
        attack_steps=args.attack_steps,
        test_radius=args.test_radius,
        shift=args.shift,
        init=digest_of_file(args.init),
        after=tuple(digest_of_file(path) for path in args.after),
    )
    done = train(
        options,
        data,
        args.output,
        device=args.device,
        console=console,
        init=args.init,
        after=args.after,
        minutes=args.save_minutes,
        picture=args.plot,
    )
    if not done:
        console.print("Stopped and saved; the same command goes on.")
    return 0 if done else STOPPED


def run_evaluate(args: argparse.Namespace, console: Console) -> int:
    if args.images is not None and args.images < 1:
        raise InvalidInputError(f"--images {args.images}: expected at least 1.")
    if not 0 <= args.timeout < math.inf:
        raise InvalidInputError(f"--timeout {args.timeout}: expected a number of at least 0.")
    images = load_data(args.data).test.first(args.images)
    named = [part for path in args.weights for part in load_models(path)]
    for name, _ in named:
        require_images(name, images)
    question = Question(
        radius=args.radius,
        norm=args.norm,
        box=args.box,
        steps=args.steps,
        restarts=args.restarts,
        seed=args.seed,
        exact=args.exact,
        timeout=args.timeout,
    )
    about: dict[str, Any] = {
        "weights": [digest_of_file(path) for path in args.weights],
        "data": "digits" if args.data is None else args.data.name,
        "question": asdict(question) | {"norm": str(question.norm)},  # JSON has no infinity
    }
    file = None if args.json is None else args.json.with_name(f"{args.json.name}.kept")
    kept = Kept(file, about | {"images": len(images)})
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("images", total=len(images))

        def tick(work: str, done: int, total: int) -> None:
            progress.update(task, description=work, completed=min(done, total), total=total)

        models = [model for _, model in named]
        found = measure(models, images, question, device=args.device, tick=tick, kept=kept)
    cascade = f", cascade of {len(named)} networks" if len(named) > 1 else ""
    ball = f"ℓ{args.norm:g} radius {args.radius:g}"
    console.print(table(found, f"{len(images)} test images, {ball}{cascade}"))
    about["environment"] = describe(args.device)
    if found.answer is not None:
        about["stages"] = stages(found.answer, found.errors["clean"], len(named))
        console.print(stage_table(about["stages"]))
    if args.json is not None:
        write_json(args.json, found, about)
        kept.finished()
    if args.plot is not None:
        plot(args.plot, found, question, f"{', '.join(p.name for p in args.weights)}{cascade}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    try:
        run = run_train if args.command == "train" else run_evaluate
        return run(args, Console())
    except BoundsError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
