"""The boxes that are still open: the deepest first, and among the newest the worst."""

from __future__ import annotations

from collections.abc import Sequence

from bounds.search.domains import Domains, join


class Frontier:
    """A stack of boxes. Deep ones first keeps it small: about a batch for each level of the tree.

    capacity: in bytes.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity, self._stack, self._bytes = capacity, list[Domains](), 0

    def __len__(self) -> int:
        return sum(map(len, self._stack))

    @property
    def full(self) -> bool:
        """Whether it holds more than it should."""
        return self._bytes > self._capacity

    @property
    def worst(self) -> float:
        """The smallest lower bound that is known of an open box; infinite where none is open."""
        return min((float(part.worst.min()) for part in self._stack), default=float("inf"))

    @property
    def share(self) -> float:
        """What the open boxes are of all trees."""
        return sum(float(part.share.sum()) for part in self._stack)

    @property
    def parts(self) -> Sequence[Domains]:
        """The boxes as they lie; pushed again in this order, they do so again."""
        return self._stack

    def restore(self, parts: Sequence[Domains]) -> None:
        """Hold these parts, as they lay, and nothing else."""
        self._stack, self._bytes = [], 0
        for part in parts:
            self.push(part)

    def push(self, domains: Domains) -> None:
        if len(domains):
            order = domains.worst.argsort(descending=True, stable=True)
            self._stack.append(domains.take(order))
            self._bytes += domains.bytes

    def pop(self, count: int) -> Domains:
        """As many, or all that there are; none of an empty frontier."""
        parts = []
        while self._stack and count > 0:
            part = self._stack.pop()
            self._bytes -= part.bytes
            kept = max(0, len(part) - count)
            if kept:
                self._stack.append(part.take(slice(kept)))
                self._bytes += self._stack[-1].bytes
            parts.append(part.take(slice(kept, None)))
            count -= len(parts[-1])
        return join(parts)
