"""What calls would take on a device that is not there: a roofline an operation.

Every operation that a call launches on the pretend device is noted with its floating-point
operations and the bytes that it reads and writes. On a machine of given rates it takes

    max(launch, flops / rate, bytes / bandwidth),

and a wait of the host for the device takes what it takes. Of a larger batch every operation is
taken to grow alike, which overstates what weights cost. Nothing overlaps, and nothing is fused or
captured in a graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from tests.support.pretend_device import VIEWS, counting


@dataclass(frozen=True)
class Machine:
    """flops: a second of matrix products, by size of number in bytes. bandwidth: bytes a second.
    share: what part of both is reached. launch, wait: seconds."""

    name: str
    flops: dict[int, float]
    bandwidth: float
    share: float
    launch: float
    wait: float


@dataclass(frozen=True)
class Operation:
    flops: float
    bytes: float
    size: int

    def seconds(self, machine: Machine, scale: float) -> dict[str, float]:
        """By what bounds it: of a batch so many times as large."""
        return {
            "launch": machine.launch,
            "arithmetic": scale * self.flops / (machine.share * machine.flops[self.size]),
            "memory": scale * self.bytes / (machine.share * machine.bandwidth),
        }


@dataclass(frozen=True)
class Trace:
    """What a call launched."""

    operations: tuple[Operation, ...]
    waits: int

    def seconds(self, machine: Machine, scale: float = 1.0) -> dict[str, float]:
        """What each bound costs, "wait" included: of each operation, the one that binds."""
        total = {"launch": 0.0, "arithmetic": 0.0, "memory": 0.0, "wait": self.waits * machine.wait}
        for operation in self.operations:
            name, seconds = max(
                operation.seconds(machine, scale).items(), key=lambda bound: bound[1]
            )
            total[name] += seconds
        return total


def traced(call: Callable[[], object]) -> Trace:
    """A call whose tensors are on the pretend device."""
    with counting() as counts, _Recorder() as recorder:
        call()
    return Trace(tuple(recorder.operations), sum(counts.waits.values()))


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = operation(*args, **(kwargs or {}))
        touched = [*_there((args, kwargs)), *_there(found)]
        name = operation._schema.name.removeprefix("aten::")
        if touched and name not in VIEWS:
            numbers = sum(map(Tensor.numel, touched))
            size = max(tensor.element_size() for tensor in touched)
            read = sum(tensor.numel() * tensor.element_size() for tensor in touched)
            flops = _flops(operation, name, args, found)
            self.operations.append(
                Operation(numbers if flops is None else flops, read, max(4, size))
            )
        return found


def _there(value: Any) -> list[Tensor]:
    """The tensors that the pretend device holds."""
    leaves = tree_leaves(value)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.device.type == "pretend"]


def _flops(operation: Any, name: str, args: Any, found: Any) -> float | None:
    """Of what is no pass over its numbers."""
    packet = operation.overloadpacket
    if packet in flop_registry:
        return float(flop_registry[packet](*args, out_val=found))
    if name == "linalg_cholesky_ex":
        size = args[0].shape[-1]
        return float(math.prod(args[0].shape[:-2]) * size**3 / 3)
    if name == "linalg_solve_triangular":
        return float(args[1].numel() * args[0].shape[-1])
    return None
