"""The LP without its stable neurons: what the interior point and the simplex method work on.

Number the unstable neurons of an input 1 … n in layer order and write every input coordinate that
can move as origin + width · b, where 0 ≤ b ≤ 1. Then

    ẑ = A b + L z + e,    objective = c_b · b + c_z · z + c_0,

with L strictly lower block-triangular. One backward pass a layer, which stops at unstable neurons,
gives the rows.

A box is all 0 ≤ b ≤ 1, with its lower end for the origin. In an ℓ1 ball a coordinate has two
entries, up and down from the ball's centre, and their sum has a budget:

    x = origin + up ∘ p − down ∘ q,    Σ up p + Σ down q ≤ r.

That is one more row of A, in front of all layers: a neuron ẑ = Σ |width| b − r with bounds −r and
0, whose triangle leaves z = 0.

Inputs of a batch differ in which neurons are unstable. Each layer's block is as wide as the widest
input needs, and the others fill up with idle neurons: no coefficients, bounds −1 and 1, so that
they neither depend on nor add anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bounds.deadline import NEVER, Deadline
from bounds.dual.patches import Matrices, neuron_patches
from bounds.errors import InvalidInputError
from bounds.network.affine import Linear
from bounds.network.convolution import Convolution
from bounds.network.graph import AffineNode, Network
from bounds.network.memory import pass_numbers, rows_at_once
from bounds.relaxation.relaxation import Relaxation
from bounds.sets.box import Box, InputSet
from bounds.sets.norm_balls import L1Ball
from bounds.solvers.interior_point.triangle_lp import TriangleLP


@dataclass(frozen=True, eq=False)
class CondensedLP(TriangleLP):
    """The LPs of a relaxation, and how their variables stand for its neurons and inputs.

    chosen: for each ReLU the flat indices (B, block) of its unstable neurons, and which of them are
    real (the others are idle). origin: (B, inputs). columns: (d,), the flat input coordinate that
    each b moves. width: (B, d), signed.
    """

    chosen: tuple[tuple[Tensor, Tensor], ...]
    origin: Tensor
    columns: Tensor
    width: Tensor

    @property
    def neurons(self) -> list[tuple[int, int]]:
        """Which ReLU's and which of its neurons each of the n is, of a batch of one; (0, 0) for a
        budget."""
        named = [(0, 0)] * self.layers[0]
        for position, (index, _) in enumerate(self.chosen):
            named += [(position, flat) for flat in index[0].tolist()]
        return named

    def gather(self, values: Sequence[Tensor]) -> Tensor:
        """The unstable neurons' entries of one (B, S, *shape) tensor a ReLU, as (B, S, n); 0 in a
        budget's place."""
        blocks = [torch.zeros_like(self.c_z[:, :, : self.layers[0]])]
        for tensor, (index, real) in zip(values, self.chosen, strict=True):
            at = index.unsqueeze(1).expand(-1, tensor.shape[1], -1)
            blocks.append(tensor.flatten(2).gather(2, at) * real.unsqueeze(1))
        return torch.cat(blocks, -1)

    def scatter(self, relaxation: Relaxation, values: Tensor) -> tuple[Tensor, ...]:
        """(B, S, n) values as one (B, S, *shape) tensor a ReLU, with 0 at stable neurons."""
        rows, found = values.shape[1], []
        for neurons, (index, real), start in zip(
            relaxation.relu_bounds, self.chosen, self.layers, strict=False
        ):
            flat = values.new_zeros(len(values), rows, neurons.lower[0].numel())
            block = values[:, :, start : start + index.shape[1]] * real.unsqueeze(1)
            # Idle neurons share indices with stable ones, and add 0 there.
            flat.scatter_add_(2, index.unsqueeze(1).expand_as(block), block)
            found.append(flat.unflatten(2, neurons.lower.shape[1:]))
        return tuple(found)

    def point(self, relaxation: Relaxation, b: Tensor) -> Tensor:
        """The inputs (B, S, *input_shape) that b (B, S, d) stands for, never outside the set."""
        x = self.origin.unsqueeze(1).repeat(1, b.shape[1], 1)
        x.index_add_(2, self.columns, b * self.width.unsqueeze(1))
        input_set = relaxation.input_set
        return input_set.project(x.unflatten(2, input_set.lower.shape[1:]))


def _by_position(shape: Sequence[int], device: torch.device) -> Tensor:
    """Flat indices of a (channels, *positions) sample, position by position.

    Neurons that see the same inputs then stand together, and their rows of A and L have common
    zeros.
    """
    return torch.arange(math.prod(shape), device=device).reshape(shape[0], -1).mT.flatten()


def condense(
    relaxation: Relaxation, *, max_memory: int | None = None, deadline: Deadline = NEVER
) -> CondensedLP | None:
    """Eliminate the stable neurons and the inputs that cannot move; without gradients.

    None where the time was up before it was done.

    Raises InvalidInputError where the input set is no polyhedron.
    """
    network = relaxation.network
    origin, columns, width, budget = _coordinates(relaxation.input_set)
    chosen = []
    for neurons in relaxation.relu_bounds:
        order = _by_position(neurons.lower.shape[1:], width.device)
        unstable = neurons.unstable.flatten(1)[:, order]
        counts = unstable.sum(1)
        ranks = torch.argsort(unstable, dim=1, descending=True, stable=True)[:, : int(counts.max())]
        real = torch.arange(ranks.shape[1], device=counts.device) < counts.unsqueeze(1)
        chosen.append((order[ranks], real))
    sizes = [index.shape[1] for index, _ in chosen]
    first_row = 0 if budget is None else 1
    layers = tuple(first_row + sum(sizes[:k]) for k in range(len(sizes) + 1))
    n = layers[-1]

    def rows_of(start: int, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The coefficients on b and z, and the constant, of rows (B, R, *shape) of a node."""
        on_z = coefficients.new_zeros(*coefficients.shape[:2], n)

        def stop_at_unstable(position: int, arriving: Tensor) -> Tensor:
            index, real = chosen[position]
            block = arriving.flatten(2).gather(
                2, index.unsqueeze(1).expand(-1, arriving.shape[1], -1)
            )
            on_z[:, :, layers[position] : layers[position + 1]] = block * real.unsqueeze(1)
            return arriving * relaxation.relu_bounds[position].active.unsqueeze(1)

        constant, on_x = network.backward(start, coefficients, stop_at_unstable)
        on_x = on_x.flatten(2)
        constant = constant + (on_x * origin.unsqueeze(1)).sum(2)
        return on_x[:, :, columns] * width.unsqueeze(1), on_z, constant

    batch, d = width.shape
    AL, e = width.new_zeros(batch, n, d + n), width.new_zeros(batch, n)
    lower, upper = -torch.ones_like(e), torch.ones_like(e)
    if budget is not None:
        # An input without a budget cannot move, and its row stays idle.
        AL[:, 0, :d], e[:, 0] = width.abs(), -budget
        lower[:, 0] = torch.where(budget > 0, -budget, -1.0)
        upper[:, 0] = torch.where(budget > 0, 0.0, 1.0)
    for position, node_index in enumerate(network.relus):
        (parent,) = network.nodes[node_index].parents
        (index, real), neurons = chosen[position], relaxation.relu_bounds[position]
        step = rows_at_once(width, batch * pass_numbers(network, parent), max_memory)
        for first in range(0, index.shape[1], step):
            if deadline.passed:
                return None
            part, present = index[:, first : first + step], real[:, first : first + step]
            block = slice(layers[position] + first, layers[position] + first + part.shape[1])
            before, coefficients, offset = _unit_rows(network, parent, part, present.to(width))
            on_x, on_z, constant = rows_of(before, coefficients)
            AL[:, block, :d], AL[:, block, d:], e[:, block] = on_x, on_z, constant + offset
            for bound, values in ((lower, neurons.lower), (upper, neurons.upper)):
                bound[:, block] = torch.where(
                    present, values.flatten(1).gather(1, part), bound[:, block]
                )
    c_b, c_z, c_0 = rows_of(len(network.nodes) - 1, relaxation.C)
    return CondensedLP(
        AL=AL,
        e=e,
        lower=lower,
        upper=upper,
        c_b=c_b,
        c_z=c_z,
        c_0=c_0 + relaxation.d,
        scale=relaxation.scale(),
        layers=layers,
        chosen=tuple(chosen),
        origin=origin,
        columns=columns,
        width=width,
    )


def _unit_rows(
    network: Network, node: int, neurons: Tensor, real: Tensor
) -> tuple[int, Tensor, Tensor | float]:
    """Rows that pick these neurons (B, R) of a node, 0 where they are not real: on which node,
    their coefficients, and their constants. Of a layer with weights they are rows of these."""
    shape = network.nodes[node].shape
    match network.nodes[node]:
        case AffineNode(parents=(parent,), operation=Linear(weight=weight, bias=bias)) if (
            len(shape) == 1  # else it is along the last axis
        ):
            rows = weight[neurons] * real.unsqueeze(2)
            offset = 0.0 if bias is None else bias[neurons] * real
            return parent, rows.unflatten(2, network.nodes[parent].shape), offset
        case AffineNode(parents=(parent,), operation=Convolution() as operation):
            patches = neuron_patches(operation, neurons, 1.0, Matrices())
            kept = real.reshape(*real.shape, *[1] * len(patches.values.shape[2:]))
            rows = replace(patches, values=patches.values * kept).dense()
            bias = operation.offset
            return (
                parent,
                rows,
                0.0 if bias is None else bias.expand(shape).flatten()[neurons] * real,
            )
    one_hot = real.new_zeros(*neurons.shape, math.prod(shape))
    one_hot.scatter_(2, neurons.unsqueeze(2), real.unsqueeze(2))
    return node, one_hot.unflatten(2, shape), 0.0


def _coordinates(input_set: InputSet) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The origin, columns and width of a `CondensedLP`, and the budget (B,) where there is one."""
    lower, upper = input_set.lower.flatten(1), input_set.upper.flatten(1)
    order = _by_position(input_set.lower.shape[1:], lower.device)
    match input_set:
        case Box():
            origin, columns, width, budget = lower, order, (upper - lower)[:, order], None
        case L1Ball():
            origin, budget = input_set.nearest.flatten(1), input_set.budget
            reach = budget.unsqueeze(1)
            up, down = (upper - origin).minimum(reach), (origin - lower).minimum(reach)
            columns = order.repeat_interleave(2)
            width = torch.stack((up, -down), 2)[:, order].flatten(1)
        case _:
            raise InvalidInputError(
                "solve(method='interior_point' or method='simplex') got the input set "
                f"{type(input_set).__name__}, which is no polyhedron: use method='pdhg', or a ball "
                "of norm 1 or float('inf')."
            )
    moves = (width != 0).any(0)
    return origin, columns[moves], width[:, moves], budget
