"""The options of what is asked about whole data sets."""

from __future__ import annotations

import argparse
import math

from bounds.cli.choices import METHODS, Commands
from bounds.cli.engine_options import add_engine
from bounds.cli.problem_options import add_model


def add_evaluate(commands: Commands) -> None:
    command = commands.add_parser(
        "evaluate",
        help="certify and attack a whole data set, at several radii",
        description="The clean accuracy on a data set, and for each image and radius whether it is "
        "proved, attacked or open. The same command with the same --results goes on where it was "
        "ended. Exit status: 0 where every image was looked at, 1 where some were lost with the "
        "processes that had them.",
        allow_abbrev=False,
    )
    command.set_defaults(module="bounds.cli.evaluate", device="cpu", dtype="float64")
    add_model(command, required=True)
    add_data_set(command, required=True)
    command.add_argument(
        "--norm", type=float, default=math.inf, metavar="P", help="of the balls; inf"
    )
    command.add_argument(
        "--results",
        metavar="FILE",
        help="an SQLite database that is written as results come, and gone on from",
    )
    command.add_argument(
        "--proofs",
        metavar="FOLDER",
        help="write files to it that prove whatever is proved, for bounds check",
    )
    command.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help="in seconds, for each image and radius that one pass leaves open; without it, "
        "searches end after 100,000 boxes or 2,000 nodes",
    )
    command.add_argument(
        "--method",
        choices=METHODS,
        default="auto",
        help="what follows one pass and an attack, as for bounds certify",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the attack; 0")
    add_engine(command)
    command.add_argument(
        "--shard", metavar="I/N", help="only the I-th of N parts of the images, counted from 1"
    )
    command.add_argument("--json", metavar="FILE", help="write all numbers to this file")
    command.add_argument("--csv", metavar="FILE", help="write a line an image and radius to it")


def add_report(commands: Commands) -> None:
    command = commands.add_parser(
        "report",
        help="a page about what bounds evaluate found",
        description="Write one HTML file, which needs no other and no network: accuracy against "
        "radius, where open images are lost, the slowest ones, and counterexamples beside their "
        "images.",
        allow_abbrev=False,
    )
    command.set_defaults(module="bounds.cli.report")
    command.add_argument(
        "results",
        nargs="+",
        metavar="RUN.sqlite",
        help="what bounds evaluate --results wrote; several where it was run in parts",
    )
    command.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the file to write, such as run.html"
    )


def add_data_set(command: argparse.ArgumentParser, *, required: bool) -> None:
    """Images, their labels, and the balls around them."""
    command.add_argument(
        "--data",
        required=required,
        metavar="X",
        help="images: an .npy, .npz or IDX file, gzipped or not, or a folder of PNG files; bytes "
        "become numbers from 0 to 1",
    )
    command.add_argument(
        "--labels",
        metavar="Y",
        help="an .npy, .npz or IDX file, a text file with a label or 'name,label' a line, or the "
        "name of an array in the .npz; default: that of the .npz, or the names of folders",
    )
    command.add_argument(
        "--radius",
        required=required,
        nargs="+",
        metavar="R",
        help="of the balls, in the units of the images, such as 0.01 or 2/255",
    )
    command.add_argument(
        "--clip",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="the box that images lie in; default: 0 1 where they are bytes, else none",
    )
    for name, what in (("mean", "subtracted from"), ("std", "that then divide")):
        command.add_argument(
            f"--{name}",
            type=float,
            nargs="+",
            metavar="C",
            help=f"numbers {what} the channels before the network, one each or one for all",
        )
