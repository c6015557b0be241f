"""The network as the checker reads it: matrices, biases, sums and ReLUs, and the two walks.

A value is an array of (rows, numbers): each row is one flat sample, or the coefficients on one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bounds.checker.arithmetic import Arithmetic, Array
from bounds.checker.operations import Matrix, bias, matrix
from bounds.errors import UnsupportedLayerError
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode

#: How many numbers a walk may hold at once, some hundred bytes each.
NUMBERS = 2**19


@dataclass(frozen=True)
class Layer:
    """y = W x + b, with |W| for interval arithmetic made where it is asked for."""

    node: AffineNode
    arithmetic: Arithmetic
    matrix: Matrix
    bias: Array

    @cached_property
    def absolute(self) -> Matrix:
        return matrix(self.node.operation, self.arithmetic, np.abs)


class Graph:
    """A network, with numbers of one arithmetic.

    Raises:
        UnsupportedLayerError: a node or an operation that is not known here.
    """

    def __init__(self, network: Network, arithmetic: Arithmetic) -> None:
        self.arithmetic = arithmetic
        self.nodes = network.nodes
        self.sizes = [math.prod(node.shape) for node in network.nodes]
        self.relus = [i for i, node in enumerate(network.nodes) if isinstance(node, ReluNode)]
        self.layers: dict[int, Layer] = {}
        for index, node in enumerate(network.nodes):
            if isinstance(node, AffineNode):
                numbers = arithmetic.numbers(bias(node.operation))
                made = matrix(node.operation, arithmetic)
                self.layers[index] = Layer(node, arithmetic, made, numbers)
            elif not isinstance(node, InputNode | SumNode | ReluNode):
                raise UnsupportedLayerError(
                    f"the checker got a {type(node).__name__} in {node.name!r}, expected an input, "
                    "affine, sum or ReLU node: add it to bounds/checker/graph.py."
                )

    @property
    def rows_at_once(self) -> int:
        """How many rows a walk may take for the sake of memory."""
        between = (layer.matrix.between for layer in self.layers.values())
        return max(1, NUMBERS // (sum(self.sizes) + max(between, default=0)))

    def forward(
        self,
        x: Array,
        affine: Callable[[Layer, Array], Array],
        relu: Callable[[int, Array], Array],
    ) -> Array:
        """The value of the output, for x (rows, inputs) at the input.

        affine: a layer's value from that of its parent. relu: that of ReLU k from its input's.
        """
        values = {0: x}
        for index, node in enumerate(self.nodes):
            if isinstance(node, AffineNode):
                values[index] = affine(self.layers[index], values[node.parents[0]])
            elif isinstance(node, ReluNode):
                values[index] = relu(self.relus.index(index), values[node.parents[0]])
            elif isinstance(node, SumNode):
                first, *others = (values[parent] for parent in node.parents)
                values[index] = sum(others, start=first)
        return values[len(self.nodes) - 1]

    def backward(
        self, start: int, coefficients: Array, relu: Callable[[int, Array], Array]
    ) -> tuple[Array, Array]:
        """⟨coefficients, node `start`⟩ as constant + ⟨c, x⟩, for coefficients (rows, numbers).

        relu: the coefficients on the input of ReLU k, from those that arrive at its output. What it
        leaves out is its own to account for. Returns the constants (rows,), which gather the
        biases, and c (rows, inputs).
        """
        zeros, rows = self.arithmetic.zeros, len(coefficients)
        constant = zeros(rows)
        arrived = {start: coefficients}
        for index in range(start, 0, -1):
            if index not in arrived:
                continue
            here, node = arrived.pop(index), self.nodes[index]
            if isinstance(node, AffineNode):
                layer = self.layers[index]
                constant = constant + self.arithmetic.dot(here, layer.bias)
                here = layer.matrix.backward(here)
            elif isinstance(node, ReluNode):
                here = relu(self.relus.index(index), here)
            for parent in node.parents:
                arrived[parent] = arrived[parent] + here if parent in arrived else here
        return constant, arrived.get(0, zeros(rows, self.sizes[0]))


def plain(layer: Layer, x: Array) -> Array:
    """W x + b, for the rows x."""
    return layer.matrix.forward(x) + layer.bias
