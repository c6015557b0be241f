"""The LP without its stable neurons: what the interior point works on.

Number the unstable neurons of an input 1 … n in layer order and write x = lower + width ∘ b, where
0 ≤ b ≤ 1. Then

    ẑ = A b + L z + e,    objective = c_b · b + c_z · z + c_0,

with L strictly lower block-triangular. One backward pass a layer, which stops at unstable neurons,
gives the rows.

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

from bounds.intermediate import CHUNK
from bounds.relaxation import Relaxation


@dataclass(frozen=True, eq=False)
class CondensedLP:
    """The LPs of B inputs with S rows each.

    AL: [A | L], (B, n, d + n). e, lower, upper: (B, n). c_b: (B, S, d). c_z: (B, S, n).
    c_0: (B, S). layers: the start of each layer's block, and n. columns: the flat input coordinates
    that b stands for. chosen: for each ReLU the flat indices (B, block) of its unstable neurons,
    and which of them are real (the others are idle).
    """

    AL: Tensor
    e: Tensor
    lower: Tensor
    upper: Tensor
    c_b: Tensor
    c_z: Tensor
    c_0: Tensor
    layers: tuple[int, ...]
    columns: Tensor
    chosen: tuple[tuple[Tensor, Tensor], ...]

    @property
    def A(self) -> Tensor:
        """(B, n, d)"""
        return self.AL[:, :, : self.c_b.shape[2]]

    @property
    def L(self) -> Tensor:
        """(B, n, n), strictly lower block-triangular."""
        return self.AL[:, :, self.c_b.shape[2] :]

    def take(self, images: Tensor, rows: Tensor) -> CondensedLP:
        """The LPs of these inputs (B',) and, of each, these rows (B', S')."""
        at = images.unsqueeze(1)
        whole = len(images) == len(self.e)

        def pick(tensor: Tensor) -> Tensor:
            return tensor if whole else tensor[images]

        return replace(
            self,
            AL=pick(self.AL),
            e=pick(self.e),
            lower=pick(self.lower),
            upper=pick(self.upper),
            c_b=self.c_b[at, rows],
            c_z=self.c_z[at, rows],
            c_0=self.c_0[at, rows],
            chosen=tuple((pick(index), pick(real)) for index, real in self.chosen),
        )

    def panels(self, size: int) -> list[list[tuple[slice, tuple[slice, ...]]]]:
        """For each input, the rows of [A | L] in panels, with the columns that each leaves not 0.

        Neurons of a convolution stand by position, so that a panel of at most `size` of them sees a
        strip of the input and of the layers below. Idle neurons, whose rows are 0, are in no panel.
        """
        d = self.c_b.shape[2]
        counts = [real.sum(1).tolist() for _, real in self.chosen]
        found = []
        for image, AL in enumerate(self.AL):
            rows = [
                slice(first, min(first + size, start + count[image]))
                for start, count in zip(self.layers, counts, strict=False)
                for first in range(start, start + count[image], size)
            ]
            found.append([(panel, _spans((AL[panel] != 0).any(0), d)) for panel in rows])
        return found

    def gather(self, values: Sequence[Tensor]) -> Tensor:
        """The unstable neurons' entries of one (B, S, *shape) tensor a ReLU, as (B, S, n)."""
        blocks = []
        for tensor, (index, real) in zip(values, self.chosen, strict=True):
            at = index.unsqueeze(1).expand(-1, tensor.shape[1], -1)
            blocks.append(tensor.flatten(2).gather(2, at) * real.unsqueeze(1))
        return torch.cat(blocks, -1) if blocks else self.c_z

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
        """The inputs (B, S, *input_shape) that b (B, S, d) stands for, never outside the box."""
        lower, upper = (
            t.flatten(1).unsqueeze(1)
            for t in (relaxation.input_set.lower, relaxation.input_set.upper)
        )
        x = lower.expand(-1, b.shape[1], -1).clone()
        x[:, :, self.columns] += b * (upper - lower)[:, :, self.columns]
        return torch.minimum(x, upper).unflatten(2, relaxation.input_set.lower.shape[1:])


def _by_position(shape: Sequence[int], device: torch.device) -> Tensor:
    """Flat indices of a (channels, *positions) sample, position by position.

    Neurons that see the same inputs then stand together, and their rows of A and L have common
    zeros.
    """
    return torch.arange(math.prod(shape), device=device).reshape(shape[0], -1).mT.flatten()


def _spans(used: Tensor, d: int) -> tuple[slice, ...]:
    """The ranges of columns of A and of L outside which nothing is used; used: (d + n,)."""
    spans = []
    for start, part in ((0, used[:d]), (d, used[d:])):
        where = part.nonzero()
        if len(where):
            spans.append(slice(start + int(where[0]), start + int(where[-1]) + 1))
    return tuple(spans)


def condense(relaxation: Relaxation) -> CondensedLP:
    """Eliminate the stable neurons and the inputs that cannot move; without gradients."""
    network, box = relaxation.network, relaxation.input_set
    width = (box.upper - box.lower).flatten(1)
    order = _by_position(network.input_shape, width.device)
    columns = order[(width > 0).any(0)[order]]
    chosen = []
    for neurons in relaxation.relu_bounds:
        order = _by_position(neurons.lower.shape[1:], width.device)
        unstable = neurons.unstable.flatten(1)[:, order]
        counts = unstable.sum(1)
        ranks = torch.argsort(unstable, dim=1, descending=True, stable=True)[:, : int(counts.max())]
        real = torch.arange(ranks.shape[1], device=counts.device) < counts.unsqueeze(1)
        chosen.append((order[ranks], real))
    sizes = [index.shape[1] for index, _ in chosen]
    layers = (0, *torch.tensor(sizes).cumsum(0).tolist())
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
        constant = constant + (on_x * box.lower.flatten(1).unsqueeze(1)).sum(2)
        return (on_x * width.unsqueeze(1))[:, :, columns], on_z, constant

    batch = len(box)
    d = len(columns)
    AL, e = width.new_zeros(batch, n, d + n), width.new_zeros(batch, n)
    lower, upper = -torch.ones_like(e), torch.ones_like(e)
    for position, node_index in enumerate(network.relus):
        (parent,) = network.nodes[node_index].parents
        (index, real), neurons = chosen[position], relaxation.relu_bounds[position]
        size = sum(math.prod(node.shape) for node in network.nodes[: parent + 1])
        step = max(1, CHUNK // (size * batch))
        for first in range(0, index.shape[1], step):
            part, present = index[:, first : first + step], real[:, first : first + step]
            block = slice(layers[position] + first, layers[position] + first + part.shape[1])
            one_hot = width.new_zeros(*part.shape, neurons.lower[0].numel())
            one_hot.scatter_(2, part.unsqueeze(2), present.unsqueeze(2).to(width))
            shaped = one_hot.unflatten(2, neurons.lower.shape[1:])
            AL[:, block, :d], AL[:, block, d:], e[:, block] = rows_of(parent, shaped)
            for bound, values in ((lower, neurons.lower), (upper, neurons.upper)):
                bound[:, block] = torch.where(
                    present, values.flatten(1).gather(1, part), bound[:, block]
                )
    c_b, c_z, c_0 = rows_of(len(network.nodes) - 1, relaxation.C)
    return CondensedLP(
        AL, e, lower, upper, c_b, c_z, c_0 + relaxation.d, layers, columns, tuple(chosen)
    )
