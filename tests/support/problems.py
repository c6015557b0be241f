"""Hypothesis strategies for problems on drawn networks, and points to judge bounds by.

What is drawn prints as a reproducer: paste the `Problem(...)` and call its `relax()`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from bounds import from_torch
from bounds.intermediate.relax import relax
from bounds.network.graph import Network
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.specification import Specification, margins
from bounds.sets.ball import Ball
from bounds.sets.box import InputSet
from bounds.sets.norm_balls import NormBall
from tests.support.networks import Architecture, Dice, architectures, seeds

Spread = Literal["number", "input", "coordinate"]
Rows = Literal["margins", "random", "zero", "duplicate", "own"]

#: The norms whose balls are polyhedra, and all norms.
POLYHEDRAL, NORMS = (math.inf, 1), (math.inf, 1, 2)


@dataclass(frozen=True)
class Problem:
    """A network, a batch of balls and a specification.

    spread: one radius, one an input, or for ℓ∞ one a coordinate (some of them 0).
    clip: intersect with the box [−0.5, 0.8], outside which some centres lie.
    rows: margins of random labels; random rows; a zero row among them; one row twice; rows of each
        input's own.
    norm: of the balls.
    """

    architecture: Architecture
    batch: int
    radius: float
    spread: Spread
    clip: bool
    rows: Rows
    seed: int
    norm: float = math.inf

    @cached_property
    def model(self) -> nn.Sequential:
        return self.architecture.build()

    @cached_property
    def network(self) -> Network:
        return from_torch(self.model, self.architecture.input_shape)

    @cached_property
    def centre(self) -> Tensor:
        x = Dice(self.seed).normal(self.batch, *self.architecture.input_shape) / 2
        return x.clamp(-0.5, 0.8) if self.clip else x

    @property
    def ball(self) -> Ball:
        dice, shape = Dice(self.seed + 1), self.architecture.input_shape
        radius: Tensor | float = self.radius
        if self.spread == "input":
            radius = self.radius * dice.uniform(self.batch, *[1] * len(shape))
        elif self.spread == "coordinate":
            radius = self.radius * dice.uniform(1, *shape) * dice.below(4, 1, *shape).clamp(max=1)
        if not self.clip:
            return Ball(self.centre, radius=radius, norm=self.norm)
        # What lies on a face steps outside, in all coordinates together by half the radius at most.
        x, step = self.centre, radius / (2 * math.prod(shape))
        x = x + step * ((x == 0.8).double() - (x == -0.5).double())
        return Ball(x, radius=radius, norm=self.norm, lower=-0.5, upper=0.8)

    @property
    def input_set(self) -> InputSet:
        return self.ball.resolve(self.architecture.input_shape)

    @property
    def specification(self) -> Specification:
        dice, outputs = Dice(self.seed + 2), math.prod(self.network.output_shape)
        if self.rows == "margins":
            return margins(label=dice.below(outputs, self.batch), classes=outputs)
        count = 1 + int(dice.below(4))
        if self.rows == "own":
            return Specification(
                dice.normal(self.batch, count, outputs), dice.normal(self.batch, count)
            )
        C = dice.normal(count, outputs)
        if self.rows == "zero":
            C[int(dice.below(count))] = 0.0
        elif self.rows == "duplicate":
            C = torch.cat((C, C[:1]))
        return Specification(C, dice.normal(len(C)))

    def relax(self, **options: Any) -> Relaxation:
        return relax(self.network, self.ball, self.specification, **options)


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    networks: st.SearchStrategy[Architecture] | None = None,
    batch: st.SearchStrategy[int] | None = None,
    norms: tuple[float, ...] = POLYHEDRAL,
) -> Problem:
    """Problems on drawn networks: batches of one to three, radii from 0 to 1, in ℓ1 and ℓ2 to 3."""
    norm = draw(st.sampled_from([math.inf, *norms]))
    round_ = norm != math.inf
    return Problem(
        architecture=draw(architectures() if networks is None else networks),
        batch=draw(st.integers(1, 3) if batch is None else batch),
        radius=draw(st.sampled_from([0.3, 0.0, 1e-3, 0.1, 0.3, 1.0, 3.0 if round_ else 1.0])),
        spread=draw(st.sampled_from(["number", "input", *["coordinate"] * (not round_)])),
        clip=draw(st.booleans()),
        rows=draw(st.sampled_from(["margins", "random", "zero", "duplicate", "own"])),
        seed=draw(seeds),
        norm=norm,
    )


def points(input_set: InputSet, count: int, seed: int = 0) -> Tensor:
    """Points of each set, of shape (batch, count, *input_shape).

    Half of a box's points are corners. Those of a ball lie where the way from a point of the set to
    one of its box leaves it, along all coordinates, half of them, or few.
    """
    dice, batch, shape = Dice(seed), len(input_set), input_set.lower.shape[1:]
    share = dice.uniform(batch, count, *shape)
    share[:, ::2] = share[:, ::2].round()
    share = share.to(input_set.lower)
    lower, upper = input_set.lower.unsqueeze(1), input_set.upper.unsqueeze(1)
    inside = lower + share * (upper - lower)
    # Rounding may take the sum out of the box by a bit.
    x = torch.where(share == 1, upper, torch.maximum(torch.minimum(inside, upper), lower))
    if not isinstance(input_set, NormBall):
        return x
    density = torch.tensor([1.0, 1.0, 0.5, 1 / math.prod(shape)])[dice.below(4, batch, count)]
    moved = dice.uniform(batch, count, math.prod(shape)) <= density.unsqueeze(2)
    start = torch.minimum(torch.maximum(input_set.centre, input_set.lower), input_set.upper)
    return pulled(input_set, torch.where(moved.reshape(x.shape), x, start.unsqueeze(1)))


def pulled(ball: NormBall, x: Tensor) -> Tensor:
    """Points of the ball's box, pulled as far as needed towards the one nearest to the centre."""
    lower, upper = ball.lower.unsqueeze(1), ball.upper.unsqueeze(1)
    start = torch.minimum(torch.maximum(ball.centre.unsqueeze(1), lower), upper)

    def at(share: Tensor) -> Tensor:
        between = start + share.reshape(*share.shape, *[1] * (x.dim() - 2)) * (x - start)
        return torch.minimum(torch.maximum(between, lower), upper)

    inside, outside = x.new_zeros(x.shape[:2]), x.new_ones(x.shape[:2])
    for _ in range(60):
        middle = (inside + outside) / 2
        away = (at(middle) - ball.centre.unsqueeze(1)).flatten(2)
        within = torch.linalg.vector_norm(away, ball.order, dim=2) <= ball.radius.unsqueeze(1)
        inside = torch.where(within, middle, inside)
        outside = torch.where(within, outside, middle)
    return at(inside)


def pre_activations(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What each nn.ReLU of the module gets, in the order in which they run."""
    found: list[Tensor] = []
    handles = [
        module.register_forward_pre_hook(lambda _, args: found.append(args[0].clone()))
        for module in model.modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return found
