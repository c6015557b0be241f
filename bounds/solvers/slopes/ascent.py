"""Projected ascent on the slopes of the lower faces: the dual bound as a function of slopes alone.

Let ĉ be the coefficient that arrives at an unstable neuron. If ĉ < 0, the neuron's own term of the
dual (`bounds.dual.dual`) is largest at ν = ĉ u / (u − l); if ĉ ≥ 0, it is 0 for every ν = α ĉ with
0 ≤ α ≤ 1. What is left to choose are the slopes α (α-CROWN, Xu et al. 2021, arXiv 2011.13824):

    d(α) = constant + min over X of ⟨c, x⟩ − Σ over ĉ_i < 0 of ĉ_i u_i l_i / (u_i − l_i).

One transposed pass gives d, every ĉ and the minimiser x. One forward pass from x, with each
unstable ReLU replaced by the line that ν stands for, z = α ẑ or z = u (ẑ − l) / (u − l), gives ẑ,
and by the envelope theorem ∂d/∂ν_i = ẑ_i and ∂d/∂α_i = ĉ_i ẑ_i where ĉ_i ≥ 0. The ascent follows ẑ:
what is multiplied by ĉ vanishes with it, and d, which is concave in ν but not in α, has saddles
there. Where ẑ leads nowhere, α ẑ = max(ẑ, 0): the forward pass is then a feasible point of the LP
whose objective is d, unless l and u are tighter than what the layers below imply, which those of
`bounds.relax` are not.

A neuron that is kept on one side of 0 is a line, whatever ĉ is, and its side has a multiplier β ≥ 0
of its own (β-CROWN, Wang et al. 2021, arXiv 2103.06624):

| kept where | ν     | z in the forward pass | ∂d/∂β |
|------------|-------|-----------------------|-------|
| ẑ ≥ 0      | ĉ − β | ẑ                     | −ẑ    |
| ẑ ≤ 0      | β     | 0                     | ẑ     |

Its own term is 0 for every such ν, of which those with β = 0 are what a slope gives. β has no upper
end, and d has none where no input has all phases.

The steps are Adam's (Kingma & Ba 2015, arXiv 1412.6980), projected on [0, 1] and on β ≥ 0. Those of
β are measured in coefficients that arrive at the neuron's layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.dual.fixed_slope import RULES
from bounds.network.graph import Network
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.box import InputSet
from bounds.solvers.slopes.layer import Layer

#: Adam's first step, in units of the slope, and the decays of its two means.
RATE, FIRST, SECOND = 0.5, 0.9, 0.999
#: The first decay grows to that from 1 / (1 + LAG): few steps are better off without the directions
#: of the first ones, which all have the same size.
LAG = 10
#: A row's step shrinks by this factor where it finds no better bound, but to no less than
#: 1 / (1 + iteration), whose sum diverges: no row comes to rest far from its maximum.
SHRINK = 0.98
#: What steps of β are measured in, as a multiple of the mean size of what arrives at the layer.
FAR = 10


class SlopeAscent:
    """The rows ⟨coefficients, network output⟩ of B inputs, S rows each; n unstable neurons in all.

    best (B, S): the largest d that a row has seen, at the multipliers best_nu (B, S, n). magnitude
    (B, S): of the terms of the last d. x (B, S, *input_shape) and z (B, S, n): where the d of the
    slopes that an iteration began with is attained, x in the input set, z in its triangle or not.
    Among the slopes of split neurons are their β.

    To be used without gradients.
    """

    #: What each row has of its own between two iterations.
    _OF_ROWS: tuple[str, ...] = (
        "best",
        "best_nu",
        "magnitude",
        "_slopes",
        "_unit",
        "_coefficients",
        "_constant",
        "_at_input",
        "_arriving",
        "_line",
        "_nu",
        "_rate",
        "_mean",
        "_mean_square",
    )

    def __init__(
        self,
        network: Network,
        relu_bounds: Sequence[ReluBounds],
        input_set: InputSet,
        coefficients: Tensor,
    ) -> None:
        self._network, self._coefficients, self._constant = to_last_relu(network, coefficients)
        self._input_set = input_set
        # Copies: what a `ReluBounds` caches without gradients would lack them ever after.
        relu_bounds = [neurons.convert(Tensor.detach) for neurons in relu_bounds]
        self._layers = [Layer.of(neurons) for neurons in relu_bounds]
        ends = [0]
        for layer in self._layers:
            ends.append(ends[-1] + layer.index.shape[2])
        self._blocks = [slice(*pair) for pair in pairwise(ends)]
        nothing = coefficients.new_zeros(len(coefficients), 1, 0)
        self._side = torch.cat([nothing, *(layer.side for layer in self._layers)], 2)

        self.iteration = 0
        self._forgotten = 1.0  # the share of the mean that its start at 0 still has
        self.best = torch.full_like(self._constant, -torch.inf)
        self.best_nu = coefficients.new_zeros(*coefficients.shape[:2], ends[-1])
        self._rate = torch.full_like(self.best, RATE)
        self._mean = torch.zeros_like(self.best_nu)
        self._mean_square = torch.zeros_like(self.best_nu)
        start = self.best_nu
        for rule in RULES.values():
            # The slopes of a one-pass bound are the multipliers that its rule gives to ĉ = 1.
            slopes = [start.new_zeros(len(start), 1, 0)]
            for position, neurons in enumerate(relu_bounds):
                layer = self._layers[position]
                slopes.append(layer.gather(rule(position, torch.ones_like(layer.active), neurons)))
            # β begins with 0.
            self._slopes = (torch.cat(slopes, 2) * (self._side == 0)).expand_as(start)
            start = torch.where(self._backward().unsqueeze(2), self._slopes, start)
        self._slopes = start
        self._backward()
        self._unit = self._units()

    def advance(self) -> None:
        """One iteration: the direction at the current slopes, a step, and d where it leads."""
        self.iteration += 1
        up = self._forward()
        first = min(FIRST, self.iteration / (self.iteration + LAG))
        self._forgotten *= first
        self._mean.lerp_(up, 1 - first)
        self._mean_square.mul_(SECOND).addcmul_(up, up, value=1 - SECOND)
        self._step((1 - SECOND**self.iteration) ** 0.5 / (1 - self._forgotten))
        better = self._backward()
        shrunk = (SHRINK * self._rate).clamp(min=1 / (1 + self.iteration))
        self._rate = torch.where(better, self._rate, shrunk)

    def _step(self, unbiased: float) -> None:
        step = self._mean / (self._mean_square.sqrt() + torch.finfo(self._mean.dtype).tiny)
        step *= (unbiased * self._rate).unsqueeze(2) * self._unit
        self._slopes = (self._slopes + step).clamp_(min=0)
        self._slopes = torch.where(self._side == 0, self._slopes.clamp(max=1), self._slopes)

    def take(self, images: Tensor, rows: Tensor) -> Self:
        """These inputs (B',) and, of each, these rows (B', S'), as far as they have come."""
        part = copy(self)
        part._input_set = self._input_set.convert(lambda tensor: tensor[images])
        part._layers = [layer.take(images) for layer in self._layers]
        part._side = self._side[images]
        for name in self._OF_ROWS:
            setattr(part, name, getattr(self, name)[images.unsqueeze(1), rows])
        return part

    def scatter(self, values: Tensor) -> tuple[Tensor, ...]:
        """(B, S, n) values as one (B, S, *shape) tensor a ReLU, with 0 at stable neurons."""
        found = []
        for layer, block in zip(self._layers, self._blocks, strict=True):
            nothing = values.new_zeros(*values.shape[:2], *layer.active.shape[2:])
            found.append(layer.merge(nothing, values[:, :, block]))
        return tuple(found)

    def _backward(self) -> Tensor:
        """d at the slopes, and whether it is a row's largest so far."""
        self._arriving, self._line = torch.zeros_like(self._slopes), torch.zeros_like(self._slopes)
        of_neurons, self._nu = torch.zeros_like(self.best), torch.zeros_like(self._slopes)

        def through(position: int, arriving: Tensor) -> Tensor:
            nonlocal of_neurons
            layer, block = self._layers[position], self._blocks[position]
            c = layer.gather(arriving)
            slopes = self._slopes[:, :, block]
            line = torch.where((c < 0) | (layer.side != 0), layer.slope, slopes)
            of_neurons = of_neurons + (c.clamp(max=0) * layer.intercept).sum(2)
            self._arriving[:, :, block], self._line[:, :, block] = c, line
            self._nu[:, :, block] = self._pulled(c * line - layer.side * slopes, block)
            return layer.merge(arriving, self._nu[:, :, block])

        last = len(self._network.nodes) - 1
        constant, self._at_input = self._network.backward(last, self._coefficients, through)
        terms = torch.stack(
            (self._constant + constant, self._input_set.minimum(self._at_input), of_neurons)
        )
        value, self.magnitude = terms.sum(0), terms.abs().sum(0)
        # A NaN compares false: it never replaces a bound.
        better = value > self.best
        self.best = torch.where(better, value, self.best)
        self.best_nu = torch.where(better.unsqueeze(2), self._nu, self.best_nu)
        return better

    def _pulled(self, nu: Tensor, block: slice) -> Tensor:
        """What goes on to ẑ of these neurons; rows that ask for ẑ itself add to ν."""
        return nu

    def _forward(self) -> Tensor:
        """x and z where the last d is attained; returns the direction of ascent."""
        self.x = self._input_set.argmin(self._at_input)
        self.z, self._pre = torch.zeros_like(self._slopes), torch.zeros_like(self._slopes)

        def relu(position: int, flat: Tensor) -> Tensor:
            layer, block = self._layers[position], self._blocks[position]
            values = flat.unflatten(0, self.best.shape)
            at = layer.gather(values)
            z = self._line[:, :, block] * at + (self._arriving[:, :, block] < 0) * layer.intercept
            self._pre[:, :, block], self.z[:, :, block] = at, z
            return layer.merge(values, z).flatten(0, 1)

        self._output = self._network.evaluate(self.x.flatten(0, 1), relu)
        pre = self._pre
        return torch.where(self._side == 0, (self._arriving >= 0) * pre, -self._side * pre)

    def _units(self) -> Tensor:
        """What steps are measured in: 1 for slopes, and for β the size of what arrives at the
        layer, or anywhere if that is 0."""
        size = FAR * self._arriving.abs()
        anywhere = size.mean(2, keepdim=True)
        anywhere = torch.where(anywhere > 0, anywhere, 1.0)
        unit = torch.ones_like(size)
        for layer, block in zip(self._layers, self._blocks, strict=True):
            of_layer = size[:, :, block].sum(2, keepdim=True) / layer.real.sum(2, keepdim=True)
            unit[:, :, block] = torch.where(of_layer > 0, of_layer, anywhere)
        return torch.where(self._side == 0, 1.0, unit)


def ascend(
    network: Network,
    relu_bounds: Sequence[ReluBounds],
    input_set: InputSet,
    start: int,
    coefficients: Tensor,
    *,
    iterations: int,
    deadline: Deadline,
) -> tuple[Tensor, ...]:
    """The multipliers of the rows ⟨coefficients, node `start`⟩ with the best slopes found in time.

    They are constants for gradients: by the envelope theorem, the gradients at them are those of
    the best bound, as far as the slopes are the best.
    """
    with torch.no_grad():
        below = Network(network.nodes[: start + 1])
        ascent = SlopeAscent(below, relu_bounds, input_set, coefficients)
        for _ in range(iterations):
            if deadline.passed:
                break
            ascent.advance()
        return ascent.scatter(ascent.best_nu)


def to_last_relu(network: Network, coefficients: Tensor) -> tuple[Network, Tensor, Tensor]:
    """The same rows on the output of the last ReLU, if nothing bypasses it, and their constant.

    What stands above does not depend on slopes: it is passed once, not once an iteration.
    """
    constant = coefficients.new_zeros(coefficients.shape[:2])
    if not network.relus or not _is_bottleneck(network, network.relus[-1]):
        return network, coefficients, constant
    at_relu = coefficients

    def stop(position: int, arriving: Tensor) -> Tensor:
        nonlocal at_relu
        if position == len(network.relus) - 1:
            at_relu = arriving
        return torch.zeros_like(arriving)

    constant, _ = network.backward(len(network.nodes) - 1, coefficients, stop)
    return Network(network.nodes[: network.relus[-1] + 1]), at_relu, constant


def _is_bottleneck(network: Network, node: int) -> bool:
    """Whether every path from the input to the output goes through `node`."""
    above = {len(network.nodes) - 1}
    while max(above) > node:
        above |= set(network.nodes[max(above)].parents)
        above.remove(max(above))
    return above == {node}
