"""Attacks: points of sets where a network does worst, as far as found. They prove nothing.

All are projected gradient descents (Madry et al. 2018, arXiv 1706.06083) on a loss: `fgs` and `pgd`
on minus the cross-entropy, `attack` on the rows of a specification, for counterexamples. The error
under attack is a lower bound of the robust error, as the certified error is an upper one.

No library serves here: adversarial-robustness-toolbox 1.20 computes in float32 alone, leaves the
model in eval mode and overwrites the gradients of its parameters; foolbox 3.3 (of 2024) adds to
these gradients, and its box is one pair of numbers. On 1,000 MNIST images they are as strong and no
slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bounds.arguments import (
    class_labels,
    number_of_classes,
    require_floats,
    require_positive,
    require_whole,
    shown,
)
from bounds.deadline import Deadline
from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.network.memory import pass_numbers
from bounds.read.model import network_of, ordinary
from bounds.sets.ball import Ball
from bounds.sets.box import InputSet
from bounds.sets.norm_ball import NormBall
from bounds.sets.numbers import Number

#: How far PGD can go in all, in radii (Madry et al. 2018, appendix), unless it is told a step.
LENGTH = 2.5
#: Of `attack`: steps, the length of the first in radii, and how much shorter each is than the last.
STEPS, FIRST_STEP, SHRINK = 40, 0.5, 0.9
#: A share of the largest |x| that is thousands of times what float32 tells apart.
ROUGH = 2.0**-12
#: Points that each search of `attack` starts from at random: so many that a pass holds about as
#: many numbers, within limits.
NUMBERS, FEWEST, MOST = 2**19, 16, 256
#: As many beside a point that an LP suggests: a search asks after 1, 2, 4, ... nodes, and each time
#: about another point.
BESIDE = 4

#: Given points (searches, points, *input_shape): the number to make small, and whether the point is
#: one of those that are looked for, which come before all others; both (searches, points).
Loss = Callable[[Tensor], tuple[Tensor, Tensor]]


@torch.inference_mode(False)
def fgs(
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor | int,
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
        x, y: (batch, *input_shape), floating point, and the right classes, (batch,), or one number
            for all.
        radius, norm, lower, upper: as for `Ball`.

    Returns:
        Points (batch, *input_shape) that lie in the box exactly, and in an ℓ2 or ℓ1 ball as surely
        as `InputSet.inside` can prove it. Of the point that the step leads to and the one that it
        starts from, x (or the nearest point of the set), it is the worse one: answered wrongly, or
        else with the larger cross-entropy.

    Raises:
        InvalidInputError: what `Ball` refuses, labels that are no classes or not one an input, or a
            model of another dtype.
        UnsupportedLayerError: what `from_torch` does not model.

    >>> import torch
    >>> fgs(torch.nn.Identity(), torch.zeros(1, 2), 0, radius=0.5).tolist()
    [[-0.5, 0.5]]
    """
    ball = _ball("fgs", x, radius=radius, norm=norm, lower=lower, upper=upper)
    return _from_centres("fgs", model, ball, y)[0].points


@torch.inference_mode(False)
def pgd(
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor | int,
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
        UnsupportedLayerError: what `from_torch` does not model.

    >>> import torch
    >>> pgd(torch.nn.Identity(), torch.zeros(1, 2), 0, radius=0.5, steps=5).tolist()
    [[-0.5, 0.5]]
    """
    steps, restarts = (
        require_whole("pgd", "steps", steps),
        require_whole("pgd", "restarts", restarts),
    )
    if step is not None:
        step = require_positive("pgd", "step", step, "a positive number")
    on_cpu = isinstance(generator, torch.Generator) and generator.device.type == "cpu"
    if generator is not None and not on_cpu:
        raise InvalidInputError(
            f"pgd(generator) got {shown(generator)}, expected a torch.Generator on the CPU: make "
            "one with torch.Generator()."
        )
    ball = _ball("pgd", x, radius=radius, norm=norm, lower=lower, upper=upper)
    search, loss = _from_centres("pgd", model, ball, y)
    length = search.reach * LENGTH / steps if step is None else step
    for _ in range(restarts):
        search.descend(loss, search.random_points(1, generator), [length] * steps)
    return search.points


def attack(
    network: Network,
    input_set: InputSet,
    C: Tensor,
    d: Tensor,
    starts: Tensor,
    *,
    random: int,
    generator: torch.Generator,
    deadline: Deadline,
) -> tuple[Tensor, Tensor]:
    """Search each set for the point where the largest of its rows ⟨c, net(x)⟩ + d is smallest.

    Steps are taken in float32 where that tells the points of the sets apart, and what is returned
    is computed as the network is.

    Args:
        input_set: one set a search. C: (searches, rows, *output_shape). d: (searches, rows).
        starts: (searches, points, *input_shape), points to start from, beside so many random ones.

    Returns:
        The best points, (searches, *input_shape), and the largest row of each, (searches,). At a
        negative one, all rows are negative.
    """
    C, network = C.flatten(2), network.detach()

    def loss(network: Network, C: Tensor, d: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        y = network(points.to(C.dtype).flatten(0, 1)).reshape(*points.shape[:2], -1)
        largest = (torch.einsum("bpo,bro->bpr", y, C) + d.unsqueeze(1)).amax(2)
        return largest.to(points), largest < 0

    search = Search(input_set, starts[:, 0])
    lengths = [search.reach * FIRST_STEP * SHRINK**k for k in range(STEPS)]
    points = search.place(torch.cat((starts, search.random_points(random, generator)), 1))
    if told_apart(input_set):
        rough = partial(loss, network.to(torch.float32), C.float(), d.float())
        search.descend(rough, points, lengths, deadline)
        if bool(search.smallest.isfinite().all()):  # nothing exceeds float32's numbers
            points, lengths = search.place(torch.cat((search.points.unsqueeze(1), starts), 1)), []
        search = Search(input_set, starts[:, 0])
    search.descend(partial(loss, network, C, d), points, lengths, deadline)
    return search.points, search.smallest


def told_apart(input_set: InputSet) -> bool:
    """Whether the points of the sets are so far apart that float32 tells them from each other,
    rather than float64, which they are in."""
    width = input_set.upper - input_set.lower
    wide = (width == 0) | (width > ROUGH * input_set.magnitude)
    return width.dtype == torch.float64 and bool(wide.all())


def restarts(network: Network) -> int:
    """How many random points a search of `attack` starts from where nothing says where to look."""
    return min(MOST, max(FEWEST, NUMBERS // pass_numbers(network)))


class Search:
    """The point of each set where a loss is smallest so far: `points`, (searches, *input_shape),
    with `smallest`, (searches,)."""

    def __init__(self, input_set: InputSet, starts: Tensor) -> None:
        """starts: (searches, *input_shape); near the sets, or in them."""
        self._set = input_set
        self.points = self.place(starts.unsqueeze(1)).squeeze(1)
        self.smallest = torch.full_like(self.points.flatten(1)[:, 0], torch.inf)
        self._found = torch.zeros_like(self.smallest, dtype=torch.bool)

    @property
    def reach(self) -> Tensor:
        """The radius, or in a box half its width, to broadcast to points."""
        if isinstance(self._set, NormBall):
            return self._set.radius.reshape(-1, *[1] * self.points.dim())
        return ((self._set.upper - self._set.lower) / 2).unsqueeze(1)

    def place(self, points: Tensor) -> Tensor:
        """The nearest points of the sets."""
        return self._set.inside(self._set.project(points))[0]

    def random_points(self, count: int, generator: torch.Generator | None) -> Tensor:
        """(searches, count, *input_shape). Of a box: uniform, but every second one a corner, which
        are likelier to be worst; of a ball: in a random direction, on its surface."""
        lower, upper = self._set.lower.unsqueeze(1), self._set.upper.unsqueeze(1)
        shape = (len(lower), count, *lower.shape[2:])
        if not isinstance(self._set, NormBall):
            share = torch.rand(shape, generator=generator, dtype=torch.float64)
            share[:, 1::2] = share[:, 1::2].round()
            return self.place(lower + share.to(lower) * (upper - lower))
        away = torch.randn(shape, generator=generator, dtype=torch.float64).to(lower)
        size = (
            away.flatten(2).norm(self._set.order, dim=2).reshape(*shape[:2], *[1] * len(shape[2:]))
        )
        return self.place(self._set.centre.unsqueeze(1) + self.reach * away / size)

    def linearised(self, gradient: Tensor) -> Tensor:
        """Where a linear loss is smallest, given its gradient."""
        return self.place(self._set.argmin(gradient))

    def descend(
        self,
        loss: Loss,
        points: Tensor,
        lengths: Iterable[Tensor | float],
        deadline: Deadline | None = None,
    ) -> None:
        """Steps of these lengths from points of the sets, (searches, points, *input_shape)."""
        for length in lengths:
            gradient = self.visit(loss, points)
            if deadline is not None and deadline.passed:
                return
            direction = gradient.sign()
            if isinstance(self._set, NormBall):
                direction = F.normalize(gradient.flatten(2), dim=2).reshape(gradient.shape)
            points = self.place(points - length * direction)
        self.visit(loss, points)

    @torch.enable_grad()
    def visit(self, loss: Loss, points: Tensor) -> Tensor:
        """Keep what is better than before; the gradient at the points."""
        x = points.detach().requires_grad_()
        values, found = loss(x)
        [gradient] = torch.autograd.grad(values.sum(), x)
        values = values.detach()
        finite = torch.isfinite(values)  # an overflow shows nothing
        values, found = torch.where(finite, values, torch.inf), found & finite
        first = torch.where(
            found, values, torch.where(found.any(1, keepdim=True), torch.inf, values)
        )
        each = torch.arange(len(values), device=values.device), first.argmin(1)
        value, is_found = values[each], found[each]
        smaller = (is_found == self._found) & (value < self.smallest)
        better = (is_found & ~self._found) | smaller
        self._found = self._found | is_found
        self.smallest = torch.where(better, value, self.smallest)
        spread = better.reshape(-1, *[1] * (self.points.dim() - 1))
        self.points = torch.where(spread, points.detach()[each], self.points)
        return gradient


def _ball(call: str, x: Tensor, **options: Number | None) -> Ball:
    return Ball(ordinary(require_floats(call, "x", x)), **options)  # type: ignore[arg-type]


def _from_centres(
    call: str, model: nn.Module | Network, ball: Ball, y: Tensor | int
) -> tuple[Search, Loss]:
    """A search that has been at the centres and at the points of `fgs`, and the loss.

    The cross-entropy is log(1 + eᵛ), with v how much the other logits exceed that of y. It rises
    with v and in the same direction, but where an answer is confident it rounds to 0.
    """
    network = network_of(call, model, ball.x)
    network.require_batch(call, ball.x)
    input_set = ball.resolve(network.input_shape)
    classes = number_of_classes(call, network.output_shape)
    labels = ordinary(class_labels(call, y, len(input_set), classes).to(ball.x.device))
    # Read as a network, so as to refuse what is no function of the input alone, such as dropout
    # that is active; but a module's own convolutions are faster.
    usable = isinstance(model, nn.Module) and not any(p.is_inference() for p in model.parameters())
    run = model if usable else network

    def loss(points: Tensor) -> tuple[Tensor, Tensor]:
        logits = run(points.flatten(0, 1)).reshape(*points.shape[:2], -1)
        label = labels.reshape(-1, 1, 1).expand(*points.shape[:2], 1)
        others = logits.scatter(2, label, -torch.inf).logsumexp(2)
        own = logits.gather(2, label).squeeze(2)
        return own - others, logits.argmax(2) != label.squeeze(2)

    search = Search(input_set, ball.x.detach())
    gradient = search.visit(loss, search.points.unsqueeze(1))
    search.visit(loss, search.linearised(gradient))
    return search, loss
