"""Tasks in a queue, worked off by workers of which any may be lost.

Without torch, which a worker may do without.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from bounds.errors import BoundsError

#: How often a task is given to another worker after one was lost over it.
TRIES = 3
#: After so many losses without one task done, and one for each worker, none can live here at all.
IN_A_ROW = 9

Task = TypeVar("Task", bound=Hashable)
Outcome = TypeVar("Outcome")
#: Given a task and its outcome, or None where it was given up: tasks that follow, to be done next.
Done = Callable[[Task, Outcome | None], Iterable[Task]]


class Engine(Protocol):
    """What does tasks."""

    def run(
        self, work: Callable[[Task], Outcome], tasks: Iterable[Task], done: Done[Task, Outcome]
    ) -> None:
        """Do all tasks, and those that follow from them.

        work travels to each worker once. Whatever ends it early, Ctrl-C or an error in a task, ends
        the workers' tasks at once; the first error in a task is raised here.
        """


class Queue(Generic[Task, Outcome]):
    """Tasks that follow from others come before new ones, which are made when they are needed."""

    def __init__(self, tasks: Iterable[Task], done: Done[Task, Outcome]) -> None:
        self._new, self._following = iter(tasks), deque[Task]()
        self._done = done
        self._losses: dict[Task, int] = {}
        self._in_a_row = 0

    def take(self) -> Task | None:
        return self._following.popleft() if self._following else next(self._new, None)

    def finish(self, task: Task, outcome: Outcome | Exception) -> None:
        """Raises the outcome where it is an error."""
        self._in_a_row = 0
        if isinstance(outcome, Exception):
            raise outcome
        self._following.extendleft(self._done(task, outcome))

    def lost(self, task: Task, *, workers: int) -> None:
        """A worker was, over this task: it is done again, unless it has been the end of several.

        workers: how many there are, all of which may be lost at once, with a machine.
        """
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW + workers:
            raise BoundsError(
                f"{self._in_a_row} processes in a row were ended from outside, as where memory is "
                "short: use fewer jobs; what is done is kept."
            )
        self._losses[task] = self._losses.get(task, 0) + 1
        if self._losses[task] < TRIES:
            self._following.appendleft(task)
        else:
            self._following.extendleft(self._done(task, None))


def attempt(work: Callable[[Task], Any], task: Task) -> Any:
    """In a worker: the outcome, or the error that it ended in.

    Where memory is short the process ends, and with it what it held: another may have more luck.
    """
    try:
        return work(task)
    except MemoryError:
        os._exit(1)
    except Exception as error:
        return error
