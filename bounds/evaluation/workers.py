"""Tasks worked off, here or by several processes, of which any may be lost."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

from bounds.errors import BoundsError
from bounds.evaluation.work import Outcome, Task, Work

#: How often a task is given to another process after one was lost over it.
TRIES = 3
#: After so many losses without one task done, processes cannot work here at all.
IN_A_ROW = 9

#: Given a task and its outcome, or None where it was given up: tasks that follow, to be done next.
Done = Callable[[Task, Outcome | None], Iterable[Task]]


def work_off(work: Work, tasks: Iterable[Task], done: Done, *, jobs: int) -> None:
    """Do all tasks, and those that follow from them.

    Whatever ends it early, Ctrl-C or an error in a task, ends the processes at once.
    """
    if jobs > 1:
        _Crew(work, tasks, done, jobs).run()
        return
    queue = _Queue(tasks)
    while (task := queue.take()) is not None:
        queue.put(done(task, work(task)))


class _Queue:
    """Tasks that follow from others come before new ones, which are made when they are needed."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._new, self._following = iter(tasks), deque[Task]()

    def take(self) -> Task | None:
        return self._following.popleft() if self._following else next(self._new, None)

    def put(self, tasks: Iterable[Task]) -> None:
        self._following.extendleft(tasks)


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Task | None = None


class _Crew:
    """Processes that have one task each at a time: it is known which one a loss was over."""

    def __init__(self, work: Work, tasks: Iterable[Task], done: Done, jobs: int) -> None:
        # Numbers in the bytes themselves, rather than in memory that is shared with this process.
        self._work = pickle.dumps(work)
        self._threads = max(1, (os.cpu_count() or 1) // jobs)
        self._queue, self._done, self._jobs = _Queue(tasks), done, jobs
        self._losses: dict[Task, int] = {}
        self._in_a_row = 0
        self._workers: list[_Worker] = []

    def run(self) -> None:
        try:
            while self._assigned():
                ready = connection.wait([w.pipe for w in self._workers if w.task is not None])
                for worker in [worker for worker in self._workers if worker.pipe in ready]:
                    self._receive(worker)
        finally:
            for worker in self._workers:
                self._end(worker)

    def _assigned(self) -> bool:
        """Give every idle process a task, while there are any; whether one is being worked on."""
        while sum(worker.task is not None for worker in self._workers) < self._jobs:
            task = self._queue.take()
            if task is None:
                break
            worker = next((w for w in self._workers if w.task is None), None) or self._started()
            worker.task = task
            try:
                worker.pipe.send(task)
            except OSError:
                self._lost(worker)
        return any(worker.task is not None for worker in self._workers)

    def _receive(self, worker: _Worker) -> None:
        task = worker.task
        assert task is not None
        try:
            outcome = worker.pipe.recv()
        except (EOFError, OSError):
            self._lost(worker)
            return
        worker.task, self._in_a_row = None, 0
        if isinstance(outcome, Exception):
            raise outcome
        self._queue.put(self._done(task, outcome))

    def _lost(self, worker: _Worker) -> None:
        """Its task is done again, unless it has been the end of several."""
        task = worker.task
        assert task is not None
        self._end(worker)
        self._workers.remove(worker)
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW:
            raise BoundsError(
                f"{IN_A_ROW} processes in a row were ended from outside, as where memory is short: "
                "use fewer jobs; what is done is kept."
            )
        self._losses[task] = self._losses.get(task, 0) + 1
        if self._losses[task] < TRIES:
            self._queue.put([task])
        else:
            self._queue.put(self._done(task, None))

    def _started(self) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self._work, self._threads), daemon=True
        )
        process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def _end(self, worker: _Worker) -> None:
        worker.pipe.close()
        with suppress(ProcessLookupError):
            worker.process.kill()
        worker.process.join()


def _serve(pipe: Connection, packed: bytes, threads: int) -> None:
    """A process's life: tasks come, outcomes or errors go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    work: Work = pickle.loads(packed)
    with suppress(EOFError, OSError):
        while True:
            task = pipe.recv()
            try:
                outcome: Outcome | Exception = work(task)
            except MemoryError:
                return
            except Exception as error:
                outcome = error
            pipe.send(outcome)


def _end_with_parent() -> None:
    """However the parent ends, nothing goes on for nobody."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
