"""The network in float64, as passes of many rows over many boxes need it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bounds.checker.floats import FLOOR, TIE, UNIT, floats
from bounds.checker.graph import Graph
from bounds.checker.operations import Diagonal, Identity, Matrix, Selection
from bounds.network.graph import AffineNode, Network

#: Numbers of coefficients on a node that a pass holds: they stay in a processor's cache.
NUMBERS = 2**16
#: Boxes that are looked at together, and how many numbers of theirs.
BOXES, VALUES = 512, 2**23


class Passes:
    """A network in float64. Biases are taken on by dense layers without one, as in ONNX files."""

    def __init__(self, network: Network) -> None:
        self.graph = Graph(network, floats())
        self.nodes = self.graph.nodes
        self.relus = self.graph.relus
        self.sizes = [self.graph.sizes[k] for k in self.relus]
        self.neurons = sum(self.sizes)
        self.matrix: dict[int, Matrix] = {k: v.matrix for k, v in self.graph.layers.items()}
        self.absolute = {k: layer.absolute for k, layer in self.graph.layers.items()}
        self.bias: dict[int, np.ndarray | None] = {
            k: layer.bias if layer.bias.any() else None for k, layer in self.graph.layers.items()
        }
        #: Rows, and boxes, that are looked at together.
        self.rows = max(1, NUMBERS // max(self.graph.sizes))
        self.boxes = max(1, min(BOXES, VALUES // sum(self.graph.sizes)))
        self._gather_biases()
        self._find_exact()

    def _gather_biases(self) -> None:
        readers = [p for node in self.nodes for p in node.parents]
        for index, node in enumerate(self.nodes):
            if isinstance(self.matrix.get(index), Identity) and self.bias[index] is not None:
                [parent] = node.parents
                alone = parent in self.matrix and readers.count(parent) == 1
                if alone and self.bias[parent] is None:
                    self.bias[parent], self.bias[index] = self.bias[index], None

    def _find_exact(self) -> None:
        """The nodes whose intervals are the best bounds there are, as each is an affine image of
        the box with no coordinate read twice before."""
        box, self.exact = {0}, {0}
        for index, node in enumerate(self.nodes):
            if isinstance(node, AffineNode):
                [parent] = node.parents
                matrix = self.matrix[index]
                moves = isinstance(matrix, Identity | Diagonal) or (
                    isinstance(matrix, Selection) and matrix.terms[1] <= 1
                )
                if parent in box and moves:
                    box.add(index)
                if parent in box or (parent in self.exact and moves):
                    self.exact.add(index)

    def moved_from(self, index: int) -> int:
        """The node that has the same numbers, in the same order."""
        while isinstance(self.matrix.get(index), Identity) and self.bias[index] is None:
            [index] = self.nodes[index].parents
        return index


@dataclass(frozen=True, eq=False)
class Faces:
    """Of the neurons of one ReLU on each box, (boxes, numbers): l, u, the adaptive slope of the
    lower face, the slope of the upper one, and what a negative unit of coefficient loses there."""

    lower: np.ndarray
    upper: np.ndarray
    adaptive: np.ndarray
    above: np.ndarray
    cut: np.ndarray

    @staticmethod
    def of(lower: np.ndarray, upper: np.ndarray) -> Faces:
        active = lower >= 0
        unstable = (lower < 0) & (upper > 0)
        depth, height = np.where(unstable, -lower, 0.0), np.where(unstable, upper, 1.0)
        slope = np.where(unstable, height / (height + depth), 0.0)
        lost = np.maximum(slope * depth, (1 - slope) * height)
        lost = lost + 8 * UNIT * (lost + slope * np.maximum(depth, height)) + FLOOR
        adaptive = (unstable & (height > TIE * depth)) + active.astype(float)
        return Faces(lower, upper, adaptive, slope + active, np.where(unstable, lost, 0.0))
