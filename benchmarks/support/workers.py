"""Work on all cores: one process each, with its share of threads, ended with the parent's."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import suppress
from multiprocessing import get_context
from typing import Any

import torch


def run_all(
    work: Callable[..., None],
    arguments: Iterable[tuple[Any, ...]],
    *,
    workers: int,
    tick: Callable[[], None],
) -> None:
    """work(*each) for each of the arguments; `tick` is called about once a second.

    Whatever ends it early, Ctrl-C or an error in one, ends the processes at once.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _prepare, (threads,))
    try:
        pending: set[Future[None]] = {pool.submit(work, *each) for each in arguments}
        while pending:
            finished, pending = wait(pending, timeout=1)
            for future in finished:
                future.result()
            tick()
    except BaseException:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with suppress(ProcessLookupError):
                process.kill()
        raise
    pool.shutdown()


def _prepare(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    torch.set_num_threads(threads)
