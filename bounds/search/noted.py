"""A search of boxes as columns of a journal, and the other way."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import numpy as np
import torch

from bounds.search.domains import Domains, join
from bounds.search.frontier import Frontier
from bounds.search.journal import Columns
from bounds.search.tree import OPEN, Nodes, Tree

NAMES = [field.name for field in fields(Domains)]


def columns_of(frontier: Frontier, tree: Tree) -> Columns:
    """What is open, part by part as it lies, and what became of all nodes."""
    parts = frontier.parts
    found = {f"tree.{k}": column for k, column in enumerate(tree.nodes.columns)}
    found["parts"] = np.array([len(part) for part in parts], dtype=np.int64)
    if parts:
        whole = join(parts)
        found |= {name: getattr(whole, name).cpu().numpy() for name in NAMES}
    return found


def go_on(columns: Columns, roots: int, frontier: Frontier, tree: Tree) -> None:
    """Put that in the place of what a frontier and a tree have, which is not begun.

    Raises ValueError where it is not of the same kind, or boxes are open that the tree has closed,
    or the other way.
    """
    [begun] = frontier.parts
    nodes = Nodes(*(columns[f"tree.{k}"] for k in range(len(fields(Nodes)))))
    sizes = columns["parts"].tolist()
    parts: list[Domains] = []
    if sizes:
        given = {name: torch.from_numpy(columns[name]) for name in NAMES}
        for name, tensor in given.items():
            like = getattr(begun, name)
            if (tensor.dtype, tensor.shape[1:]) != (like.dtype, like.shape[1:]):
                raise ValueError(f"{name} is {tensor.dtype}, {tuple(tensor.shape)}")
        whole = Domains(**{name: tensor.to(begun.lower.device) for name, tensor in given.items()})
        ends = np.cumsum([0, *sizes]).tolist()
        if ends[-1] != len(whole):
            raise ValueError("parts of another number of boxes")
        parts = [whole.take(slice(*pair)) for pair in pairwise(ends)]
    open_ = columns["node"] if sizes else np.zeros(0, dtype=np.int64)
    if not np.array_equal(np.sort(open_), (nodes.rule == OPEN).nonzero()[0]):
        raise ValueError("other boxes are open than the tree has")
    tree.go_on(roots, nodes)
    frontier.restore(parts)
