"""`bounds.certified_radius`: how far each input can be perturbed, proved and refuted."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bounds.arguments import (
    class_labels,
    number_of_classes,
    require_floats,
    require_positive,
    require_time_limit,
    require_type,
)
from bounds.certification.attacks import pgd
from bounds.deadline import Deadline
from bounds.errors import InvalidInputError
from bounds.intermediate.relax import relax
from bounds.network.graph import Network
from bounds.progress import at_work
from bounds.relaxation.specification import Specification, margins
from bounds.sets.ball import Ball
from bounds.sets.box import Box, InputSet
from bounds.sets.numbers import Number
from bounds.solution.certificate import Certificate
from bounds.solution.verdict import trusted
from bounds.solvers.solve import Method, solve

#: Halvings of the interval of radii, at most: its ends are neighbours by then.
HALVINGS = 60


@dataclass(frozen=True, eq=False)
class CertifiedRadius:
    """For each input, (batch,): no point within `proved` is answered wrongly, over the reals; some
    point within `refuted` is, or it is infinite where none was found up to the largest radius.

    `proved` is −inf where the input itself is not proved to be answered rightly.

    certificates: of each input, what proves it at that radius, which `bounds check` proves again
    from the file that `Certificate.save` writes; None where nothing is proved.

    >>> number = torch.tensor([0.5])
    >>> CertifiedRadius(number, number + 1).gap.tolist()
    [1.0]
    """

    proved: Tensor
    refuted: Tensor
    certificates: tuple[Certificate | None, ...] = ()

    @property
    def gap(self) -> Tensor:
        return self.refuted - self.proved


@torch.inference_mode(False)
@torch.no_grad()
def certified_radius(
    network: Network,
    x: Tensor,
    y: Tensor | int,
    *,
    most: float,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
    method: Method = "exact",
    tolerance: float = 1e-3,
    time_limit: float | None = None,
    progress: bool = False,
) -> CertifiedRadius:
    """The largest radius that a method proves around each input, by bisection over the batch.

    Args:
        x, y: (batch, *input_shape) and one class an input, or one for all.
        most: the largest radius to look at, in the units of x.
        norm, lower, upper: as for `Ball`.
        method: of `bounds.solve`, on "backward" intermediate bounds with adaptive slopes.
        tolerance: what bisection may leave between the radius that is proved and one at which the
            method does not prove it, relative to the latter.
        time_limit: seconds, default none. What is proved by then holds.
        progress: whether a bar on standard error shows how many inputs are done.

    Returns:
        A `CertifiedRadius`, in float64. What lies between its ends is open: a larger radius may
        hold, by a tighter method or `bounds.certify`.

    Raises:
        Interrupted: a KeyboardInterrupt, with what was proved when Ctrl-C came, which holds.
        InvalidInputError: what `Ball`, `margins`, `relax` and `solve` refuse, or options out of
            range.

    >>> import torch, bounds
    >>> net = bounds.from_torch(torch.nn.Identity(), (2,), dtype=torch.float64)
    >>> found = certified_radius(net, torch.tensor([[2.0, 0.0]]).double(), 0, most=4.0)
    >>> found.proved.round(decimals=2).tolist(), bool(found.refuted >= found.proved)
    ([1.0], True)
    """
    call = "certified_radius"
    require_type(call, network, Network, "read the model with bounds.from_torch(model, shape)")
    x = require_floats(call, "x", x)
    most = require_positive(call, "most", most, "a positive radius")
    tolerance = require_positive(call, "tolerance", tolerance, "a positive number")
    network.require_batch(call, x)
    if len(x) == 0:
        raise InvalidInputError(
            f"{call}(x) has shape {tuple(x.shape)}, an empty batch: give at least one input."
        )
    classes = number_of_classes(call, network.output_shape)
    if classes == 1:
        raise InvalidInputError(
            f"{call} got a network with a single logit, expected one for each class: ask about a "
            "radius of it with bounds.certify(network, x, y, radius=…)."
        )
    labels = class_labels(call, y, len(x), classes).to(x.device)
    time_limit = require_time_limit(call, time_limit)
    whole = Ball(x, radius=most, norm=norm, lower=lower, upper=upper)
    with at_work(
        call, progress=progress, total=len(x), unit="inputs", time_limit=time_limit
    ) as work:
        bisection = _Bisection(network, whole, margins(labels, classes), method, work.deadline)
        bisection.run(most, tolerance)
        refuted = _refuted(network, whole, labels, bisection.failed, most, work.deadline)
        certificates = tuple(bisection.certificates)
        return work.done(CertifiedRadius(bisection.proved, refuted, certificates))


class _Bisection:
    """proved, failed: the largest radius around each input at which the method proves its rows, and
    the smallest one at which it does not; certificates: of the former."""

    def __init__(
        self,
        network: Network,
        whole: Ball,
        rows: Specification,
        method: Method,
        deadline: Deadline,
    ) -> None:
        self._network, self._whole, self._rows = network, whole, rows
        self._method, self._deadline = method, deadline
        self.proved = torch.full((len(whole.x),), -math.inf, dtype=torch.float64)
        self.failed = torch.full_like(self.proved, math.inf)
        self.certificates: list[Certificate | None] = [None] * len(whole.x)

    def run(self, most: float, tolerance: float) -> None:
        """Until the radii are as close as the tolerance says, or the time is up."""
        every, told = torch.arange(len(self.proved)), 0.0
        self._try(every, torch.zeros_like(self.proved))
        # Attacks on what is not proved at 0 either begin at the largest one.
        self.failed = torch.full_like(self.proved, most)
        right = (self.proved == 0).nonzero().flatten()
        self._try(right, self.failed[right])
        for _ in range(HALVINGS):
            # By how much each is too wide, of which every round takes a half.
            width = (self.failed - self.proved) / (tolerance * self.failed)
            left = ((self.proved >= 0) & (width > 1)).nonzero().flatten()
            open_ = (width[left].log() / -math.log(min(tolerance, 0.5))).clamp(max=1.0)
            done = len(every) - float(open_.sum())
            self._deadline.tell(max(0.0, done - told))
            told = max(told, done)
            if len(left) == 0 or self._deadline.passed:
                break
            self._try(left, (self.proved[left] + self.failed[left]) / 2)

    def _try(self, images: Tensor, radius: Tensor) -> None:
        """Look at these inputs, with a radius each."""
        if len(images) == 0:
            return
        ball = self._whole.take(images)
        ball = replace(ball, radius=_shaped(radius, ball.x, ball.norm))
        limit = self._deadline.limit
        rows = self._rows.take(images)
        relaxation = relax(self._network, ball, rows, slope="adaptive", time_limit=limit)
        options: dict[str, Any] = {}
        if self._method not in ("fixed_slope", "adaptive_slope"):
            options = {"sign_only": True, "time_limit": limit}
        solution = solve(relaxation, method=self._method, **options)
        holds = solution.verified
        self.proved[images[holds]] = radius[holds]
        self.failed[images[~holds]] = radius[~holds]
        for place in holds.nonzero().flatten().tolist():
            own = solution.certificate.take(torch.tensor([place]))
            self.certificates[int(images[place])] = own


def _refuted(
    network: Network, whole: Ball, labels: Tensor, start: Tensor, most: float, deadline: Deadline
) -> Tensor:
    """The smallest radii, of some from `start` up, at which an attack finds a wrong answer in
    time."""
    network, x = network.to(whole.x.device, torch.float64), whole.x.double()
    whole = replace(whole, x=x)
    found = torch.full_like(start, math.inf)
    found[_wrong(network, Box(x, x), labels, x)] = 0.0
    radius = start.clone()
    while not deadline.passed and bool((open_ := found.isinf() & (radius <= most)).any()):
        images = open_.nonzero().flatten()
        ball = whole.take(images)
        ball = replace(ball, radius=_shaped(radius[images], ball.x, ball.norm))
        points = pgd(
            network,
            ball.x,
            labels[images],
            radius=ball.radius,
            norm=ball.norm,
            lower=ball.lower,
            upper=ball.upper,
        )
        wrong = _wrong(network, ball.resolve(network.input_shape), labels[images], points)
        found[images[wrong]] = radius[images[wrong]]
        last = radius[images] >= most
        radius[images] = torch.where(last, math.inf, (1.25 * radius[images]).clamp(max=most))
    return found


def _wrong(network: Network, within: InputSet, labels: Tensor, points: Tensor) -> Tensor:
    """Whether each point is proved to lie in its set, but for rounding, and another class to be
    ahead of the right one there; (batch,). All in float64."""
    moved, inside = within.inside(points.unsqueeze(1))
    margin = margins(labels, number_of_classes("certified_radius", network.output_shape))
    at = relax(network, Box(moved[:, 0], moved[:, 0]), Specification(-margin.C))
    ahead = trusted(solve(at, method="fixed_slope")).amax(1) > 0
    return (ahead & inside[:, 0]).cpu()


def _shaped(radius: Tensor, x: Tensor, norm: float) -> Tensor:
    """One number an input, as `Ball` takes it."""
    radius = radius.to(x.device)
    return radius if norm != math.inf else radius.reshape(-1, *[1] * (x.dim() - 1))
