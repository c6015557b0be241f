"""Feasible points of the LP: the upper side of every gap.

Take any x in the input set, push it through the network, and clamp each unstable z into its
triangle, max(0, ẑ) ≤ z ≤ u (ẑ − l) / (u − l): the point is feasible, so its objective is at least
the LP optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.dual.dual import DualPoint
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.relaxation.ranges import Range, rounding_in
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import floor, gamma, smallest, up, weighted

#: Suggests z from the position of the ReLU, its smallest and its largest feasible value, each
#: (batch, rows, *shape).
Choice = Callable[[int, Tensor, Tensor], Tensor]

#: A pre-activation may leave [l, u] by this many epsilons of |l| + |u| and still count as rounding.
FEASIBILITY = 4096


@dataclass(frozen=True, eq=False)
class PrimalPoint:
    """x (batch, rows, *input_shape), z at each ReLU (batch, rows, *shape), the objective there and
    the sum of the magnitudes of its terms, both (batch, rows).

    The value is infinite where the point is not feasible: where x lies outside the input set, or
    where bounds l, u that the relaxation was given cut it off.
    """

    x: Tensor
    z: tuple[Tensor, ...]
    value: Tensor
    magnitude: Tensor


def push_forward(
    relaxation: Relaxation,
    x: Tensor,
    choose: Choice,
    ranges: Sequence[Range] | None = None,
) -> PrimalPoint:
    """The feasible point that x (batch, rows, *input_shape) and the choice of each z describe.

    ranges: of all nodes, for a value that is no smaller than that of a point which is feasible
    exactly: the same x, and the same choice clamped in real arithmetic.
    """
    batch, rows = x.shape[:2]
    errors = None
    if ranges is None:
        feasible = relaxation.input_set.contains(x)
    else:
        x, feasible = relaxation.input_set.inside(x)
        errors = evaluation_errors(relaxation.network, ranges, relaxation.relu_bounds, x.dtype)
    chosen: list[Tensor] = []

    def relu(position: int, flat: Tensor) -> Tensor:
        nonlocal feasible
        neurons = relaxation.relu_bounds[position]
        pre = flat.unflatten(0, (batch, rows))
        strict = None if relaxation.implied else errors
        if strict is not None:
            node = relaxation.network.nodes[relaxation.network.relus[position]]
            slack, share = strict[node.parents[0]], -2.0
        else:
            slack, share = neurons.width, FEASIBILITY * torch.finfo(pre.dtype).eps
        lower = torch.sub(neurons.lower, slack, alpha=share).unsqueeze(1)
        upper = torch.add(neurons.upper, slack, alpha=share).unsqueeze(1)
        stable = neurons.stable.unsqueeze(1)
        # Where bounds were moved inward, they may have crossed.
        inside = (pre >= lower) & (pre <= upper) if strict else pre.clamp(lower, upper) == pre
        feasible = feasible & (inside | stable).flatten(2).all(2)
        low, high = pre.clamp(min=0), neurons.face(pre)
        z = torch.maximum(torch.minimum(choose(position, low, high), high), low)
        chosen.append(torch.where(neurons.active.unsqueeze(1), pre, z.masked_fill(stable, 0.0)))
        return chosen[-1].flatten(0, 1)

    output = relaxation.network.evaluate(x.flatten(0, 1), relu).unflatten(0, (batch, rows))
    terms = (relaxation.C * output).flatten(2)
    value, magnitude = terms.sum(2) + relaxation.d, terms.abs().sum(2) + relaxation.d.abs()
    if errors is not None:
        dtype, count = value.dtype, terms.shape[2]
        off = weighted(relaxation.C, (1 + gamma(count, dtype)) * errors[-1])
        largest = 4 + relaxation.C.abs().flatten(2).amax(2) + output.abs().flatten(2).amax(2)
        off = off + gamma(count, dtype) * magnitude + count * smallest(dtype) * largest
        value = up(value + off)
    return PrimalPoint(x, tuple(chosen), torch.where(feasible, value, torch.inf), magnitude)


def suggested(
    relaxation: Relaxation, point: DualPoint, ranges: Sequence[Range] | None = None
) -> PrimalPoint:
    """The feasible point that a dual one suggests: each variable at the end its coefficient pulls
    it to."""
    return push_forward(
        relaxation,
        relaxation.input_set.argmin(point.at_input),
        lambda position, low, high: torch.where(point.arriving[position] < 0, high, low),
        ranges,
    )


@dataclass(frozen=True, eq=False)
class EvaluationErrors:
    """By how much each node's value at a point that `push_forward` evaluates in a dtype can differ
    from that at the exact one, by the node's index, (batch, *shape): without end where a sum or a
    parameter may exceed the largest number of the dtype."""

    found: Sequence[Tensor]
    overflows: Tensor

    def __getitem__(self, node: int) -> Tensor:
        # Of every node, as 0 times infinity is no number.
        error = self.found[node]
        return error.masked_fill(self.overflows.reshape(-1, *[1] * (error.dim() - 1)), torch.inf)


def evaluation_errors(
    network: Network,
    ranges: Sequence[Range],
    relu_bounds: Sequence[ReluBounds],
    dtype: torch.dtype,
) -> EvaluationErrors:
    """Those of all nodes."""
    errors: list[Tensor] = []
    sizes: list[Tensor] = []
    layers = iter(relu_bounds)
    for node, found in zip(network.nodes, ranges, strict=True):
        match node:
            case InputNode():
                errors.append(torch.zeros_like(found.lower))
            case AffineNode(parents=(parent,), operation=operation):
                if operation.fan_in == 0 and operation.offset is None:
                    errors.append(operation.absolute().linear(errors[parent]))
                    continue  # no sum, and no more than that below
                rounding = rounding_in(dtype, operation, ranges[parent], found)
                if parent == 0:  # what is given is not off
                    errors.append(rounding)
                else:
                    below = operation.absolute().linear(errors[parent])
                    inherited = 1 + 2 * gamma(operation.fan_in, dtype)
                    errors.append(torch.add(rounding, below, alpha=inherited))
            case SumNode(parents=parents):
                error = torch.stack([errors[parent] for parent in parents]).sum(0)
                share = gamma(len(parents), dtype)
                flushed = 3 * len(parents) * smallest(dtype)
                errors.append((1 + 2 * share) * error + share * found.terms + flushed)
            case ReluNode(parents=(parent,)):
                # z is clamped between ẑ and a face of slope u / (u − l) < 1.
                neurons, error = next(layers), errors[parent]
                share = gamma(4, dtype)
                upper = neurons.upper.detach() + floor(dtype)
                larger = torch.add((1 + share) * error, upper, alpha=share)
                clamped = torch.where(neurons.unstable, larger, error)
                errors.append(clamped.masked_fill(neurons.dead, 0.0))
                continue  # as little
            case _:
                raise TypeError(f"evaluation_errors does not know {type(node).__name__}.")
        sizes.append(torch.add(found.terms.detach(), errors[-1], alpha=2).flatten(1).amax(1))
    held = (torch.stack(sizes) <= torch.finfo(dtype).max).all(0)
    return EvaluationErrors(errors, ~_parameters_held(network, dtype, held))


def _parameters_held(network: Network, dtype: torch.dtype, held: Tensor) -> Tensor:
    """Where it is held, and the dtype can hold every parameter; (batch,)."""
    largest = torch.finfo(dtype).max
    for tensor in network.parameters:
        # In its own dtype one is held, or is infinite, as sums with it are.
        if tensor.is_floating_point() and torch.finfo(tensor.dtype).max > largest:
            held = held & (tensor.detach().abs() <= largest).all()
    return held
