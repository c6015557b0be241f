"""The options that several commands share: which network, which inputs and which rows."""

from __future__ import annotations

import argparse
import math
from typing import Any

from bounds.cli.choices import SHIPPED


def add_problem(command: argparse.ArgumentParser, *, dtype: bool = True) -> None:
    """The options that say which network, which inputs and which rows; dtype: and computed in what,
    float64 else."""
    add_model(command, required=False)
    command.add_argument("--input", metavar="X.npy", help="one input, or a batch of them")
    command.add_argument(
        "--label",
        type=_label,
        nargs="+",
        metavar="Y",
        help="the class of each input; default: the network's own answer",
    )
    command.add_argument(
        "--rows",
        metavar="ROWS.npy",
        help="bound these rows in place of labels: of each, the coefficients of all outputs and a "
        "constant, (rows, outputs + 1)",
    )
    command.add_argument(
        "--radius", type=float, metavar="R", help="of the ball; default 0.1 for shipped models"
    )
    command.add_argument(
        "--norm", type=float, default=math.inf, metavar="P", help="of the ball; inf"
    )
    command.add_argument(
        "--clip", type=float, nargs=2, metavar=("LOW", "HIGH"), help="the box that inputs lie in"
    )
    command.add_argument(
        "--vnnlib", metavar="SPEC", help="take the inputs and the rows from this VNN-LIB file"
    )
    command.add_argument("--device", default="cpu", help="such as cpu or cuda; default %(default)s")
    if dtype:
        command.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    else:
        command.set_defaults(dtype="float64")
    command.add_argument("--json", metavar="FILE", help="write all numbers to this file")


def add_model(command: argparse.ArgumentParser, *, required: bool) -> None:
    """Which network: what `bounds.cli.problem.load_model` reads."""
    default: dict[str, Any] = {} if required else {"nargs": "?", "default": SHIPPED[0]}
    command.add_argument(
        "model",
        metavar="MODEL",
        help="a torch.export archive (.pt2), an ONNX file (.onnx), or one of "
        f"{', '.join(SHIPPED)}{'' if required else '; default %(default)s'}",
        **default,
    )
    command.add_argument(
        "--output", metavar="NAME", help="of an ONNX file that has several, the one that is meant"
    )


def _label(text: str) -> int:
    label = int(text)
    if abs(label) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text} is no number of a class")
    return label
