"""What became of every box, node by node: the skeleton of a proof.

Roots are numbered first, in the order of their disjuncts. A node is split at x_j = t into x_j ≤ t
and x_j ≥ t, after it was cut by its own rows (`bounds.search.clipping`); or closed by one of them,
or because the cuts of all of them together leave nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.dual.fixed_slope import RULES

#: What `Tree.closed` has for a node that its cuts leave empty.
CUT = -1


class Tree:
    """split: node → (coordinate, place, lower child, upper child). closed: node → (rule, row of the
    disjunct), or (CUT, CUT). Both as columns, from batches."""

    def __init__(self, roots: int) -> None:
        self.nodes = roots
        self._split: list[tuple[Tensor, ...]] = []
        self._closed: list[tuple[Tensor, ...]] = []

    def split(self, node: Tensor, coordinate: Tensor, place: Tensor) -> int:
        """Note a batch of splits; the number of the first new node, of which the lower children
        come before the upper ones."""
        first, count = self.nodes, len(node)
        self.nodes += 2 * count
        low = first + torch.arange(count)
        self._split.append((node.cpu(), coordinate.cpu().int(), place.cpu(), low, low + count))
        return first

    def close(self, node: Tensor, rule_and_row: Tensor, rows: int) -> None:
        """Note a batch of closed nodes; rule_and_row: as columns of `BoxBounds.lower`, or CUT."""
        which = rule_and_row.cpu()
        rule = torch.where(which == CUT, CUT, which // rows).to(torch.int8)
        row = torch.where(which == CUT, CUT, which % rows).int()
        self._closed.append((node.cpu(), rule, row))

    @property
    def splits(self) -> dict[int, tuple[int, float, int, int]]:
        return {
            node: (coordinate, place, low, high)
            for batch in self._split
            for node, coordinate, place, low, high in zip(
                *(column.tolist() for column in batch), strict=True
            )
        }

    @property
    def leaves(self) -> dict[int, tuple[str, int]]:
        """The rule, or "cut", and the row that closed each node."""
        names = [*RULES, "cut"]
        return {
            node: (names[rule], row)
            for batch in self._closed
            for node, rule, row in zip(*(column.tolist() for column in batch), strict=True)
        }
