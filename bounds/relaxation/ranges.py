"""Interval arithmetic: what every node's values lie within, and what evaluating them can cost.

Each node is rounded outward by itself, so that its range holds for every point of the input set and
of its LP, whatever rounding did below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bounds.network.affine import Affine, Convert, optional
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode
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
    """

    lower: Tensor
    upper: Tensor
    terms: Tensor
    underflow: Tensor
    price: Tensor | None = None
    box: bool = False
    exact: bool = False

    @cached_property
    def magnitude(self) -> Tensor:
        """The largest |value|."""
        return torch.maximum(self.lower.detach().abs(), self.upper.detach().abs())

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
    nothing = torch.zeros_like(before.underflow)
    if operation.fan_in == 0 and operation.offset is None:  # it only moves numbers
        lower, upper = operation.linear(before.lower), operation.linear(before.upper)
        price, underflow = None, nothing
        if operation.fan_out > 0:
            price = gamma(operation.fan_out, lower.dtype) * _products(operation, before)
            sizes = before.magnitude.flatten(1).sum(1)
            underflow = smallest(lower.dtype) * operation.fan_out * sizes
        terms = operation.linear(before.terms)
        return Range(lower, upper, terms, underflow, price=price, box=box, exact=exact)
    dtype, offset = before.lower.dtype, operation.offset
    products = _products(operation, before)
    shift = products.new_zeros(()) if offset is None else offset.detach().abs()
    # The biases of all nodes are summed up, coefficient by coefficient.
    sums = products[0].numel() + len(network.nodes)
    biases = shift if offset is None else shift + floor(dtype)
    price = (gamma(operation.fan_out, dtype) + operation.inexact) * products
    price = price + (gamma(sums, dtype) + operation.inexact) * biases
    pairs = (products + shift + 3).flatten(1).sum(1)
    pairs = pairs + 3 * operation.fan_out * before.magnitude.flatten(1).sum(1)
    return Range(
        *_ends(operation, before, products + shift),
        products + shift,
        smallest(dtype) * pairs,
        price,
        box,
        exact,
    )


def affine_box(network: Network, node: AffineNode, before: Range) -> Range:
    """The same without what a backward pass through it costs."""
    operation = node.operation
    if operation.fan_in == 0 and operation.offset is None:
        return affine_range(network, node, before)
    products = _products(operation, before)
    if operation.offset is not None:
        products = products + operation.offset.detach().abs()
    return Range(*_ends(operation, before, products), products, before.underflow)


def _ends(operation: Affine, before: Range, terms: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest of W x + b, rounded outward; terms: the sizes of what is summed."""
    rounding = (gamma(operation.fan_in, terms.dtype) + operation.inexact) * terms
    middle = operation.forward((before.lower + before.upper) / 2)
    radius = operation.absolute().linear((before.upper - before.lower) / 2)
    return middle - radius - rounding, middle + radius + rounding


def rounding_in(dtype: torch.dtype, operation: Affine, before: Range) -> Tensor:
    """By how much W x + b can be off where it is evaluated in another dtype; (batch, *shape)."""
    products = _products(operation, before, dtype)
    if operation.offset is not None:
        products = products + operation.offset.detach().abs()
    return (gamma(operation.fan_in, dtype) + operation.inexact) * products


def _products(operation: Affine, before: Range, dtype: torch.dtype | None = None) -> Tensor:
    """|W| |x| at its largest, and so much more that ε times it covers underflow."""
    size, little = before.magnitude, floor(dtype or before.lower.dtype)
    largest = size.flatten(1).amax(1).reshape(-1, *[1] * len(operation.output_shape))
    products = operation.absolute().linear(size + little).detach() + little * (largest + 4)
    if float(products.min()) > little**0.7:
        return products
    # Where all factors are 0, nothing underflows: such sums stay 0.
    factors = torch.maximum(_pattern(before.lower), _pattern(before.upper))
    pairs = operation.convert(_pattern).linear(factors)
    return torch.where(pairs == 0, 0.0, products)


def _pattern(numbers: Tensor) -> Tensor:
    """1 where a number is not 0. By its bits: subnormal numbers may compare as 0."""
    bits = torch.int64 if numbers.dtype == torch.float64 else torch.int32
    return (numbers.detach().contiguous().view(bits) << 1 != 0).to(numbers.dtype)


def sum_range(terms: Sequence[Range]) -> Range:
    """Of the sum of several nodes."""
    size = torch.stack([term.magnitude for term in terms]).sum(0)
    # Each term, each sum and the product below may be flushed to zero; sums of zeros stay 0.
    ends = [end for term in terms for end in (term.lower, term.upper)]
    zero = torch.stack([_pattern(end) for end in ends]).sum(0) == 0
    flushed = torch.where(zero, 0.0, 3 * len(terms) * smallest(size.dtype))
    rounding = gamma(len(terms), size.dtype) * size + flushed
    return Range(
        torch.stack([term.lower for term in terms]).sum(0) - rounding,
        torch.stack([term.upper for term in terms]).sum(0) + rounding,
        size,
        torch.zeros_like(terms[0].underflow),
    )


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
    terms = torch.where(neurons.upper.detach() > 0, before.terms, 0.0)
    return Range(lower, upper, terms, torch.zeros_like(before.underflow))


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
