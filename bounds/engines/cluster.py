"""Tasks done by the machines of a cluster of Ray (https://www.ray.io)."""

from __future__ import annotations

import functools
import logging
import os
import re
import socket
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from bounds import __version__
from bounds.engines.processes import limit_threads
from bounds.engines.queue import Done, Outcome, Queue, Task, attempt
from bounds.errors import BoundsError, InvalidInputError

#: Seconds in which the head of a cluster has to answer.
ANSWER = 10.0
#: Seconds after which it is seen that machines have come or gone.
LOOK = 1.0


class Cluster:
    """A CPU a task, and at most `jobs` of them at a time; None: as many as there are CPUs."""

    def __init__(self, ray: Any, jobs: int | None) -> None:
        self._ray, self._jobs = ray, jobs

    def run(
        self, work: Callable[[Task], Outcome], tasks: Iterable[Task], done: Done[Task, Outcome]
    ) -> None:
        ray, queue = self._ray, Queue(tasks, done)
        # Which tasks are tried again, and how often, is the queue's to say.
        remote = ray.remote(num_cpus=1, max_retries=0)(_do)
        shared = ray.put(work)
        running: dict[Any, Task] = {}
        try:
            while True:
                places = self._places()
                while len(running) < places and (task := queue.take()) is not None:
                    running[remote.remote([shared], task, __version__)] = task
                if not running:
                    return
                ready, _ = ray.wait(list(running), timeout=LOOK)
                for reference in ready:
                    task = running.pop(reference)
                    try:
                        outcome = ray.get(reference)
                    except ray.exceptions.RayTaskError as error:
                        raise BoundsError(_not_begun(error)) from error
                    except ray.exceptions.RayError:
                        queue.lost(task, workers=places)
                    else:
                        queue.finish(task, outcome)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _places(self) -> int:
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        if cpus < 1:
            raise BoundsError(
                "the cluster has no CPU (any more): add a machine to it by ray start; what is done "
                "is kept."
            )
        return cpus if self._jobs is None else min(cpus, self._jobs)


def _do(shared: list[Any], task: Hashable, version: str) -> Any:
    """A task, in a worker."""
    if version != __version__:
        return BoundsError(
            f"{socket.gethostname()} has bounds {__version__}, and this machine {version}: install "
            "the same on all machines of the cluster."
        )
    work = _unpacked(shared[0])
    limit_threads(1)
    return attempt(work, task)


@functools.lru_cache(maxsize=1)
def _unpacked(shared: Any) -> Any:
    """Once a worker, rather than once a task."""
    import ray

    return ray.get(shared)


def _not_begun(error: Exception) -> str:
    """What is wrong with a task that could not even be begun."""
    [*_, last] = str(error).strip().splitlines()
    return (
        f"a machine of the cluster cannot do what it is given ({last.strip()[:200]}): install the "
        "same bounds, and what it needs, on all of them."
    )


@contextmanager
def connected(call: str, jobs: int | None, address: str | None) -> Iterator[Cluster]:
    """A cluster: the one that this process is connected to, or at an address, or a new one.

    Raises BoundsError where Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise BoundsError(
            f"{call}(engine='ray') needs ray, which is not installed: pip install "
            "'relu-bounds[cluster]'."
        ) from error
    if ray.is_initialized():
        if address is not None:
            raise InvalidInputError(
                f"{call}(address={address!r}): this process is connected to a cluster already: "
                "leave the address out, or call ray.shutdown() first."
            )
        yield Cluster(ray, jobs)
        return
    address = os.environ.get("RAY_ADDRESS") if address is None else address
    if address is not None:
        _require_reachable(call, address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of a run unasked
    try:
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    # Where whatever answers is no head of a cluster, Ray exits.
    except (Exception, SystemExit) as error:
        [said, *_] = str(error).splitlines() or [type(error).__name__]
        raise BoundsError(
            f"{call}(address={address!r}): cannot use the cluster ({said[:200]}): start one by "
            "ray start --head, with the same ray and Python on all machines (and "
            "RAY_AUTH_MODE=token here, where it asks for tokens), or choose 'local' for one of "
            "this machine alone."
        ) from error
    try:
        yield Cluster(ray, jobs)
    finally:
        ray.shutdown()


def _require_reachable(call: str, address: str) -> None:
    """Ray itself waits for minutes, and then ends the process."""
    if address in ("auto", "local"):
        return
    found = re.fullmatch(r"\[?([^\s/\[\]]+)\]?:(\d{1,5})", address, re.ASCII)
    if found is None:
        raise InvalidInputError(
            f"{call}(address={address[:80]!r}): expected HOST:PORT of a cluster's head, as ray "
            "start --head says it, 'auto' for the one that this machine belongs to, or 'local' for "
            "a new one."
        )
    try:
        socket.create_connection((found[1], int(found[2])), timeout=ANSWER).close()
    except (OSError, OverflowError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BoundsError(
            f"{call}(address={address!r}): no cluster answers there ({reason}): give what ray "
            "start --head says, or leave the address out for a cluster of this machine alone."
        ) from error
