"""Results that are written as they come, so that a benchmark goes on where it was stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Record = dict[str, Any]


def resumed(path: Path | None, record: Record, *, same: tuple[str, ...]) -> Record:
    """The record that the file has, if the entries named by `same` are those of this one."""
    if path is not None and path.is_file():
        stored: Record = json.loads(path.read_text())
        if all(stored.get(key) == record[key] for key in same):
            return stored
    return record


def save(path: Path | None, record: Record) -> None:
    """All at once, so that being killed leaves the old file or the new one."""
    if path is not None:
        whole = path.with_name(f"{path.name}.part")
        whole.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(whole, path)


def progress(console: Console) -> Progress:
    """How many of each task's entries there are, and which one is being measured."""
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
    )
