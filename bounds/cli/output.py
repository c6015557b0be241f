"""What the commands show and write."""

from __future__ import annotations

import json
import os
import sys

from rich.console import Console

from bounds.files import write_file


class _Console(Console):
    """A console whose reader may leave: what is proved stays proved."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        # Nor may the interpreter find the pipe closed when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console_for(*, highlight: bool = True) -> Console:
    """Standard output."""
    return _Console(highlight=highlight)


def write_json(path: str, record: object) -> None:
    write_file(path, (json.dumps(record, indent=1) + "\n").encode())
