"""How much to hold in memory at once: every pass over rows is cut into parts that fit."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.arguments import require_positive
from bounds.network.graph import Network

#: The share of the memory that is free now which a call takes for itself, unless it is told.
SHARE = 0.25
#: Numbers in the rows of one pass, where there are more rows than that.
CHUNK = 2**26
#: Numbers that a pass on a CPU handles at a time, where it can choose: about what the caches hold,
#: and little enough for memory to be used again rather than asked for anew.
CACHE = 2**23
#: What counts as free where the system does not say.
UNKNOWN = 2**31


@dataclass(frozen=True)
class Numbers:
    """How many numbers to work on at a time: what a CPU's cache holds, or what fills another
    device."""

    cpu: int
    device: int

    def on(self, like: Tensor) -> int:
        """Where `like` is."""
        return self.cpu if on_cpu(like) else self.device


def on_cpu(like: Tensor) -> bool:
    return like.device.type == "cpu"


def require_bytes(call: str, max_memory: int | None) -> None:
    """Refuse a `max_memory` that is no positive number."""
    if max_memory is not None:
        require_positive(call, "max_memory", max_memory, "a positive number of bytes")


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on every system
        return UNKNOWN


def numbers_that_fit(like: Tensor, max_memory: int | None) -> int:
    """How many numbers of the dtype and on the device of `like` `max_memory` bytes hold; default:
    what a share of the free memory holds."""
    size = SHARE * free_memory(like.device) if max_memory is None else max_memory
    return int(size) // like.element_size()


def numbers_at_once(like: Tensor, max_memory: int | None) -> int:
    """The same, and on a CPU no more than CACHE."""
    room = numbers_that_fit(like, max_memory)
    return min(room, CACHE) if on_cpu(like) else room


def pass_numbers(network: Network, last: int = -1) -> int:
    """The numbers that one row holds during a pass that ends at node `last`, copies included."""
    nodes = network.nodes[: last + 1] if last >= 0 else network.nodes
    return 4 * sum(math.prod(node.shape) for node in nodes)


def rows_at_once(like: Tensor, numbers: int, max_memory: int | None) -> int:
    """How many rows of that many numbers each a pass takes at a time: what fits, and no more than
    CHUNK numbers, beyond which passes get no faster."""
    return max(1, min(CHUNK, numbers_that_fit(like, max_memory)) // max(1, numbers))


def parts_that_fit(
    C: Tensor, numbers: int, max_memory: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The LPs C (batch, rows, ...), of that many numbers each, in parts that fit: the indices of
    their inputs and of their rows. A part is never less than one LP."""
    return parts_of(C, numbers_that_fit(C, max_memory) // max(1, numbers))


def parts_of(C: Tensor, places: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same, in parts of so many LPs."""
    batch, rows = C.shape[:2]
    places = max(1, places)
    images, all_rows = torch.arange(batch, device=C.device), torch.arange(rows, device=C.device)
    for some in images.split(max(1, places // rows)):
        for chosen in all_rows.split(min(rows, places)):
            yield some, chosen
