"""`bounds verify`: a VNN-LIB query, by the command line of the standard."""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bounds.certification.queries import Answer, verify, vnncomp
from bounds.cli.problem import require_writable
from bounds.errors import InvalidInputError
from bounds.files import write_file

_NAMED = re.compile(r"([A-Za-z]\w*)?=", re.ASCII)
#: What the answer may come after the time, in seconds, before the process gives up on it.
GRACE = 1.0


def run(options: argparse.Namespace) -> int:
    require_writable(options.result)
    networks = _networks(options.network)
    left = options.timeout
    if left is not None and left > 0:  # what is no time at all is refused below
        left = max(left - (time.monotonic() - options.started), 1e-3)
    folder = options.serialise_assignments
    if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
        raise InvalidInputError(f"cannot write into {folder!r}: it is no folder, choose another.")
    with _answering(left):
        answer = verify(
            options.query, networks, timeout=left, seed=options.seed, method=options.method
        )
    if options.result is not None:
        write_file(options.result, vnncomp(answer).encode())
    if answer.reason:
        print(f"bounds verify: {answer.reason}.", file=sys.stderr)
    if folder is not None and answer.verdict == "sat":
        _serialise(answer, Path(folder))
        print("sat")
    else:
        print("\n".join([answer.verdict, *answer.lines()]))
    return 0


def _networks(options: list[str]) -> dict[str, str] | str:
    found: dict[str, str] = {}
    if len(options) == 1 and not _NAMED.match(options[0]):
        return options[0]
    for option in options:
        name, sign, path = option.partition("=")
        if not sign or not name or not path:
            raise InvalidInputError(f"--network {option!r} is not of the form NAME=MODEL.onnx.")
        if name in found:
            raise InvalidInputError(f"--network has {name!r} twice: give one model for it.")
        found[name] = path
    return found


@contextmanager
def _answering(seconds: float | None) -> Iterator[None]:
    """Whatever takes longer than that, and does not look at the time, ends as timed-out."""
    lock, done = threading.Lock(), list[bool]()

    def give_up() -> None:
        with lock:
            if not done:
                print("timed-out", flush=True)
                os._exit(0)

    limited = seconds is not None and 0 < seconds < threading.TIMEOUT_MAX - GRACE
    timer = threading.Timer(seconds + GRACE if seconds and limited else GRACE, give_up)
    timer.daemon = True
    if limited:
        timer.start()
    try:
        yield
    finally:
        with lock:
            done.append(True)
        timer.cancel()


def _serialise(answer: Answer, folder: Path) -> None:
    import numpy as np
    from onnx import numpy_helper

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"cannot make the folder {os.fspath(folder)!r} ({error.strerror}): choose another."
        ) from error
    for tensor, values in answer.assignment:
        kind = np.float64 if tensor.element == "real" else np.dtype(tensor.element)
        array = np.asarray(values.numpy(), kind).reshape(tensor.shape)
        proto = numpy_helper.from_array(array, tensor.name)
        write_file(folder / f"{tensor.name}.pb", proto.SerializeToString())
