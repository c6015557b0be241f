"""What the commands share: reading what the options name."""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bounds.arguments import number_of_classes
from bounds.cli.choices import SHIPPED
from bounds.errors import InvalidInputError
from bounds.models import load_digits_images, load_digits_model
from bounds.network.graph import Network
from bounds.read.export.archive import first_line
from bounds.read.load import load
from bounds.read.torch.from_torch import from_torch
from bounds.read.vnnlib import read_vnnlib
from bounds.read.vnnlib.property import Property
from bounds.relaxation.specification import Specification, answers
from bounds.sets.ball import Ball
from bounds.sets.box import Box


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
        torch.zeros(1, device=device).item()  # the meta device has no numbers
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
    return load(options.model, dtype=dtype, output=options.output).to(device)


def load_ball(options: argparse.Namespace, network: Network) -> tuple[Ball, Tensor]:
    """The ball around the inputs as they are given, batched, and their labels, (inputs,)."""
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
    device, dtype = device_and_dtype(options)
    inputs = inputs.to(device)
    if options.label is not None:
        if len(options.label) not in (1, len(inputs)):
            raise InvalidInputError(
                f"--label got {len(options.label)} labels for {len(inputs)} inputs: give one, or "
                "one an input."
            )
        labels = torch.tensor(options.label).expand(len(inputs))
    elif known is not None:
        labels = known
    else:
        logits = network(inputs.to(dtype)).flatten(1)
        labels = (logits > 0).long()[:, 0] if logits.shape[1] == 1 else logits.argmax(1)
    low, high = clip or (None, None)
    return Ball(inputs, radius=radius, norm=options.norm, lower=low, upper=high), labels


def read_property(options: argparse.Namespace) -> Property:
    """The property of --vnnlib."""
    unset = {"input": None, "label": None, "radius": None, "norm": math.inf, "clip": None}
    for name, value in {**unset, "rows": None}.items():
        if getattr(options, name) != value:
            raise InvalidInputError(
                f"--{name} and --vnnlib exclude each other: the VNN-LIB file has the inputs."
            )
    return read_vnnlib(options.vnnlib)


def load_problem(options: argparse.Namespace, network: Network) -> tuple[Ball | Box, Specification]:
    """The sets of inputs, and the rows that are asked about on all of them."""
    if options.vnnlib is None:
        ball, labels = load_ball(options, network)
        grown = ball.grown(device_and_dtype(options)[1], network.input_shape)
        return grown, load_rows(options, network, labels)
    property = read_property(options)
    property.require_fit(network.input_shape, network.output_shape)
    if len(property.alike(len(property.cases))) > 1:
        raise InvalidInputError(
            f"VNN-LIB {property.name!r} has cases with unsafe conditions of their own: "
            f"{options.command} takes the same rows for all, use bounds certify."
        )
    device, dtype = device_and_dtype(options)
    return (
        property.box(property.cases, network.input_shape, dtype).convert(
            lambda end: end.to(device)
        ),
        property.specification(property.cases[0].disjuncts, grown=True, dtype=dtype),
    )


def load_rows(options: argparse.Namespace, network: Network, labels: Tensor) -> Specification:
    """Of --rows, or else those that say that the labels are answered."""
    if options.rows is None:
        name = f"bounds {options.command}"
        return answers(labels, number_of_classes(name, network.output_shape))
    if options.label is not None:
        raise InvalidInputError("--rows and --label exclude each other: labels have rows.")
    rows, outputs = _load_array("--rows", options.rows), math.prod(network.output_shape)
    if rows.dim() != 2 or len(rows) == 0 or rows.shape[1] != outputs + 1:
        raise InvalidInputError(
            f"--rows {options.rows!r} has shape {tuple(rows.shape)}, expected (rows, {outputs + 1})"
            f": the {outputs} coefficients of the outputs, and the constant, of each row."
        )
    return Specification(rows[:, :-1], rows[:, -1])


def _load_input(path: str, network: Network) -> Tensor:
    tensor, shape = _load_array("--input", path), network.input_shape
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


def _load_array(option: str, path: str) -> Tensor:
    """The numbers of a .npy file, in float64."""
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise OSError("it is not a regular file")
        with warnings.catch_warnings(action="ignore"):
            array = np.load(path, allow_pickle=False)
    # numpy parses the header as Python, and warns of and raises whatever that does.
    except Exception as error:
        raise InvalidInputError(
            f"{option} {path!r} is not a readable .npy file ({first_line(error)}): save it with "
            "numpy.save."
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.itemsize > 8:
        kind = getattr(array, "dtype", type(array).__name__)
        raise InvalidInputError(
            f"{option} {path!r} holds {kind}, expected floating-point numbers scaled as the "
            "network expects them: convert with array.astype('float32')."
        )
    with np.errstate(all="ignore"):  # what overflows or is NaN is refused with the ball
        return torch.from_numpy(np.array(array, dtype=np.float64, order="C"))
