"""The same network in fewer nodes: additions of constants become biases of the layers before."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from bounds.network.affine import Linear, Scale
from bounds.network.graph import AffineNode, Network, Node
from bounds.network.sparse import SparseLinear


def with_biases(network: Network) -> Network:
    """The network in which a dense layer without a bias takes on what is added to its result, where
    nothing else reads that: the same function of real numbers, and the same ReLUs."""
    readers = [0] * len(network.nodes)
    for node in network.nodes:
        for parent in node.parents:
            readers[parent] += 1
    nodes: list[Node] = []
    renamed: list[int] = []
    for node in network.nodes:
        parents = tuple(renamed[parent] for parent in node.parents)
        alone = len(parents) == 1 and readers[node.parents[0]] == 1
        together = _together(nodes[parents[0]], node) if alone else None
        if together is not None:
            nodes[parents[0]] = together
            renamed.append(parents[0])
        else:
            nodes.append(replace(node, parents=parents))
            renamed.append(len(nodes) - 1)
    return Network(tuple(nodes))


def _together(before: Node, node: Node) -> Node | None:
    """A dense layer on a vector and what is added to it as one node, where they are just that."""
    match before, node:
        case (
            AffineNode(operation=(Linear(bias=None) | SparseLinear(bias=None)) as linear),
            AffineNode(operation=Scale(scale=scale, shift=Tensor() as shift, inexact=0.0)),
        ) if len(before.shape) == 1 and bool((scale == 1).all()):
            bias = shift.expand(linear.output_shape)
            return replace(before, name=node.name, operation=replace(linear, bias=bias))
    return None
