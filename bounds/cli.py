"""The command line: `bounds compare`.

Exit status: 0 where everything agrees, 1 where it does not, 2 for input that cannot be used (one
line on standard error, nothing written), 130 on Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from bounds.ball import Ball
from bounds.compare import Comparison, compare
from bounds.errors import BoundsError, InvalidInputError, ModelFileError
from bounds.network import Network
from bounds.report import print_report, require_plot, save_plot
from bounds.shipped import load_digits_images, load_digits_model
from bounds.specification import margins

SHIPPED = ("digits_robust", "digits_standard")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        return int(options.run(options))
    except BoundsError as error:
        errors.print(f"bounds {options.command}: {error}")
        return 2
    except OSError as error:
        errors.print(f"bounds {options.command}: {error}: choose another file.")
        return 2
    except KeyboardInterrupt:
        errors.print(f"bounds {options.command}: interrupted, nothing was written.")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bounds", description="LP-exact bounds for ReLU networks.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "compare",
        help="fixed slope, exact and cvxpy side by side",
        description="Bound every margin of a network over a ball by the fixed slope, by the exact "
        "dual and by cvxpy, and check that the exact dual equals the LP optimum.",
        allow_abbrev=False,
    )
    command.set_defaults(run=_compare)
    command.add_argument(
        "model",
        nargs="?",
        default=SHIPPED[0],
        metavar="MODEL",
        help=f"a torch.export archive (.pt2), or one of {', '.join(SHIPPED)}; default %(default)s",
    )
    command.add_argument("--input", metavar="X.npy", help="one input, or a batch of them")
    command.add_argument(
        "--label",
        type=int,
        nargs="+",
        metavar="Y",
        help="the class of each input; default: the network's own answer",
    )
    command.add_argument(
        "--radius", type=float, metavar="R", help="of the ball; default 0.1 for shipped models"
    )
    command.add_argument(
        "--norm", type=float, default=float("inf"), metavar="P", help="of the ball; inf"
    )
    command.add_argument(
        "--clip", type=float, nargs=2, metavar=("LOW", "HIGH"), help="the box that inputs lie in"
    )
    command.add_argument("--device", default="cpu", help="such as cpu or cuda; default %(default)s")
    command.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    command.add_argument("--json", metavar="FILE", help="write all numbers to this file")
    command.add_argument("--plot", metavar="FILE", help="draw them into this file (png, svg, pdf)")
    return parser


def _compare(options: argparse.Namespace) -> int:
    for path in (options.json, options.plot):
        if path is not None and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
            raise InvalidInputError(
                f"cannot write {path!r}: it is a folder, or its folder does not exist; choose a "
                "file in a folder that is there."
            )
    if options.plot is not None:
        require_plot(options.plot)
    dtype = getattr(torch, options.dtype)
    device = _device(options.device)
    console = Console()
    network, inputs, labels = _problem(options, dtype)
    network, inputs = network.to(device), inputs.to(device, dtype)
    if labels is None:
        labels = network(inputs).flatten(1).argmax(1)
    elif len(labels) not in (1, len(inputs)):
        raise InvalidInputError(
            f"--label got {len(labels)} labels for {len(inputs)} inputs: give one, or one an input."
        )
    low, high = options.clip or (None, None)
    ball = Ball(inputs, radius=options.radius, norm=options.norm, lower=low, upper=high)
    specification = margins(labels, int(np.prod(network.output_shape)))
    with console.status("relaxing, then solving every LP three ways"):
        comparison = compare(options.model, network, ball, specification)
    print_report(comparison, console)
    _write(options, comparison)
    return 0 if all(comparison.agrees(record) for record in comparison.rows()) else 1


def _problem(
    options: argparse.Namespace, dtype: torch.dtype
) -> tuple[Network, torch.Tensor, torch.Tensor | None]:
    """The network, the inputs with a batch axis, and the labels where they are known."""
    given = None if options.label is None else torch.tensor(options.label)
    if options.model in SHIPPED:
        images, labels = load_digits_images()
        network = Network.from_torch(
            load_digits_model(options.model), images.shape[1:], dtype=dtype
        )
        options.radius = 0.1 if options.radius is None else options.radius
        options.clip = options.clip or (0.0, 1.0)
        if options.input is None:
            return network, images[:3], labels[:3] if given is None else given
        return network, _load_input(options.input, network), given
    network = _load_model(options.model, dtype)
    for name in ("input", "radius"):
        if getattr(options, name) is None:
            raise InvalidInputError(f"--{name} is missing: give it with a model of your own.")
    return network, _load_input(options.input, network), given


def _load_model(path: str, dtype: torch.dtype) -> Network:
    if path.endswith(".onnx"):
        raise ModelFileError(
            f"{path!r} is an ONNX file, which is not read yet: save the torch model with "
            "torch.export.save(torch.export.export(model, (x,)), 'model.pt2')."
        )
    return Network.from_export(path, dtype=dtype)


def _load_input(path: str, network: Network) -> torch.Tensor:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidInputError(
            f"--input {path!r} is not a readable .npy file ({error}): save it with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        kind = getattr(array, "dtype", type(array).__name__)
        raise InvalidInputError(
            f"--input {path!r} holds {kind}, expected floating-point numbers scaled as the "
            "network expects them: convert with array.astype('float32')."
        )
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


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"--device {name!r} cannot be used ({reason}): try --device cpu."
        ) from error
    return device


def _write(options: argparse.Namespace, comparison: Comparison) -> None:
    if options.json is not None:
        Path(options.json).write_text(json.dumps(comparison.to_json(), indent=1) + "\n")
    if options.plot is not None:
        save_plot(comparison, options.plot)


if __name__ == "__main__":
    sys.exit(main())
