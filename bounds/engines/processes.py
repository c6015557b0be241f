"""Tasks done on this machine: here, or by several processes."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Generic

from threadpoolctl import threadpool_limits

from bounds.engines.queue import Done, Outcome, Queue, Task, attempt


class Processes:
    """So many of them; one is this process."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def run(
        self, work: Callable[[Task], Outcome], tasks: Iterable[Task], done: Done[Task, Outcome]
    ) -> None:
        queue = Queue(tasks, done)
        if self._jobs > 1:
            _Crew(work, queue, self._jobs).run()
            return
        while (task := queue.take()) is not None:
            queue.finish(task, work(task))


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Any = None


class _Crew(Generic[Task, Outcome]):
    """Processes that have one task each at a time: it is known which one a loss was over."""

    def __init__(
        self, work: Callable[[Task], Outcome], queue: Queue[Task, Outcome], jobs: int
    ) -> None:
        # Numbers in the bytes themselves, rather than in memory that is shared with this process.
        self._work = pickle.dumps(work)
        self._threads = max(1, (os.cpu_count() or 1) // jobs)
        self._queue, self._jobs = queue, jobs
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
        try:
            outcome = worker.pipe.recv()
        except (EOFError, OSError):
            self._lost(worker)
            return
        task, worker.task = worker.task, None
        self._queue.finish(task, outcome)

    def _lost(self, worker: _Worker) -> None:
        self._end(worker)
        self._workers.remove(worker)
        self._queue.lost(worker.task, workers=self._jobs)

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
    work: Callable[[Hashable], object] = pickle.loads(packed)
    limit_threads(threads)
    with suppress(EOFError, OSError):
        while True:
            pipe.send(attempt(work, pipe.recv()))


def limit_threads(threads: int) -> None:
    """Of torch, where the work has brought it, and of NumPy's products."""
    threadpool_limits(threads, user_api="blas")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _end_with_parent() -> None:
    """However the parent ends, nothing goes on for nobody."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
