"""Interval arithmetic: what every node's values lie within, and what evaluating them can cost.

Each node is rounded outward by itself, so that its range holds for every point of the input set and
of its LP, whatever rounding did below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import torch
from torch import Tensor

from bounds.network.affine import Affine, Convert, Shape, optional
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.network.memory import on_cpu
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import floor, gamma, smallest
from bounds.sets.box import Box, InputSet


@dataclass(frozen=True, eq=False)
class Range:
    """Of one node: lower ≤ values ≤ upper, each (batch, *shape).

    terms: the sizes of the terms that the values are sums of, added up; (batch, *shape).
    price: what one unit of coefficient on the node can cost a backward pass through it, (batch,
    *shape); None where nothing. underflow: what it can cost besides, whatever the coefficients;
    (batch,).
    box: every point of [lower, upper] is attained. exact: each bound is attained by itself, nearly.
    positive: whether no value is negative.
    """

    lower: Tensor
    upper: Tensor
    terms: Tensor
    underflow: Tensor
    price: Tensor | None = None
    box: bool = False
    exact: bool = False
    positive: bool = False

    @cached_property
    def magnitude(self) -> Tensor:
        """The largest |value|."""
        return self.upper.detach() if self.positive else _magnitude(self.lower, self.upper)

    def convert(self, convert: Convert) -> Range:
        """The same range with `convert` applied to every tensor, all of which start with the batch
        axis."""
        return replace(
            self,
            lower=convert(self.lower),
            upper=convert(self.upper),
            terms=convert(self.terms),
            underflow=convert(self.underflow),
            price=optional(convert, self.price),
        )


def input_range(input_set: InputSet) -> Range:
    box = isinstance(input_set, Box)
    nothing = torch.zeros_like(input_set.lower.detach().flatten(1)[:, 0])
    size = input_set.magnitude
    return Range(input_set.lower, input_set.upper, size, nothing, box=box, exact=box)


def affine_range(network: Network, node: AffineNode, before: Range) -> Range:
    """Of W x + b for the range of x."""
    operation = node.operation
    box = before.box and operation.elementwise
    exact = before.box or (before.exact and operation.elementwise)
    if operation.fan_in == 0 and operation.offset is None:  # it only moves numbers
        lower, upper = operation.linear(before.lower), operation.linear(before.upper)
        price, underflow = None, torch.zeros_like(before.underflow)
        if operation.fan_out > 0:
            price = gamma(operation.fan_out, lower.dtype) * _products(operation.absolute(), before)
            sizes = before.magnitude.flatten(1).sum(1)
            underflow = smallest(lower.dtype) * operation.fan_out * sizes
        terms = operation.linear(before.terms)
        return Range(lower, upper, terms, underflow, price=price, box=box, exact=exact)
    dtype, offset = before.lower.dtype, operation.offset
    absolute = operation.absolute()
    products = _products(absolute, before)
    shift = products.new_zeros(()) if offset is None else offset.detach().abs()
    terms = products + shift
    # The biases of all nodes are summed up, coefficient by coefficient.
    sums = products[0].numel() + len(network.nodes)
    biases = shift if offset is None else shift + floor(dtype)
    price = (gamma(operation.fan_out, dtype) + operation.inexact) * products
    price = torch.add(price, biases, alpha=gamma(sums, dtype) + operation.inexact)
    sizes = terms.flatten(1).sum(1) + 3 * products[0].numel()
    pairs = torch.add(sizes, before.magnitude.flatten(1).sum(1), alpha=3 * operation.fan_out)
    ends = _ends(operation, absolute, before, terms)
    return Range(*ends, terms, smallest(dtype) * pairs, price, box, exact)


def affine_ends(
    operation: Affine, lower: Tensor, upper: Tensor, *, positive: bool
) -> tuple[Tensor, Tensor]:
    """The least and the largest of W x + b for lower ≤ x ≤ upper, rounded outward, and nothing
    else: one product with |W| bounds how far they are from the middle and all that is rounded.

    positive: whether no x is negative.
    """
    if operation.fan_in == 0 and operation.offset is None:  # it only moves numbers
        return operation.linear(lower), operation.linear(upper)
    dtype, offset, absolute = lower.dtype, operation.offset, operation.absolute()
    share, little = gamma(operation.fan_in, dtype) + operation.inexact, floor(dtype)
    size = upper.detach() if positive else _magnitude(lower, upper)
    # In place: to ask for memory takes longer than to add.
    radius = (upper - lower).div_(2).add_(size, alpha=share).add_(share * little)
    reach = absolute.linear(radius)
    rounding = share * little * (_largest(size, absolute.output_shape) + 4)
    # Above, sums of the middle's terms may overflow, and an infinite one says nothing of the sign.
    least, most = share * little**0.7, share * torch.finfo(dtype).max / 4
    if not (on_cpu(reach) and _between(reach.detach(), least, most)):
        nothing = _nothing(absolute, lower, upper)
        reach, rounding = (each.masked_fill(nothing, 0.0) for each in (reach, rounding))
        reach = reach.masked_fill(~(reach < most), torch.inf)
    if offset is not None:
        rounding = torch.add(rounding, offset.detach().abs(), alpha=share)
    reach = reach.add_(rounding)
    middle = operation.forward(torch.lerp(lower, upper, 0.5))
    return middle - reach, middle.add_(reach)


def _ends(
    operation: Affine, absolute: Affine, before: Range, terms: Tensor
) -> tuple[Tensor, Tensor]:
    """The least and the largest of W x + b, rounded outward; terms: the sizes of what is summed."""
    middle = operation.forward(torch.lerp(before.lower, before.upper, 0.5))
    radius = absolute.linear((before.upper - before.lower) / 2)
    share = gamma(operation.fan_in, terms.dtype) + operation.inexact
    reach = torch.add(radius, terms, alpha=share)
    return middle - reach, middle + reach


def rounding_in(dtype: torch.dtype, operation: Affine, before: Range, found: Range) -> Tensor:
    """By how much W x + b, of the range `found`, can be off where it is evaluated in another dtype;
    (batch, *shape)."""
    terms = found.terms
    if dtype != before.lower.dtype:
        terms = _products(operation.absolute(), before, dtype)
        if operation.offset is not None:
            terms = terms + operation.offset.detach().abs()
    return (gamma(operation.fan_in, dtype) + operation.inexact) * terms


def _products(absolute: Affine, before: Range, dtype: torch.dtype | None = None) -> Tensor:
    """|W| |x| at its largest, and so much more that ε times it covers underflow."""
    size, little = before.magnitude, floor(dtype or before.lower.dtype)
    largest = _largest(size, absolute.output_shape)
    products = torch.add(absolute.linear(size + little).detach(), largest + 4, alpha=little)
    if on_cpu(products) and float(products.min()) > little**0.7:
        return products  # on another device the host would wait for longer than it takes
    return products.masked_fill(_nothing(absolute, before.lower, before.upper), 0.0)


def _between(numbers: Tensor, least: float, most: float) -> bool:
    ends = torch.aminmax(numbers)
    return least < float(ends.min) and float(ends.max) < most


def _magnitude(lower: Tensor, upper: Tensor) -> Tensor:
    return torch.maximum(-lower.detach(), upper.detach())


def _largest(size: Tensor, shape: Shape) -> Tensor:
    """Of each input, to be broadcast to (batch, *shape)."""
    return size.flatten(1).amax(1).reshape(-1, *[1] * len(shape))


def _nothing(absolute: Affine, lower: Tensor, upper: Tensor) -> Tensor:
    """Where all products are 0. There nothing underflows: such sums stay 0."""
    return absolute.convert(_pattern_of_sizes).linear(_pattern(lower, upper)) == 0


def _pattern(*numbers: Tensor) -> Tensor:
    """1 where one of the numbers is not 0. By their bits: subnormal numbers may compare as 0."""
    return (_bits(*numbers) << 1 != 0).to(numbers[0].dtype)  # without the signs


def _pattern_of_sizes(sizes: Tensor) -> Tensor:
    """The same of numbers without signs."""
    return (_bits(sizes) != 0).to(sizes.dtype)


def _bits(*numbers: Tensor) -> Tensor:
    integers = torch.int64 if numbers[0].dtype == torch.float64 else torch.int32
    every = (each.detach().contiguous().view(integers) for each in numbers)
    return reduce(torch.bitwise_or, every)


def sum_range(terms: Sequence[Range]) -> Range:
    """Of the sum of several nodes."""
    ends, size = sum_ends([(term.lower, term.upper) for term in terms])
    return Range(*ends, size, torch.zeros_like(terms[0].underflow))


def sum_ends(terms: Sequence[tuple[Tensor, Tensor]]) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The least and the largest of the sum of several nodes, given theirs; and the sizes of what is
    summed."""
    lower, upper = (torch.stack(ends) for ends in zip(*terms, strict=True))
    size = _magnitude(lower, upper).sum(0)
    # Each term, each sum and the product below may be flushed to zero; sums of zeros stay 0.
    zero = _pattern(*lower, *upper) == 0
    flushed = torch.where(zero, 0.0, 3 * len(terms) * smallest(size.dtype))
    rounding = gamma(len(terms), size.dtype) * size + flushed
    return (lower.sum(0) - rounding, upper.sum(0) + rounding), size


def relu_range(before: Range, neurons: ReluBounds, *, implied: bool) -> Range:
    """Of max(ẑ, 0), or of z in the LP.

    implied: whether l ≤ ẑ ≤ u holds in the LP by itself, which has no such rows. If not, the LP
    lets an active neuron's z leave [l, u].
    """
    lower, upper = neurons.lower.clamp(min=0), neurons.upper.clamp(min=0)
    if not implied:
        lower = torch.where(neurons.active, before.lower, lower)
        upper = torch.where(neurons.active, before.upper, upper)
    # z carries the rounding of the ẑ that it follows, however small both are.
    terms = before.terms.masked_fill(neurons.upper.detach() <= 0, 0.0)
    nothing = torch.zeros_like(before.underflow)
    return Range(lower, upper, terms, nothing, positive=implied)


def ranges(
    network: Network, input_set: InputSet, relu_bounds: Sequence[ReluBounds], *, implied: bool
) -> list[Range]:
    """Of every node, for the LP that these bounds make; `implied` as for `relu_range`."""
    found: list[Range] = []
    layers = iter(relu_bounds)
    for node in network.nodes:
        match node:
            case InputNode():
                found.append(input_range(input_set))
            case AffineNode(parents=(parent,)):
                found.append(affine_range(network, node, found[parent]))
            case SumNode(parents=parents):
                found.append(sum_range([found[p] for p in parents]))
            case ReluNode(parents=(parent,)):
                found.append(relu_range(found[parent], next(layers), implied=implied))
            case _:
                raise TypeError(f"ranges does not know {type(node).__name__}.")
    return found
