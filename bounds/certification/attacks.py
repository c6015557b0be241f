"""Attacks on the cross-entropy: the points of balls that a network answers worst, as far as found.

Their error is a lower bound of the robust error, as the certified error is an upper one. No library
serves here: adversarial-robustness-toolbox 1.20 computes in float32 alone, leaves the model in eval
mode and overwrites the gradients of its parameters; foolbox 3.3 (of 2024) adds to these gradients,
and its box is one pair of numbers. On 1,000 MNIST images they are as strong and no slower.
`bounds.certification.attack` searches for negative margins instead.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.read.torch.from_torch import from_torch
from bounds.relaxation.specification import margins
from bounds.sets.ball import Ball, Number
from bounds.sets.box import InputSet
from bounds.sets.norm_ball import NormBall

#: How far PGD can go in all, in radii (Madry et al. 2018, appendix), unless it is told a step.
LENGTH = 2.5


def fgs(
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor,
    *,
    radius: Number,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
) -> Tensor:
    """The fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572) and its like for ℓ2
    and ℓ1: where the linearised cross-entropy is largest over the ball and the box together.

    Args:
        model: what `robust_loss` takes, in the dtype of x; neither its mode nor the gradients of
            its parameters change.
        x, y: (batch, *input_shape), floating point, and the right classes, (batch,).
        radius, norm, lower, upper: as for `Ball`.

    Returns:
        Points (batch, *input_shape) that lie in the box exactly, and in an ℓ2 or ℓ1 ball as surely
        as `InputSet.inside` can prove it. Of the point that the step leads to and the one that it
        starts from, x (or the nearest point of the set), it is the worse one: answered wrongly, or
        else with the larger cross-entropy.

    Raises:
        InvalidInputError: what `Ball` and `margins` refuse.
    """
    search = _Search(model, x, y, Ball(x, radius=radius, norm=norm, lower=lower, upper=upper))
    search.visit(search.fgs_point())
    return search.points


def pgd(
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor,
    *,
    radius: Number,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
    steps: int = 40,
    step: float | None = None,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient ascent (Madry et al. 2018, arXiv 1706.06083) on the cross-entropy.

    Each run starts from a random point. Steps follow the sign of the gradient for ℓ∞, and the
    gradient itself, of length 1, for ℓ2 and ℓ1; each ends with the exact projection onto the ball
    and the box together.

    Args:
        model, x, y, radius, norm, lower, upper: as for `fgs`.
        steps: of each run, at least 1.
        step: their length, in the units of x; default 2.5 / steps of the radius, which for ℓ∞ is
            half the width that the set has in each coordinate.
        restarts: how many runs, at least 1.
        generator: of the random points, on the CPU; default: torch's own.

    Returns:
        Points as those of `fgs`: for each input the worst of all that were visited, and of the one
        that `fgs` finds.

    Raises:
        InvalidInputError: what `fgs` refuses, or steps, a step or restarts out of range.
    """
    for name, value in (("steps", steps), ("restarts", restarts)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInputError(f"pgd({name}={value!r}): expected an integer of at least 1.")
    if step is not None and not 0 < step < math.inf:
        raise InvalidInputError(f"pgd(step={step!r}): expected a positive number.")
    search = _Search(model, x, y, Ball(x, radius=radius, norm=norm, lower=lower, upper=upper))
    length = search.reach * LENGTH / steps if step is None else step
    search.visit(search.fgs_point())
    for _ in range(restarts):
        points = search.random_points(generator)
        for _ in range(steps):
            gradient = search.visit(points)
            points = search.place(points + length * search.direction(gradient))
        search.visit(points)
    return search.points


class _Search:
    """The worst point of each ball so far: `points`."""

    def __init__(self, model: nn.Module | Network, x: Tensor, y: Tensor, ball: Ball) -> None:
        shape = tuple(x.shape[1:])
        network = model if isinstance(model, Network) else from_torch(model, shape)
        margins(y, math.prod(network.output_shape))  # refuses what are no classes
        if y.shape != x.shape[:1]:
            raise InvalidInputError(
                f"an attack got {tuple(y.shape)} labels for inputs of shape {tuple(x.shape)}: give "
                "one class an input."
            )
        for parameter in network.parameters[:1]:
            if parameter.dtype != x.dtype or parameter.device != x.device:
                raise InvalidInputError(
                    f"an attack got a network in {parameter.dtype} on {parameter.device} and "
                    f"inputs in {x.dtype} on {x.device}: convert one with .to(...)."
                )
        # Read as a network, so as to refuse what is no function of the input alone, such as dropout
        # that is active; but a module's own convolutions are faster.
        self._call, self._y = model, y.long()
        self._set: InputSet = ball.resolve(network.input_shape)
        self.points = self.place(ball.x.detach())
        self._wrong = torch.zeros_like(y, dtype=torch.bool)
        self._excess = torch.full_like(self.points.flatten(1)[:, 0], -torch.inf)
        self._gradient = self.visit(self.points)

    @property
    def reach(self) -> Tensor:
        """The radius, or in a box half its width; broadcasts to x."""
        if isinstance(self._set, NormBall):
            return self._set.radius.reshape(-1, *[1] * (self.points.dim() - 1))
        return (self._set.upper - self._set.lower) / 2

    def place(self, points: Tensor) -> Tensor:
        """The nearest points of the set."""
        return self._set.inside(self._set.project(points.unsqueeze(1)))[0].squeeze(1)

    def fgs_point(self) -> Tensor:
        return self.place(self._set.argmin(-self._gradient.unsqueeze(1)).squeeze(1))

    def random_points(self, generator: torch.Generator | None) -> Tensor:
        """Uniform in a box; for a ball, in a random direction, on its surface."""
        lower, upper = self._set.lower, self._set.upper
        if not isinstance(self._set, NormBall):
            share = torch.rand(lower.shape, generator=generator, dtype=torch.float64)
            return self.place(lower + share.to(lower) * (upper - lower))
        away = torch.randn(lower.shape, generator=generator, dtype=torch.float64).to(lower)
        size = away.flatten(1).norm(self._set.order, dim=1).reshape_as(self.reach)
        return self.place(self._set.centre + self.reach * away / size)

    def direction(self, gradient: Tensor) -> Tensor:
        if isinstance(self._set, NormBall):
            return F.normalize(gradient.flatten(1)).reshape(gradient.shape)
        return gradient.sign()

    @torch.enable_grad()
    def visit(self, points: Tensor) -> Tensor:
        """Keep the points that are worse than those before; the gradient there.

        The cross-entropy is log(1 + eᵛ), with v how much the other logits exceed that of y. It
        rises with v and in the same direction, but where an answer is confident it rounds to 0.
        """
        x = points.detach().requires_grad_()
        logits, label = self._call(x).flatten(1), self._y.unsqueeze(1)
        others = logits.scatter(1, label, -torch.inf).logsumexp(1)
        excess = others - logits.gather(1, label).squeeze(1)
        [gradient] = torch.autograd.grad(excess.sum(), x)
        excess = excess.detach()
        finite = torch.isfinite(excess)  # an overflow shows nothing
        wrong = (logits.argmax(1) != self._y) & finite
        larger = (wrong == self._wrong) & finite & (excess > self._excess)
        worse = (wrong & ~self._wrong) | larger
        self._wrong, self._excess = self._wrong | wrong, torch.where(worse, excess, self._excess)
        each = worse.reshape(-1, *[1] * (points.dim() - 1))
        self.points = torch.where(each, points.detach(), self.points)
        return gradient
