"""Checkpoints of training runs: written whole or not at all, and read without unpickling."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bounds import InvalidInputError
from examples.image_data import load_file

FORMAT = 1
NAME, LOG, WEIGHTS = "checkpoint.pt", "log.jsonl", "weights.pth"


def save(folder: Path, state: dict[str, Any]) -> None:
    """The state of a run, and its records as a log; being killed leaves the old files or the new
    ones."""
    part = folder / f"{NAME}.part"
    torch.save({"format": FORMAT} | state, part)
    os.replace(part, folder / NAME)
    part = folder / f"{LOG}.part"
    lines = "".join(json.dumps(record) + "\n" for record in state["records"])
    part.write_text(lines, encoding="utf-8")
    os.replace(part, folder / LOG)


def save_weights(folder: Path, model: nn.Module) -> None:
    """The state dict of a finished run, which `examples.image_data.load_models` reads."""
    part = folder / f"{WEIGHTS}.part"
    torch.save(model.state_dict(), part)
    os.replace(part, folder / WEIGHTS)


def load(path: Path, current: dict[str, Any]) -> dict[str, Any]:
    """The state of a run with the options and data of the state `current`.

    Raises InvalidInputError for another run's, and ModelFileError for a damaged file.
    """
    state = load_file(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InvalidInputError(
            f"{str(path)!r} is no checkpoint of this version: choose another --output."
        )
    # Checkpoints from before there were cascades do not have the option.
    ours, theirs = ({"after": ()} | s["options"] | {"data": s["data"]} for s in (current, state))
    differing = ", ".join(
        f"{name}: {theirs.get(name)!r}, now {ours[name]!r}"
        for name in ours
        if ours[name] != theirs.get(name)
    )
    if differing:
        raise InvalidInputError(
            f"{str(path)!r} was made with other options ({differing}): give the same ones, or "
            "another --output."
        )
    return state


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
