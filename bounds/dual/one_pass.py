"""One backward pass at the multipliers of `bounds.dual.fixed_slope`, in a form that costs little.

The dual bound of `bounds.dual.dual` is then a sum of two:

    Σ ĉ · middle  −  Σ |ĉ| · radius,

over the neurons of every layer passed and over the input's box. For a ReLU both are half of the
intercept k of its upper face, as −k max(−ĉ, 0) = (ĉ − |ĉ|) k / 2, and rounding is charged to the
second. Where ν is odd in ĉ, the same two sums give the upper bound too, with + for −. Passes that
begin with one neuron each start from rows of a layer's matrix; below convolutions they are kept as
`bounds.dual.patches`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bounds.dual.dual import Ledger
from bounds.dual.fixed_slope import Faces
from bounds.dual.patches import Patches, neuron_patches, window_convolution
from bounds.network.affine import Affine, Linear, row_sums
from bounds.network.convolution import Convolution
from bounds.network.graph import AffineNode, Network, ReluNode
from bounds.network.memory import pass_numbers
from bounds.relaxation.ranges import Range
from bounds.rounding import down, floor, gamma, smallest, up
from bounds.sets.box import Box, InputSet
from bounds.sets.norm_ball import NormBall

#: Numbers (batch, *shape) as rows of coefficients see them: (batch, rows or 1, *what they see).
Seen = Callable[[Tensor], Tensor]


def numbers_of_neuron(network: Network, start: int) -> int:
    """What a row that begins with a neuron of node `start` holds during its pass, copies
    included."""
    return _descent(network, start)[2]


def _descent(network: Network, start: int) -> tuple[list[int], int, int]:
    """The nodes that rows of node `start` go through as patches, the node that comes then, and the
    numbers that a row holds during its pass, copies included."""
    nodes: list[int] = []
    node, window, numbers = start, (1,) * (len(network.nodes[start].shape) - 1), 0
    while True:
        match network.nodes[node]:
            case AffineNode(parents=(parent,), operation=Convolution() as operation):
                reads = window_convolution(operation, window).input_shape
                if math.prod(reads) >= math.prod(operation.input_shape):
                    break
                window, numbers = reads[1:], numbers + 4 * math.prod(reads)
            case ReluNode(parents=(parent,)) if nodes:
                pass
            case _:
                break
        nodes.append(node)
        node = parent
    return nodes, node, numbers + (pass_numbers(network, node) if node > 0 else 0)


class OnePass:
    """Backward passes from node `start`, from single neurons of it or from rows of coefficients.

    faces: of the ReLUs below. ranges: of the nodes up to `start`. odd: whether ν is odd in ĉ.
    """

    def __init__(
        self,
        network: Network,
        input_set: InputSet,
        faces: Sequence[Faces],
        ranges: Sequence[Range],
        start: int,
        *,
        odd: bool,
    ) -> None:
        self._network, self._whole_set = network, input_set
        self._faces, self._ranges, self._start = faces, ranges, start
        self._positions = {index: k for k, index in enumerate(network.relus)}
        self._ahead, self._last, _ = _descent(network, start)
        bends = [isinstance(network.nodes[index], ReluNode) for index in self._ahead[1:3]]
        self._first = self._first_layer() if odd and bends == [True, False] else None

    def neurons(self, images: slice, neurons: Tensor, sign: float) -> tuple[Tensor, Tensor]:
        """Numbers below and above sign · ẑ, for neurons (batch, rows) of these inputs.

        Those above hold where ν is odd in ĉ.
        """
        self._reset(images, neurons)
        self._from_neurons(neurons, sign)
        return self._ends()

    def rows(self, images: slice, coefficients: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """The same of ⟨coefficients, node `start`⟩ + d, for (batch, rows, *shape) and (batch,
        rows)."""
        self._reset(images, coefficients)
        self._middle.append(d)
        self._to_input(self._start, coefficients)
        return self._ends()

    def _reset(self, images: slice, rows: Tensor) -> None:
        self._images = images
        self._input_set = self._whole_set.convert(lambda tensor: tensor[images])
        self._ledger = Ledger(self._ranges, rows, images)
        self._middle: list[Tensor] = []
        self._radius: list[Tensor] = []

    def _ends(self) -> tuple[Tensor, Tensor]:
        middle = torch.stack(self._middle)
        radius = torch.stack([*self._radius, self._ledger.total])
        count, dtype = len(middle) + len(radius), middle.dtype
        sizes = middle.detach().abs().sum(0) + radius.detach().sum(0)
        reach = radius.sum(0) + gamma(count, dtype) * sizes + 3 * count * smallest(dtype)
        return down(middle.sum(0) - reach), up(middle.sum(0) + reach)

    def _from_neurons(self, neurons: Tensor, sign: float) -> None:
        node = self._network.nodes[self._start]
        ahead, last = self._ahead, self._last
        flat = len(node.shape) == 1
        match node:
            case AffineNode(operation=Convolution() as operation) if ahead:
                self._begin(operation, neurons, sign)
                patches, ahead = neuron_patches(operation, neurons, sign), ahead[1:]
                if self._first is not None:
                    patches, ahead = self._through_first(patches, neurons), ahead[2:]
                patches = self._through(ahead, patches)
                if last == 0 and not isinstance(self._input_set, Box):
                    patches = patches.inside()  # a norm counts what a box leaves out
                if last == 0 and self._at_input(patches.values, patches.windows):
                    return
                rows = patches.dense()
            case AffineNode(parents=(parent,), operation=Linear() as linear) if flat:
                self._begin(linear, neurons, sign)
                rows = (sign * linear.weight).index_select(0, neurons.flatten())
                rows, last = rows.unflatten(0, neurons.shape), parent
            case _:
                rows = torch.zeros(*neurons.shape, math.prod(node.shape)).to(self._input_set.lower)
                rows = rows.scatter(2, neurons.unsqueeze(2), sign).unflatten(2, node.shape)
        self._to_input(last, rows)

    def _to_input(self, node: int, rows: Tensor) -> None:
        """The rest of the way, of coefficients on the whole of a node."""
        constant, at_input = self._network.backward(node, rows, self._relu, self._ledger)
        self._middle.append(constant)
        if not self._at_input(at_input, _whole):
            inputs = self._input_set
            lower, upper = inputs.minimum_below(at_input), -inputs.minimum_below(-at_input)
            self._middle.append((lower + upper) / 2)
            self._radius.append((upper - lower) / 2)

    def _begin(self, operation: Affine, neurons: Tensor, sign: float) -> None:
        """Account for the operation that the rows begin with, of whose results they are `sign`."""
        price, offset = self._ranges[self._start].price, operation.offset
        if price is not None:
            paid = price[self._images].flatten(1).gather(1, neurons)
            self._ledger.total = self._ledger.total + paid
        if offset is not None:
            self._middle.append(sign * offset.expand(operation.output_shape).flatten()[neurons])

    def _first_layer(self) -> tuple[Tensor, Tensor]:
        """The terms of every neuron at the first ReLU below and its convolution, (batch, *shape).

        What arrives there are rows of W, so that sums over them are products with W and |W|.
        """
        first, relu, second = (self._network.nodes[index] for index in self._ahead[:3])
        assert isinstance(first, AffineNode)
        assert isinstance(second, AffineNode)
        faces = self._faces[self._positions[self._ahead[1]]]
        dtype, count = faces.intercept.dtype, first.operation.fan_in
        middle, radius = faces.intercept / 2, faces.intercept * (0.5 + gamma(count, dtype))
        price, offset = self._ranges[self._ahead[2]].price, second.operation.offset
        if offset is not None:
            middle = middle + faces.above * offset
        if price is not None:
            radius = radius + (faces.above * price).detach()
        underflow = count * smallest(dtype) * (3 + faces.largest)
        underflow = underflow.reshape(-1, *[1] * len(relu.shape))
        operation = first.operation
        return operation.linear(middle), operation.absolute().linear(radius) + underflow

    def _through_first(self, patches: Patches, neurons: Tensor) -> Patches:
        """The coefficients on the far side of what `_first_layer` accounts for."""
        assert self._first is not None
        middle, radius = (each[self._images].flatten(1).gather(1, neurons) for each in self._first)
        self._middle.append(middle)
        self._radius.append(radius)
        relu, second = self._ahead[1:3]
        above = self._faces[self._positions[relu]].above[self._images]
        node = self._network.nodes[second]
        assert isinstance(node, AffineNode)
        assert isinstance(node.operation, Convolution)
        return replace(patches, values=patches.values * patches.windows(above)).adjoint(
            node.operation
        )

    def _through(self, ahead: list[int], patches: Patches) -> Patches:
        """The coefficients on the far side of these nodes."""
        for index in ahead:
            match self._network.nodes[index]:
                case ReluNode():
                    values = self._relu(self._positions[index], patches.values, patches.windows)
                    patches = replace(patches, values=values)
                case AffineNode(operation=Convolution() as operation):
                    patches = patches.inside()
                    price, offset = self._ranges[index].price, operation.offset
                    if price is not None:
                        paid = row_sums(
                            patches.values.detach().abs(), patches.windows(price[self._images])
                        )
                        self._ledger.total = self._ledger.total + paid
                    if offset is not None:
                        biases = patches.windows(offset.expand(1, *operation.output_shape))
                        self._middle.append(row_sums(patches.values, biases))
                    patches = patches.adjoint(operation)
        return patches

    def _relu(self, position: int, arriving: Tensor, seen: Seen | None = None) -> Tensor:
        """The rule of `Network.backward`: ν, and its cost among the terms."""
        seen, faces, dtype = seen or _whole, self._faces[position], arriving.dtype
        some = self._images
        intercept, above = seen(faces.intercept[some]), seen(faces.above[some])
        self._middle.append(row_sums(arriving, intercept) / 2)
        count = arriving.shape[2:].numel()
        cost = row_sums(arriving.abs(), intercept) * (0.5 + gamma(count, dtype))
        self._radius.append(cost + count * smallest(dtype) * (3 + faces.largest[some].unsqueeze(1)))
        if faces.below is faces.above:
            return arriving * above
        positive, negative = arriving.clamp(min=0), arriving.clamp(max=0)
        return positive * seen(faces.below[some]) + negative * above

    def _at_input(self, coefficients: Tensor, seen: Seen) -> bool:
        """Account for the input set, if it is as far from its middle on either side."""
        count = coefficients.shape[2:].numel()
        match self._input_set:
            case Box() as box:
                middle, reach, underflow = box.halves(count)
                radius = row_sums(coefficients.abs(), seen(reach)) + underflow
            case NormBall() as ball if ball.uncut:
                middle, dtype = ball.centre, coefficients.dtype
                reach = ball.radius.unsqueeze(1) * ball.dual_norm(coefficients.flatten(2))
                size = middle.detach().abs()
                terms = row_sums(coefficients.detach().abs(), seen(size + floor(dtype))) + reach
                largest = (size.flatten(1).amax(1) + ball.radius.detach()).unsqueeze(1)
                underflow = count * smallest(dtype) * (3 + largest)
                radius = reach + gamma(count, dtype) * terms.detach() + underflow
            case _:
                return False
        self._middle.append(row_sums(coefficients, seen(middle)))
        self._radius.append(radius)
        return True


def _whole(numbers: Tensor) -> Tensor:
    """What rows of coefficients on the whole tensor see of numbers (batch, *shape)."""
    return numbers.unsqueeze(1)
