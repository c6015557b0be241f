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
from bounds.network.graph import AffineNode, InputNode, Network, Node, ReluNode, SumNode
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
    feasible = relaxation.input_set.contains(x)
    errors = None
    if ranges is not None:
        x, proved = relaxation.input_set.inside(x)
        feasible = feasible & proved
        errors = evaluation_errors(relaxation.network, ranges, relaxation.relu_bounds, x.dtype)
    chosen: list[Tensor] = []

    def relu(position: int, flat: Tensor) -> Tensor:
        nonlocal feasible
        neurons = relaxation.relu_bounds[position]
        pre = flat.unflatten(0, (batch, rows))
        active, unstable = neurons.active.unsqueeze(1), neurons.unstable.unsqueeze(1)
        lower, upper = neurons.lower.unsqueeze(1), neurons.upper.unsqueeze(1)
        slack = FEASIBILITY * torch.finfo(pre.dtype).eps * (lower.abs() + upper.abs())
        if errors is not None and not relaxation.implied:
            node = relaxation.network.nodes[relaxation.network.relus[position]]
            slack = -2 * errors[node.parents[0]].unsqueeze(1)
        inside = (pre >= lower - slack) & (pre <= upper + slack)
        feasible = feasible & (inside | ~unstable).flatten(2).all(2)
        low, high = pre.clamp(min=0), neurons.face(pre)
        z = torch.maximum(torch.minimum(choose(position, low, high), high), low)
        chosen.append(z * unstable + pre * active)
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
        lambda position, low, high: low + (high - low) * (point.arriving[position] < 0),
        ranges,
    )


def evaluation_errors(
    network: Network,
    ranges: Sequence[Range],
    relu_bounds: Sequence[ReluBounds],
    dtype: torch.dtype,
) -> list[Tensor]:
    """By how much the nodes of a point that `push_forward` evaluates in a dtype can differ from
    those of the exact one, each (batch, *shape), in the order of the nodes: without end where a
    sum or a parameter may exceed the largest number of the dtype."""
    errors: list[Tensor] = []
    overflows = torch.zeros_like(ranges[0].underflow, dtype=torch.bool)
    layers = iter(relu_bounds)
    for node, found in zip(network.nodes, ranges, strict=True):
        match node:
            case InputNode():
                errors.append(torch.zeros_like(found.lower.detach()))
            case AffineNode(parents=(parent,), operation=operation):
                error = operation.absolute().linear(errors[parent])
                if operation.fan_in > 0 or operation.offset is not None:
                    inherited = 1 + 2 * gamma(operation.fan_in, dtype)
                    error = inherited * error + rounding_in(dtype, operation, ranges[parent])
                errors.append(error)
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
                clamped = torch.where(neurons.unstable, (1 + share) * error + share * upper, error)
                errors.append(torch.where(neurons.unstable | neurons.active, clamped, 0.0))
            case _:
                raise TypeError(f"evaluation_errors does not know {type(node).__name__}.")
        overflows |= _overflows(node, found, errors[-1], dtype)
    # All of them, as 0 times infinity is no number.
    return [
        torch.where(overflows.reshape(-1, *[1] * (error.dim() - 1)), torch.inf, error)
        for error in errors
    ]


def _overflows(node: Node, found: Range, error: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether a node may have a sum, of its terms in any order, that the dtype cannot hold, or a
    parameter; (batch,)."""
    largest = torch.finfo(dtype).max
    held = (found.terms.detach() + 2 * error <= largest).flatten(1).all(1)
    if isinstance(node, AffineNode):

        def look(tensor: Tensor) -> Tensor:
            nonlocal held
            if tensor.is_floating_point():
                held = held & (tensor.detach().abs() <= largest).all()
            return tensor

        node.operation.convert(look)
    return ~held
