"""What the commands show and write."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from bounds.files import write_file

if TYPE_CHECKING:  # not every command searches
    from bounds.search.search import Search


class _Console(Console):
    """A console whose reader may leave: what is proved stays proved."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        # Nor may the interpreter find the pipe closed when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console_for(*, highlight: bool = True) -> Console:
    """Standard output."""
    return _Console(highlight=highlight)


@contextmanager
def progress_of(work: str, kind: str) -> Iterator[Callable[[int, Search], None]]:
    """Shows the work on standard error, where that is a terminal; to be called with the number of
    an input or case and how far its search is."""
    begun: dict[int, float] = {}
    with Console(stderr=True).status(work) as status:

        def tell(number: int, search: Search) -> None:
            seconds = time.monotonic() - begun.setdefault(number, time.monotonic())
            status.update(f"splitting {kind} {number}: {shown(search, seconds)}")

        yield tell


def shown(search: Search, seconds: float) -> str:
    """How far a search is after so many seconds; what is left is guessed from the closed share."""
    left = ""
    if search.closed > 0:
        left = f", perhaps {seconds * (1 - search.closed) / search.closed:.0f} s left"
    return (
        f"{search.domains} domains done, {search.open} open, worst bound {search.worst:+.4g}, "
        f"{search.closed:.1%} closed after {seconds:.0f} s{left}"
    )


def write_json(path: str, record: object) -> None:
    write_file(path, (json.dumps(record, indent=1) + "\n").encode())
