"""Estimates of pre-activation bounds by random projections, for training; they prove nothing.

With the slopes of Wong & Kolter (2018), what a neuron can be lies within ‖D c‖ of a middle, where c
are the coefficients that a backward pass from it finds: at the input, where D is the radius, and at
every unstable ReLU below, where D is half of the intercept. Instead of a pass a neuron, a few
random vectors are pushed forward through all neurons at once (Wong et al. 2018, arXiv 1805.12514):

    ‖v‖₁ ≈ median |⟨r, v⟩|  over Cauchy r,      ‖v‖₂² ≈ mean ⟨r, v⟩²  over normal r.

There the ReLUs of every layer get vectors of their own. Here one set serves all sources of an ℓ1
norm, as theirs add up to one: k vectors a layer, whatever the depth, and one median.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bounds.dual.descent import numbers_of_neuron
from bounds.dual.fixed_slope import Faces
from bounds.dual.recomputed import KEPT
from bounds.errors import InvalidInputError
from bounds.network.affine import per_row
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.network.memory import pass_numbers
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.box import Box, InputSet
from bounds.sets.norm_balls import L2Ball

#: Of a node: the middle, (batch, *shape), and the projections of what is measured in the ℓ1 and in
#: the ℓ2 norm, (batch, vectors, *shape), where there is any.
State = tuple[Any, ...]


class Vectors:
    """`count` random vectors at each node, drawn when they are first asked for: the same for all
    inputs, and when something is computed again."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._drawn: dict[int, Tensor] = {}

    def at(self, node: int, like: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
        """(count, *shape) for `like` of shape (batch, *shape), filled by `draw`."""
        if node not in self._drawn:
            shape = self.count, *like.shape[1:]
            self._drawn[node] = draw(torch.empty(shape, dtype=like.dtype, device=like.device))
        return self._drawn[node]


class Projection:
    """Random vectors, pushed through a network as far as it is asked for.

    The box of an ℓ2 ball is left out.
    """

    def __init__(self, network: Network, input_set: InputSet, vectors: Vectors) -> None:
        self._network, self._input_set, self._vectors = network, input_set, vectors
        self._at: list[State] = []

    @property
    def together(self) -> int:
        """How many inputs' projections gradients may keep."""
        if not torch.is_grad_enabled():
            return len(self._input_set)
        return max(1, KEPT // (pass_numbers(self._network) * self._vectors.count))

    def cheaper(self, start: int, wanted: Tensor) -> bool:
        """Whether it is less work than a backward pass from each neuron that is wanted."""
        mine = len(wanted) * self._vectors.count * pass_numbers(self._network, start)
        return mine < int(wanted.sum()) * numbers_of_neuron(self._network, start)

    def bounds(self, start: int, below: Sequence[ReluBounds]) -> ReluBounds:
        """Estimates for all neurons of node `start`, given the bounds of the ReLUs below it."""
        relus = iter(below[sum(index < len(self._at) for index in self._network.relus) :])
        for node in self._network.nodes[len(self._at) : start + 1]:
            match node:
                case InputNode():
                    self._at.append(self._input())
                case AffineNode(parents=(parent,), operation=operation):
                    middle, *noises = self._at[parent]
                    pushed = (None if n is None else per_row(operation.linear, n) for n in noises)
                    self._at.append((operation.forward(middle), *pushed))
                case SumNode(parents=parents):
                    middles, *noises = zip(*(self._at[p] for p in parents), strict=True)
                    self._at.append((sum(middles[1:], middles[0]), *map(_sum, noises)))
                case ReluNode(parents=(parent,)):
                    self._at.append(self._relu(next(relus), *self._at[parent]))
                case _:
                    raise TypeError(f"Projection does not know {type(node).__name__}.")
        middle, first, second = self._at[start]
        radius = torch.zeros_like(middle)
        if first is not None:
            places = first.detach().abs().median(1, keepdim=True).indices
            radius = radius + first.gather(1, places).squeeze(1).abs()
        if second is not None:
            radius = radius + torch.linalg.vector_norm(second, dim=1) / math.sqrt(
                self._vectors.count
            )
        return ReluBounds(middle - radius, middle + radius)

    def _input(self) -> State:
        match self._input_set:
            case Box(lower=lower, upper=upper):
                return (lower + upper) / 2, self._cauchy(0, (upper - lower) / 2), None
            case L2Ball(centre=centre, radius=radius):
                normal = self._vectors.at(0, centre, Tensor.normal_)
                return centre, None, radius.reshape(-1, *[1] * normal.dim()) * normal
        raise InvalidInputError(
            f"robust_loss(projection={self._vectors.count}) got an "
            f"{type(self._input_set).__name__}, whose dual norm is not estimated: use norm=2 or "
            "norm=float('inf'), or projection=None."
        )

    def _relu(
        self, neurons: ReluBounds, middle: Tensor, first: Tensor | None, second: Tensor | None
    ) -> State:
        # Between the two faces of slope s: z lies within k/2 of s ẑ + k/2.
        faces = Faces.of(neurons, "fixed")
        above, half = faces.above.unsqueeze(1), faces.intercept / 2
        own = self._cauchy(len(self._at), half)
        return (
            faces.above * middle + half,
            own if first is None else torch.addcmul(own, above, first),
            None if second is None else above * second,
        )

    def _cauchy(self, node: int, sizes: Tensor) -> Tensor:
        return self._vectors.at(node, sizes, Tensor.cauchy_) * sizes.unsqueeze(1)


def _sum(noises: Sequence[Tensor | None]) -> Tensor | None:
    found = [noise for noise in noises if noise is not None]
    return sum(found[1:], found[0]) if found else None
