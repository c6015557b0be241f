"""The ascent on the ends of neurons where all rows of a disjunct are at most 0.

    s ẑ_j ≥ min of s ẑ_j + λ · rows,   s = ±1, λ ≥ 0,

wherever the rows are at most 0 (bounds with the property's own constraint: Kotha et al. 2023, arXiv
2302.01404). One backward pass evaluates the right side: it begins with the rows, weighed by λ, and
s joins ν at ẑ_j. λ is of any size here, not on the simplex, and steps on its logarithm.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.solvers.slopes.conjunction import ConjunctionAscent

#: The first step, how much smaller every next one is, and steps of log λ as a multiple.
RATE, SHRINK, LARGER = 0.3, 0.97, 2.0
#: The decays of Adam's means. The problem changes with every iteration, as ends do.
FIRST, SECOND = 0.7, 0.95


class TighteningAscent(ConjunctionAscent):
    """B tasks on one node, a neuron and a sign each.

    neuron, sign: j and s, (B, 1). better (B, 1): whether the last slopes and λ, which are those of
    `nu`, `arriving` and `weights`, gave the largest right side of a task so far, which is `best`.
    """

    _OF_ROWS = (
        *ConjunctionAscent._OF_ROWS, "neuron", "sign", "better", "_pull", "_drift", "_drift_square"
    )  # fmt: skip

    def __init__(
        self,
        root: ConjunctionAscent,
        neuron: Tensor,
        sign: Tensor,
        weights: Tensor,
        slopes: Tensor,
        phases: Tensor,
        lower: Tensor,
        upper: Tensor,
    ) -> None:
        """neuron, sign: (B,). weights: where λ begins, (B, R). The others are the node's, (n,)."""
        vars(self).update(vars(root))
        self.neuron, self.sign = neuron.unsqueeze(1), sign.unsqueeze(1)
        everywhere = (each.expand(len(neuron), -1) for each in (phases, slopes, lower, upper))
        held, start, low, high = everywhere
        self._pull = torch.zeros_like(start).scatter_(1, self.neuron, self.sign).unsqueeze(1)
        self._drift, self._drift_square = torch.zeros(2, *weights.unsqueeze(1).shape).to(weights)
        self._begin(held, start, weights, low, high)

    @property
    def nu(self) -> Tensor:
        """What goes on to ẑ, s included, (B, 1, n)."""
        return self._nu

    @property
    def own(self) -> Tensor:
        """s of task's own neuron and 0 of others, (B, 1, n)."""
        return self._pull

    def iterate(self, phases: Tensor, lower: Tensor, upper: Tensor) -> None:
        """One iteration; the node has these by now, (n,). Neurons that it splits begin with β = 0.

        `advance` would go on with the problem as it was.
        """
        self.iteration += 1
        rate = RATE * SHRINK**self.iteration
        step = self._adam(self._mean, self._mean_square, self._forward())
        slopes = (self._slopes + rate * self._unit * step).clamp_(min=0)
        self._slopes = torch.where(self._side == 0, slopes.clamp(max=1), slopes)
        up = self.weights * self.values().unsqueeze(1)
        step = self._adam(self._drift, self._drift_square, up)
        self.weights = self.weights * torch.exp(LARGER * rate * step)
        new = (phases != 0) & (self._side[0, 0] == 0)
        if bool(new.any()):
            for each in (self._slopes, self._mean, self._mean_square):
                each.masked_fill_(new, 0.0)
        count = len(self.neuron)
        self._keep(*(each.expand(count, -1) for each in (phases, lower, upper)))
        self._backward()
        if bool(new.any()):
            self._unit = torch.where(new, self._units(), self._unit)

    def _adam(self, mean: Tensor, square: Tensor, up: Tensor) -> Tensor:
        mean.lerp_(up, 1 - FIRST)
        square.mul_(SECOND).addcmul_(up, up, value=1 - SECOND)
        size = (square / (1 - SECOND**self.iteration)).sqrt() + torch.finfo(up.dtype).tiny
        return mean / (1 - FIRST**self.iteration) / size

    def _pulled(self, nu: Tensor, block: slice) -> Tensor:
        return nu + self._pull[:, :, block]

    def _backward(self) -> Tensor:
        self.better = super()._backward()
        return self.better
