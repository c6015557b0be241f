"""One backward pass at the multipliers of `bounds.dual.fixed_slope`, in a form that costs little.

The dual bound of `bounds.dual.dual` is then a sum of two:

    Σ ĉ · middle  −  Σ |ĉ| · radius,

over the neurons of every layer passed and over the input's box. For a ReLU both are half of the
intercept k of its upper face, as −k max(−ĉ, 0) = (ĉ − |ĉ|) k / 2, and rounding is charged to the
second. Where ν is odd in ĉ, the same two sums give the upper bound too, with + for −. Passes that
begin with one neuron each start from rows of a layer's matrix; below convolutions, and through
residual sums, they are kept as `bounds.dual.patches`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bounds.dual.descent import descent
from bounds.dual.dual import Ledger, Seen, seen_whole
from bounds.dual.fixed_slope import Faces
from bounds.dual.patches import Matrices, Patches, neuron_patches, one_hot_patches
from bounds.network.affine import Affine, Linear, Scale, row_sums
from bounds.network.convolution import Convolution
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.relaxation.ranges import Range
from bounds.rounding import down, gamma, smallest, up
from bounds.sets.box import Box, InputSet
from bounds.sets.norm_ball import NormBall


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
        self._extents = descent(network, start)
        self._odd, self._matrices = odd, Matrices()
        self._cut = isinstance(input_set, NormBall) and not input_set.uncut
        self._centred = isinstance(input_set, NormBall) and input_set.centred
        self._ahead = self._first_convolutions() if odd else []
        self._first = self._first_layer() if self._ahead else None

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
        self._to_input({self._start: coefficients})
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
        match node:
            case AffineNode(parents=(parent,), operation=Convolution() as operation):
                self._begin(operation, neurons, sign)
                patches = neuron_patches(operation, neurons, sign, self._matrices)
                if self._first is not None:
                    parent, patches = self._through_first(patches, neurons)
                self._through(parent, patches)
            case _ if self._extents:
                like = self._input_set.lower
                patches = one_hot_patches(node.shape, neurons, sign, like)
                self._through(self._start, patches)
            case AffineNode(parents=(parent,), operation=Linear() as linear) if (
                len(node.shape) == 1
            ):
                self._begin(linear, neurons, sign)
                rows = (sign * linear.weight).index_select(0, neurons.flatten())
                self._to_input({parent: rows.unflatten(0, neurons.shape)})
            case _:
                rows = torch.zeros(*neurons.shape, math.prod(node.shape)).to(self._input_set.lower)
                rows = rows.scatter(2, neurons.unsqueeze(2), sign).unflatten(2, node.shape)
                self._to_input({self._start: rows})

    def _to_input(self, rows: Mapping[int, Tensor]) -> None:
        """The rest of the way, of coefficients on the whole of nodes."""
        constant, at_input = self._network.backward_from(rows, self._relu, self._ledger)
        self._middle.append(constant)
        if not self._at_input(at_input, seen_whole):
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

    def _first_convolutions(self) -> list[int]:
        """The node that the rows begin with, the ReLU that it reads, and what that reads, where the
        first and the last are convolutions and all have patches."""
        ahead = [self._start]
        for kind in (AffineNode, ReluNode, AffineNode):
            node = self._network.nodes[ahead[-1]]
            if ahead[-1] not in self._extents or not isinstance(node, kind):
                return []
            if isinstance(node, AffineNode) and not isinstance(node.operation, Convolution):
                return []
            ahead.append(node.parents[0])
        return ahead[:3]

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

    def _through_first(self, patches: Patches, neurons: Tensor) -> tuple[int, Patches]:
        """The node on the far side of what `_first_layer` accounts for, and the coefficients on
        it."""
        assert self._first is not None
        middle, radius = (each[self._images].flatten(1).gather(1, neurons) for each in self._first)
        self._middle.append(middle)
        self._radius.append(radius)
        relu, second = self._ahead[1:3]
        above = self._faces[self._positions[relu]].above[self._images]
        node = self._network.nodes[second]
        assert isinstance(node, AffineNode)
        assert isinstance(node.operation, Convolution)
        bent = patches.times(above)
        return node.parents[0], bent.adjoint(node.operation, self._matrices)

    def _through(self, node: int, patches: Patches) -> None:
        """The rest of the way, of patches on a node."""
        pending: dict[int, Patches] = {}
        whole: dict[int, Tensor] = {}

        def send(parent: int, message: Patches) -> None:
            if parent not in self._extents:
                rows = message.dense()
                if parent in whole:
                    rows = whole[parent] + rows
                    self._ledger.added(parent, rows)
                whole[parent] = rows
            elif parent in pending:
                pending[parent] = both = pending[parent].plus(message)
                self._ledger.added(parent, both.values, both.windows)
            else:
                pending[parent] = message

        send(node, patches)
        for index in self._extents:
            if index not in pending:
                continue
            patches = pending.pop(index)
            match self._network.nodes[index]:
                case InputNode():
                    if self._centred and not self._cut:
                        patches = patches.inside()  # a norm counts what a box leaves out
                    if not self._at_input(patches.values, patches.windows):
                        whole[index] = patches.dense()
                case ReluNode(parents=(parent,)):
                    values = self._relu(self._positions[index], patches.values, patches.windows)
                    send(parent, replace(patches, values=values, inner=True))
                case SumNode(parents=parents):
                    for parent in parents:
                        send(parent, patches)
                case AffineNode(parents=(parent,), operation=operation):
                    self._ledger.arrived(index, patches.values, patches.windows)
                    if operation.offset is not None:
                        offset = operation.offset.expand(1, *operation.output_shape)
                        self._middle.append(row_sums(patches.values, patches.windows(offset)))
                    send(parent, self._adjoint(operation, patches))
        if whole:
            self._to_input(whole)

    def _relu(self, position: int, arriving: Tensor, seen: Seen = seen_whole) -> Tensor:
        """The rule of `Network.backward`: ν, and its cost among the terms."""
        faces, dtype = self._faces[position], arriving.dtype
        some = self._images
        intercept, above = seen(faces.intercept[some]), seen(faces.above[some])
        count = arriving.shape[2:].numel()
        flushed = count * smallest(dtype) * (3 + faces.largest[some].unsqueeze(1))
        if faces.below is faces.above:
            self._middle.append(row_sums(arriving, intercept) / 2)
            cost = row_sums(arriving.abs(), intercept) * (0.5 + gamma(count, dtype))
            self._radius.append(cost + flushed)
            return arriving * above
        # The lower side alone, where all that costs has one sign.
        negative = arriving.clamp(max=0)
        cost = row_sums(negative, intercept)
        self._middle.append(cost)
        self._radius.append(flushed - gamma(count, dtype) * cost)
        # One of both is 0. (`torch.where` takes many times as long.)
        return torch.addcmul((arriving - negative) * seen(faces.below[some]), negative, above)

    def _at_input(self, coefficients: Tensor, seen: Seen) -> bool:
        """Account for the input set, if it is as far from its middle on either side."""
        count = coefficients.shape[2:].numel()
        match self._input_set:
            case Box() as box:
                middle, reach, underflow = box.halves(count)
                radius = row_sums(coefficients.abs(), seen(reach)) + underflow
            case NormBall() as ball if self._centred:
                middle, below, above = ball.spread(
                    coefficients, seen, cut=self._cut, above=self._odd
                )
                self._middle.append(middle)
                if self._cut and self._odd:
                    self._middle.append((above - below) / 2)
                    self._radius.append((above + below) / 2)
                else:
                    self._radius.append(below)
                return True
            case _:
                return False
        self._middle.append(row_sums(coefficients, seen(middle)))
        self._radius.append(radius)
        return True

    def _adjoint(self, operation: Affine, patches: Patches) -> Patches:
        if isinstance(operation, Convolution):
            return patches.inside().adjoint(operation, self._matrices)
        assert isinstance(operation, Scale)
        scale = operation.scale.expand(1, *operation.output_shape)
        return patches.times(scale)
