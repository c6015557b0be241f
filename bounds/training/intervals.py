"""Margins by interval arithmetic (Gowal et al. 2018, arXiv 1810.12715), the last layer folded in.

In each layer a box becomes the smallest box around its image, given by its middle and radius. The
margins z_y − z_j are taken of the last ReLU's box directly, as one affine map each: the box of the
logits would lose that they are functions of the same neurons.
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.network import onednn
from bounds.network.affine import per_row, row_sums
from bounds.network.convolution import Convolution
from bounds.network.graph import AffineNode, InputNode, Network, Node, ReluNode, SumNode
from bounds.sets.box import InputSet


class _Transforming(Convolution):
    """A convolution by whatever way torch finds fastest, which may round more than sums do."""

    def linear(self, x: Tensor) -> Tensor:
        options = self.stride, self.padding, self.dilation, self.groups
        if onednn.is_direct(x, tuple(self.weight.shape), *options):
            return onednn.correlate(x, self.weight, *options)
        convolve = F.conv1d if self.weight.dim() == 3 else F.conv2d
        return convolve(x, self.weight, None, *options)


def nominal(network: Network) -> Network:
    """The same network up to rounding, fast to evaluate: to train on, and not to prove anything."""

    def faster(node: Node) -> Node:
        if isinstance(node, AffineNode) and isinstance(node.operation, Convolution):
            own = {field.name: getattr(node.operation, field.name) for field in fields(Convolution)}
            return replace(node, operation=_Transforming(**own))
        return node

    return Network(tuple(map(faster, network.nodes)))


def outputs(network: Network, points: Tensor) -> Tensor:
    """The network's outputs for a batch of points, (batch, outputs)."""
    return network.evaluate(points, lambda _, values: values.relu()).flatten(1)


def last_affine(network: Network) -> int:
    """The node after which there are affine maps alone, one after the other."""
    index = len(network.nodes) - 1
    while isinstance(node := network.nodes[index], AffineNode):
        [index] = node.parents
    return index


def nominal_margins(
    network: Network,
    input_set: InputSet,
    C: Tensor,
    d: Tensor,
    before: list[tuple[Tensor, Tensor]] | None = None,
) -> Tensor:
    """Lower bounds of the rows C · z_out + d, (batch, rows), up to rounding, which is not accounted
    for; before: where l and u of each ReLU's input are to be added."""
    boxes: dict[int, tuple[Tensor, Tensor]] = {}
    last, readers = last_affine(network), network.last_readers
    for index, node in enumerate(network.nodes[: last + 1]):
        match node:
            case InputNode():
                lower, upper = input_set.lower, input_set.upper
                boxes[index] = (lower + upper) / 2, (upper - lower) / 2
            case AffineNode(parents=(parent,), operation=operation):
                middle, radius = boxes[parent]
                boxes[index] = operation.forward(middle), operation.absolute().linear(radius)
            case SumNode(parents=parents):
                middles, radii = zip(*(boxes[parent] for parent in parents), strict=True)
                boxes[index] = sum(middles[1:], middles[0]), sum(radii[1:], radii[0])
            case ReluNode(parents=(parent,)):
                middle, radius = boxes[parent]
                low, high = middle - radius, middle + radius
                if before is not None:
                    before.append((low, high))
                low, high = low.relu(), high.relu()
                boxes[index] = torch.lerp(low, high, 0.5), (high - low).div_(2)
            case _:
                raise TypeError(f"nominal_margins does not know {type(node).__name__}.")
        for parent in set(node.parents):
            if readers[parent] == index:
                del boxes[parent]  # what the gradients need is kept by torch
    rows, constant = C, d
    for node in reversed(network.nodes[last + 1 :]):
        if isinstance(node, AffineNode):
            if node.operation.offset is not None:
                offset = node.operation.offset.expand(node.operation.output_shape)
                constant = constant + row_sums(rows, offset.expand(len(C), 1, *offset.shape))
            rows = per_row(node.operation.adjoint, rows)
    middle, radius = (part.unsqueeze(1) for part in boxes[last])
    return row_sums(rows, middle) - row_sums(rows.abs(), radius) + constant
