"""What became of every box, node by node: the skeleton of a proof.

Roots are numbered first, in the order of their disjuncts. A node is split at x_j = t into x_j ≤ t
and x_j ≥ t, after it was cut by its own rows (`bounds.search.clipping`); or closed by one of them,
or because the cuts of all of them together leave nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from bounds.dual.fixed_slope import RULES

#: What stands for a rule where a node's cuts leave it empty; was split; is neither.
CUT, SPLIT, OPEN = -1, -2, -3


@dataclass(frozen=True, eq=False)
class Nodes:
    """Of each node, by its number: rule: as of `RULES` or CUT where it was closed, SPLIT where it
    was split, OPEN else; row: which closed it; coordinate and place: of the split, whose children
    are low and high; forward: whether its l and u were carried forward alone."""

    rule: np.ndarray
    row: np.ndarray
    coordinate: np.ndarray
    place: np.ndarray
    low: np.ndarray
    high: np.ndarray
    forward: np.ndarray

    @property
    def columns(self) -> list[np.ndarray]:
        return [getattr(self, each.name) for each in fields(self)]

    def take(self, chosen: np.ndarray) -> Nodes:
        return Nodes(*(column[chosen] for column in self.columns))


class Tree:
    """Columns of what was noted, batch by batch."""

    def __init__(self, roots: int) -> None:
        self.roots = self._nodes = roots
        self._begun: Nodes | None = None
        self._split: list[tuple[int, Tensor, Tensor, Tensor]] = []
        self._closed: list[tuple[Tensor, Tensor, Tensor]] = []
        self._forward: list[Tensor] = []

    def bound_forward(self, node: Tensor) -> None:
        """Note nodes whose l and u were carried forward alone."""
        self._forward.append(node.cpu())

    def split(self, node: Tensor, coordinate: Tensor, place: Tensor) -> int:
        """Note a batch of splits; the number of the first new node, of which the lower children
        come before the upper ones."""
        first = self._nodes
        self._nodes += 2 * len(node)
        self._split.append((first, node.cpu(), coordinate.cpu().int(), place.cpu()))
        return first

    def close(self, node: Tensor, rule_and_row: Tensor, rows: int) -> None:
        """Note a batch of closed nodes; rule_and_row: as columns of `BoxBounds.lower`, or CUT."""
        which = rule_and_row.cpu()
        rule = torch.where(which == CUT, CUT, which // rows).to(torch.int8)
        row = torch.where(which == CUT, CUT, which % rows).int()
        self._closed.append((node.cpu(), rule, row))

    def go_on(self, roots: int, nodes: Nodes) -> None:
        """From what was noted before, in another search for the same."""
        self.roots, self._nodes, self._begun = roots, len(nodes.rule), nodes
        self._split, self._closed, self._forward = [], [], []

    @property
    def splits(self) -> dict[int, tuple[int, float, int, int]]:
        """Of each node that was split: coordinate, place, lower and upper child."""
        noted = self.nodes
        at = (noted.rule == SPLIT).nonzero()[0]
        columns = (
            each[at].tolist() for each in (noted.coordinate, noted.place, noted.low, noted.high)
        )
        return dict(zip(at.tolist(), zip(*columns, strict=True), strict=True))

    @property
    def leaves(self) -> dict[int, tuple[str, int]]:
        """The rule, or "cut", and the row that closed each node."""
        names, noted = [*RULES, "cut"], self.nodes
        closed = ((noted.rule >= 0) | (noted.rule == CUT)).nonzero()[0].tolist()
        return {node: (names[noted.rule[node]], int(noted.row[node])) for node in closed}

    @property
    def nodes(self) -> Nodes:
        """All that was noted, node by node."""
        rule = np.full(self._nodes, OPEN, dtype=np.int8)
        row, coordinate, low, high = np.zeros((4, self._nodes), dtype=np.int64)
        place, forward = np.full(self._nodes, np.nan), np.zeros(self._nodes, dtype=bool)
        found = Nodes(rule, row, coordinate, place, low, high, forward)
        if self._begun is not None:
            for column, begun in zip(found.columns, self._begun.columns, strict=True):
                column[: len(begun)] = begun
        for first, node, coordinates, places in self._split:
            at, numbers = node.numpy(), first + np.arange(len(node))
            rule[at], coordinate[at], place[at] = SPLIT, coordinates.numpy(), places.numpy()
            low[at], high[at] = numbers, numbers + len(numbers)
        for node in self._forward:
            forward[node.numpy()] = True
        for node, rules, rows in self._closed:
            rule[node.numpy()], row[node.numpy()] = rules.numpy(), rows.numpy()
        return found
