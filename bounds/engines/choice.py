"""Which engine does the tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias, get_args

from bounds.arguments import require_option, require_whole, shown
from bounds.engines.processes import Processes
from bounds.engines.queue import Engine
from bounds.errors import InvalidInputError

EngineName: TypeAlias = Literal["processes", "ray"]


@contextmanager
def opened(
    call: str, name: EngineName, *, jobs: int | None = None, address: str | None = None
) -> Iterator[Engine]:
    """The engine of this name, for as long as it is needed.

    jobs: tasks at a time at most; None: one, and as many as a cluster has CPUs. address: of a
    cluster; see `connected`.

    Raises InvalidInputError for options out of range; BoundsError for a cluster that cannot be
    used.
    """
    require_option(call, "engine", name, get_args(EngineName))
    if jobs is not None:
        jobs = require_whole(call, "jobs", jobs, most=1024 if name == "processes" else None)
    if address is not None and (name != "ray" or not isinstance(address, str)):
        raise InvalidInputError(
            f"{call}(address={shown(address)}, engine={name!r}): an address is text, and of a "
            "cluster: use engine='ray'."
        )
    if name == "processes":
        yield Processes(jobs or 1)
        return
    from bounds.engines.cluster import connected

    with connected(call, jobs, address) as cluster:
        yield cluster
