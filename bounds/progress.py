"""A call of many inputs at work: how far it is, until when it may work, and what Ctrl-C leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from bounds.arguments import require_flag
from bounds.deadline import Deadline
from bounds.interrupt import Kept, interruptible

T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """deadline: to be looked at between parts of the work, and told of those that are done."""

    deadline: Deadline
    kept: Kept

    def done(self, result: T) -> T:
        """The result, which is what is left of the call where Ctrl-C came."""
        self.kept.partial = result
        return result


@contextmanager
def at_work(
    call: str, *, progress: bool, total: int, unit: str, time_limit: float | None = None
) -> Iterator[Work]:
    """A call that shows its progress, in units of which it has so many, if asked to; and that ends
    on its own when its time is up or Ctrl-C comes.

    Raises:
        Interrupted: at its end, where Ctrl-C came.
        InvalidInputError: a progress that is neither True nor False.
    """
    require_flag(call, "progress", progress)
    with interruptible(call) as kept, _bar(call, progress, total, unit) as tell:
        yield Work(Deadline(time_limit, tell), kept)


@contextmanager
def _bar(call: str, shown: bool, total: int, unit: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error: done of all, how many a second, and the time that is left."""
    if not shown:
        yield lambda _: None
        return
    # Here, as it takes long to import and most calls show nothing.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        number = bar.add_task(call, total=total, unit=unit, rate="")

        def tell(more: float) -> None:
            task = bar.tasks[number]
            done, seconds = task.completed + more, task.elapsed or 0.0
            bar.update(number, completed=done, rate=f"{done / seconds:.1f}/s" if seconds else "")

        yield tell
