"""A node of a search of many open ones, and all of these as columns of a journal."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bounds.search.journal import Columns
from bounds.search.relu_split.clauses import Literal
from bounds.search.relu_split.noted import Subtrees, require
from bounds.search.relu_split.region import Region
from bounds.search.relu_split.slope_bounding import Start
from bounds.search.relu_split.tree import Closed


@dataclass(eq=False)
class Node:
    """literal: the phase that it has besides its parent's. other: what closes the other side of
    that split, None while it is open. start: where its ascent begins. region: what is known of l
    and u. value: of its parent. depth: how many phases it has."""

    parent: Node | None
    literal: Literal
    start: Start
    region: Region
    value: float
    other: Closed | None = None
    sibling: Node | None = None
    closed: bool = False
    depth: int = field(init=False)

    def __post_init__(self) -> None:
        self.depth = 0 if self.parent is None else self.parent.depth + 1

    @property
    def path(self) -> list[Node]:
        """From the child of the root to this."""
        found, node = [], self
        while node.parent is not None:
            found.append(node)
            node = node.parent
        return found[::-1]

    @property
    def phases(self) -> dict[int, int]:
        return dict(node.literal for node in self.path)

    @property
    def open(self) -> bool:
        """Whether neither it nor a node above it is closed."""
        node: Node | None = self
        while node is not None and not node.closed:
            node = node.parent
        return node is None


def columns_of(open_: Sequence[Node], subtrees: Subtrees, lemmas: Container[int]) -> Columns:
    """Open nodes, in this order, and those above them; what closes their other sides goes to the
    subtrees. lemmas: that their regions may be known by."""
    numbers: dict[int, int] = {}
    nodes: list[Node] = []
    for each in open_:
        # From the root, which is no part of a path.
        top = each.path[0].parent if each.parent is not None else each
        assert top is not None
        for node in (top, *each.path):
            if id(node) not in numbers:
                numbers[id(node)] = len(nodes)
                nodes.append(node)
    found = {
        "parent": [-1 if n.parent is None else numbers[id(n.parent)] for n in nodes],
        "neuron": [n.literal[0] for n in nodes],
        "side": [n.literal[1] for n in nodes],
        "other": [subtrees.place_of(n.other) for n in nodes],
        "open": [numbers[id(n)] for n in open_],
    }
    regions = dict.fromkeys(n.region for n in open_)
    which = {region: number for number, region in enumerate(regions)}
    found["region"] = [which[n.region] for n in open_]
    columns = {name: np.array(numbers, dtype=np.int64) for name, numbers in found.items()}
    every = np.array([region.numbers for region in regions], dtype=np.int64)
    known = np.array([number in lemmas for number in every.ravel().tolist()], dtype=bool)
    columns["regions"] = np.where(known.reshape(every.shape), every, -1)
    columns["value"] = np.array([n.value for n in nodes], dtype=np.float64)
    for name in ("slopes", "weights") if open_ else ():
        starts = torch.stack([getattr(n.start, name) for n in open_])
        columns[f"start.{name}"] = starts.cpu().numpy()
    return columns


def nodes_of(
    columns: Columns,
    others: Sequence[Closed],
    regions: Sequence[Region],
    root: Start,
    whole: Region,
) -> list[Node]:
    """The open nodes, below one root. regions: of some of these each. root, whole: where the
    others' ascents have begun and what was known, which nothing goes by any more.

    Raises ValueError for nodes that do not cover the root together with what is closed.
    """
    nodes: list[Node] = []
    names = "parent", "neuron", "side", "other", "value"
    for parent, neuron, side, other, value in zip(
        *(columns[name].tolist() for name in names), strict=True
    ):
        require((parent == -1) == (not nodes) and parent < len(nodes), "the order of nodes")
        node = Node(
            nodes[parent] if nodes else None,
            (neuron, side),
            root,
            whole,
            value,
            None if other < 0 else others[other],
        )
        if nodes:
            phases = nodes[parent].phases
            require(abs(side) == 1 and neuron not in phases, "a phase")
            phases[neuron] = -side
            require(
                node.other is None or node.other[1] <= set(phases.items()), "what closes a node"
            )
        nodes.append(node)
    children: dict[int, list[Node]] = {}
    for node in nodes[1:]:
        children.setdefault(id(node.parent), []).append(node)
    for pair in children.values():
        match pair:
            case [one]:
                require(one.other is not None, "a node without its other side")
            case [one, two]:
                opposite = two.literal[0], -two.literal[1]
                require(one.literal == opposite and one.other is two.other is None, "two sides")
                one.sibling, two.sibling = two, one
            case _:
                require(False, "a node with more than two sides")
    open_ = [nodes[place] for place in columns["open"].tolist()]
    leaves = {id(node) for node in nodes} - children.keys()
    require({id(node) for node in open_} == leaves and len(leaves) == len(open_), "what is open")
    if open_:
        starts = (torch.from_numpy(columns[f"start.{name}"]) for name in ("slopes", "weights"))
        for node, slopes, weights, number in zip(
            open_, *starts, columns["region"].tolist(), strict=True
        ):
            require(0 <= number < len(regions), "a region")
            node.region = regions[number]
            require(
                slopes.shape == root.slopes.shape and weights.shape == root.weights.shape, "starts"
            )
            node.start = Start(slopes.to(root.slopes), weights.to(root.weights))
    return open_
