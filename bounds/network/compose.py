"""Several networks as one, on parts of one input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bounds.network.affine import Affine, Reshape, transposed
from bounds.network.graph import AffineNode, InputNode, Network, Node, SumNode
from bounds.network.indexing import Select


def side_by_side(
    networks: Sequence[Network], places: Sequence[Tensor], size: int, *, with_input: bool = False
) -> Network:
    """The network on vectors of `size` numbers whose output is that of each network, flattened and
    one after another, and after them the input itself where `with_input`.

    places: for each network, which numbers of the input its own are, (numbers,) in int64; numbers
    may be read more than once. Networks that are the same object share their parameters.

    >>> import torch, bounds
    >>> double = bounds.from_torch(torch.nn.Identity(), (1,), dtype=torch.float64)
    >>> both = side_by_side([double, double], [torch.tensor([1]), torch.tensor([0])], 2)
    >>> both(torch.tensor([[3.0, 5.0]])).tolist()
    [[5.0, 3.0]]
    """
    nodes: list[Node] = [InputNode("input", (size,), ())]
    ends: list[int] = []

    def add(name: str, parent: int, operation: Affine) -> int:
        nodes.append(AffineNode(name, operation.output_shape, (parent,), operation))
        return len(nodes) - 1

    def shaped(parent: int, shape: tuple[int, ...]) -> int:
        own = nodes[parent].shape
        return parent if own == shape else add("reshape", parent, Reshape(own, shape))

    for network, index in zip(networks, places, strict=True):
        shape = network.input_shape
        if torch.equal(index, torch.arange(size)):
            start = shaped(0, shape)
        else:
            start = add("select", 0, Select((size,), shape, index.reshape(shape).contiguous()))
        renamed = [start]
        for node in network.nodes[1:]:
            nodes.append(replace(node, parents=tuple(renamed[p] for p in node.parents)))
            renamed.append(len(nodes) - 1)
        ends.append(shaped(renamed[-1], (math.prod(network.output_shape),)))
    if with_input:
        ends.append(0)
    if len(ends) > 1:
        sizes, total = [nodes[end].shape[0] for end in ends], 0
        padded = []
        for end, own in zip(ends, sizes, strict=True):
            index = torch.arange(total, total + own)
            padded.append(add("pad", end, transposed(Select((sum(sizes),), (own,), index))))
            total += own
        nodes.append(SumNode("concat", (total,), tuple(padded)))
    return Network(tuple(nodes))
