"""The ascent for nodes of branch and bound: what excludes all rows of a disjunct together.

The rows are weighed by λ on the simplex, which is a multiplier like any other: ∂d/∂λ_r is the row's
value where d is attained. Its steps are multiplicative (exponentiated gradients, Kivinen & Warmuth
1997), so that λ stays where it has to be. The nodes have one input set and differ in the phases of
its neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from bounds.network.graph import Network
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.box import InputSet
from bounds.solvers.slopes.ascent import SlopeAscent, to_last_relu

#: The first step of nodes that go on from others: those are near their best.
RATE = 0.2
#: The average of ẑ after k iterations weighs that of iteration j about as (j / k) ** DECAY.
DECAY = 3


class ConjunctionAscent(SlopeAscent):
    """λ · (⟨coefficients, network output⟩ + offset) of one input, R rows, at the best λ: the root,
    of which `nodes` makes others, B of them.

    coefficients: (1, R, *output_shape). offset: (1, R), in `best` here.

    best_slopes (B, 1, n), with β, and best_weights (B, 1, R): behind best. mean_pre (B, 1, n): the
    average of ẑ over the iterations.
    """

    _OF_ROWS = (*SlopeAscent._OF_ROWS, "weights", "best_slopes", "best_weights", "mean_pre")

    def __init__(
        self,
        network: Network,
        relu_bounds: Sequence[ReluBounds],
        input_set: InputSet,
        coefficients: Tensor,
        offset: Tensor,
    ) -> None:
        below, rows, constant = to_last_relu(network, coefficients)
        self._rows, self._offset = rows.flatten(2), constant + offset
        self.weights = torch.full_like(self._offset, 1 / rows.shape[1]).unsqueeze(1)
        self.best_weights = self.weights
        n = sum(int(neurons.unstable.sum()) for neurons in relu_bounds)
        self.best_slopes = coefficients.new_zeros(1, 1, n)
        self.mean_pre = torch.zeros_like(self.best_slopes)
        super().__init__(below, relu_bounds, input_set, rows[:, :1])

    @property
    def neurons(self) -> list[tuple[int, int]]:
        """Which ReLU's and which of its neurons each of the n is."""
        return [
            (k, flat) for k, layer in enumerate(self._layers) for flat in layer.index[0, 0].tolist()
        ]

    @property
    def arriving(self) -> Tensor:
        """ĉ at the last slopes; (B, 1, n)."""
        return self._arriving

    def nodes(
        self, phases: Tensor, slopes: Tensor, weights: Tensor, lower: Tensor, upper: Tensor
    ) -> ConjunctionAscent:
        """One for each of these phases (B, n), 1 where ẑ ≥ 0 is kept, −1 where ẑ ≤ 0, else 0: it
        begins at these slopes (B, n), with β, and weights (B, R). lower, upper: l and u of each,
        (B, n)."""
        part = copy(self)
        part._begin(phases, slopes, weights, lower, upper)
        return part

    def _begin(
        self, phases: Tensor, slopes: Tensor, weights: Tensor, lower: Tensor, upper: Tensor
    ) -> None:
        batch = len(phases)
        self._keep(phases, lower, upper)
        self._input_set = self._input_set.convert(
            lambda tensor: tensor.expand(batch, *tensor.shape[1:])
        )
        self._slopes, self.weights = slopes.unsqueeze(1), weights.unsqueeze(1)
        self.iteration, self._forgotten = 0, 1.0
        self.best = slopes.new_full((batch, 1), -torch.inf)
        self._rate = torch.full_like(self.best, RATE)
        nothing = torch.zeros_like(self._slopes)
        self._mean, self._mean_square = nothing.clone(), nothing.clone()
        self.best_nu = self.best_slopes = self.mean_pre = nothing
        self.best_weights = self.weights
        self._backward()
        self._unit = self._units()

    def _keep(self, phases: Tensor, lower: Tensor, upper: Tensor) -> None:
        """The triangles that these leave, of the only input of the root."""
        self._side = phases.unsqueeze(1)
        self._layers = [
            layer.kept(*(each[:, block].unsqueeze(1) for each in (phases, lower, upper)))
            for layer, block in zip(self._layers, self._blocks, strict=True)
        ]

    def settle(self) -> None:
        """Go back to where the best bound was."""
        self._slopes, self.weights = self.best_slopes, self.best_weights
        self._backward()
        self._forward()

    def values(self) -> Tensor:
        """The rows where d is attained, at z of the forward pass; (B, R)."""
        output = self._output.flatten(1)
        return output @ self._rows[0].T + self._offset

    def _step(self, unbiased: float) -> None:
        super()._step(unbiased)
        self.mean_pre = self.mean_pre.lerp(self._pre, (1 + DECAY) / (self.iteration + DECAY))
        if self.weights.shape[2] > 1:
            values = self.values().unsqueeze(1)
            values = values - (self.weights * values).sum(2, keepdim=True)
            size = values.abs().amax(2, keepdim=True) + torch.finfo(values.dtype).tiny
            raised = self.weights * torch.exp(self._rate.unsqueeze(2) * values / size)
            self.weights = raised / raised.sum(2, keepdim=True)

    def _backward(self) -> Tensor:
        mixed = self.weights @ self._rows
        self._coefficients = mixed.unflatten(2, self._network.output_shape)
        self._constant = (self.weights[:, 0] * self._offset).sum(1, keepdim=True)
        better = super()._backward()
        at = better.unsqueeze(2)
        self.best_slopes = torch.where(at, self._slopes, self.best_slopes)
        self.best_weights = torch.where(at, self.weights, self.best_weights)
        return better
