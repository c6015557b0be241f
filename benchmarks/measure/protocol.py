"""The protocol that everything timed follows, ours and the peers'.

A method is given a problem and gets itself ready; that is not timed. Then it is run, several times.
A run is one call after another: one for all inputs and rows where a method takes batches, one for
each LP where a solver takes them one by one. What happens between calls is not timed either, such
as handing an LP solver the rows of the next input.

Three tasks, and in each only what does the same work is compared:

- "relax": the intermediate bounds alone, float32. Values are unstable neurons.
- "bound": lower bounds of all margins from nothing, intermediate bounds included, float32.
- "solve": lower bounds of all margins with l and u given, the same ones for all, float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from benchmarks.measure.workloads import Problem, Workload

Task = Literal["relax", "bound", "solve"]
Call = Callable[[], np.ndarray]

#: The names of their dtypes.
DTYPES: dict[Task, str] = {"relax": "float32", "bound": "float32", "solve": "float64"}


@dataclass(frozen=True, kw_only=True)
class Work:
    """A method that is ready.

    run: gives a run's calls, whose results are one after another its values. check: how far the
    values are from ours, relative to max(1, |ours|), with the intermediate bounds that the peer has
    found itself.
    """

    run: Callable[[], Iterator[Call]]
    check: Callable[[], float] | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """prepare: gets it ready for a problem. ours: the method of ours that it is compared with.

    package: what it is imported from, if it is a peer that bounds a PyTorch model. host: whether it
    is an LP solver, which runs on the CPU whatever the device.
    """

    task: Task
    prepare: Callable[[Problem], Work]
    ours: str
    package: str = ""
    host: bool = False

    @property
    def peer(self) -> bool:
        return self.host or bool(self.package)

    def batches(self, workload: Workload) -> tuple[int, ...]:
        return workload.exact if self.task == "solve" else workload.fast


def at_once(call: Callable[[], Tensor], check: Callable[[], float] | None = None) -> Work:
    """All inputs and rows in one call."""

    def run() -> Iterator[Call]:
        yield lambda: call().detach().double().flatten().cpu().numpy()

    return Work(run=run, check=check)


def difference(theirs: Tensor, ours: Tensor) -> float:
    """The largest one, relative to max(1, |ours|)."""
    return float(((theirs - ours).abs() / ours.abs().clamp(min=1)).max())
