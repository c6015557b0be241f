"""What the commands share: the options that state a problem, and reading what they name."""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bounds.errors import InvalidInputError
from bounds.models import load_digits_images, load_digits_model
from bounds.network.graph import Network
from bounds.read.export.archive import first_line
from bounds.read.load import load
from bounds.read.torch.from_torch import from_torch
from bounds.read.vnnlib import read_vnnlib
from bounds.read.vnnlib.property import Property
from bounds.sets.ball import Ball

SHIPPED = ("digits_robust", "digits_standard")


def add_problem(command: argparse.ArgumentParser) -> None:
    """The options that say which network, which inputs and which rows."""
    command.add_argument(
        "model",
        nargs="?",
        default=SHIPPED[0],
        metavar="MODEL",
        help="a torch.export archive (.pt2), an ONNX file (.onnx), or one of "
        f"{', '.join(SHIPPED)}; default %(default)s",
    )
    command.add_argument("--input", metavar="X.npy", help="one input, or a batch of them")
    command.add_argument(
        "--label",
        type=_label,
        nargs="+",
        metavar="Y",
        help="the class of each input; default: the network's own answer",
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
    command.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    command.add_argument("--json", metavar="FILE", help="write all numbers to this file")


def _label(text: str) -> int:
    label = int(text)
    if abs(label) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text} is no number of a class")
    return label


def require_writable(*paths: str | None) -> None:
    """Refuse what could not be written, before anything is computed."""
    for path in paths:
        if path is not None and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
            raise InvalidInputError(
                f"cannot write {path!r}: it is a folder, or its folder does not exist; choose a "
                "file in a folder that is there."
            )


def device_and_dtype(options: argparse.Namespace) -> tuple[torch.device, torch.dtype]:
    """Of --device, which has to be there, and --dtype."""
    name = options.device
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"--device {name!r} cannot be used ({reason}): try --device cpu."
        ) from error
    return device, getattr(torch, options.dtype)


def load_model(options: argparse.Namespace) -> Network:
    """The network, in the dtype and on the device that were asked for."""
    device, dtype = device_and_dtype(options)
    if options.model in SHIPPED:
        shape = load_digits_images()[0].shape[1:]
        return from_torch(load_digits_model(options.model), shape, dtype=dtype).to(device)
    return load(options.model, dtype=dtype).to(device)


def load_ball(options: argparse.Namespace, network: Network) -> tuple[Ball, Tensor]:
    """The ball around the inputs, batched, and their labels."""
    radius, clip, known = options.radius, options.clip, None
    if options.model in SHIPPED:
        images, known = load_digits_images()
        radius, clip = 0.1 if radius is None else radius, clip or (0.0, 1.0)
    if radius is None:
        raise InvalidInputError("--radius is missing: give it with a model of your own.")
    if options.input is not None:
        inputs, known = _load_input(options.input, network), None
    elif known is None:
        raise InvalidInputError("--input is missing: give it with a model of your own.")
    else:
        inputs, known = images[:3], known[:3]
    inputs = inputs.to(*device_and_dtype(options))
    labels = known if options.label is None else torch.tensor(options.label)
    if labels is None:
        labels = network(inputs).flatten(1).argmax(1)
    elif len(labels) not in (1, len(inputs)):
        raise InvalidInputError(
            f"--label got {len(labels)} labels for {len(inputs)} inputs: give one, or one an input."
        )
    low, high = clip or (None, None)
    return Ball(inputs, radius=radius, norm=options.norm, lower=low, upper=high), labels


def read_property(options: argparse.Namespace) -> Property:
    """The property of --vnnlib."""
    unset = {"input": None, "label": None, "radius": None, "norm": math.inf, "clip": None}
    for name, value in unset.items():
        if getattr(options, name) != value:
            raise InvalidInputError(
                f"--{name} and --vnnlib exclude each other: the VNN-LIB file has the inputs."
            )
    return read_vnnlib(options.vnnlib)


def _load_input(path: str, network: Network) -> torch.Tensor:
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise OSError("it is not a regular file")
        with warnings.catch_warnings(action="ignore"):
            array = np.load(path, allow_pickle=False)
    # numpy parses the header as Python, and warns of and raises whatever that does.
    except Exception as error:
        raise InvalidInputError(
            f"--input {path!r} is not a readable .npy file ({first_line(error)}): save it with "
            "numpy.save."
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        kind = getattr(array, "dtype", type(array).__name__)
        raise InvalidInputError(
            f"--input {path!r} holds {kind}, expected floating-point numbers scaled as the "
            "network expects them: convert with array.astype('float32')."
        )
    with np.errstate(all="ignore"):  # what overflows or is NaN is refused with the ball
        tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))
    shape = network.input_shape
    if tensor.shape != shape and tensor.shape[1:] != shape:
        raise InvalidInputError(
            f"--input {path!r} has shape {tuple(tensor.shape)}, expected {shape} or (batch, "
            f"{', '.join(map(str, shape))}): reshape it to the network's input."
        )
    if tensor.numel() == 0:
        raise InvalidInputError(
            f"--input {path!r} has shape {tuple(tensor.shape)}, an empty batch: give at least one "
            "input."
        )
    return tensor.reshape(-1, *shape)
