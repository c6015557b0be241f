"""A file that a long measurement is written to piece by piece, and goes on from.

One JSON object a line: the first says what is measured, each other what came out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bounds.engines.queue import TRIES

Record = dict[str, Any]


def open_journal(path: Path, about: Record) -> None:
    """Make it, or go on with it; ends the program where it is about something else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text() if path.is_file() else ""
    # A line that was cut off when a process was killed has no end.
    whole = text[: text.rfind("\n") + 1]
    if not whole:
        path.write_text(json.dumps(about) + "\n")
        return
    found = json.loads(whole[: whole.index("\n")])
    if found != about:
        raise SystemExit(
            f"{path} is a journal of {found}, not of {about}: move it away, or choose another "
            "--json."
        )
    if whole != text:
        path.write_text(whole)


def entries(path: Path) -> list[Record]:
    """What has been written so far, but for the first line, and one that is being written."""
    return [json.loads(line) for line in path.read_text().split("\n")[1:-1]]


def append(path: Path, lines: list[Record]) -> None:
    """In one write, so that several processes may append."""
    with path.open("ab", buffering=0) as stream:
        stream.write("".join(json.dumps(line) + "\n" for line in lines).encode())


def written(
    path: Path, tick: Callable[[], None]
) -> Callable[[Any, list[Record] | None], tuple[()]]:
    """What an engine does with the lines that a task comes to: they are appended, and `tick` is
    called. Ends the program where a task was given up."""

    def done(task: Any, lines: list[Record] | None) -> tuple[()]:
        append(path, require_done(task, lines))
        tick()
        return ()

    return done


def require_done(task: object, found: Any) -> Any:
    """What a task came to; ends the program where there is nothing."""
    if found is None:
        raise SystemExit(
            f"processes were ended from outside {TRIES} times over {str(task)[:100]}: the same "
            "command goes on from here, best with fewer --workers."
        )
    return found
