"""What becomes of claimed ends: judged from cheap to tight, by one pass, by LP optima and attacks,
and, if asked for, by searches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from bounds.arguments import require_option
from bounds.certification.attacks import attack, restarts
from bounds.certification.decide import CHUNK
from bounds.certification.minimum import minimum
from bounds.deadline import Deadline
from bounds.intermediate.relax import relax
from bounds.network.graph import Network
from bounds.network.memory import pass_numbers
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.specification import Specification
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.ball import Ball
from bounds.sets.box import Box
from bounds.solution.status import Status
from bounds.solution.verdict import trusted
from bounds.solvers.solve import solve

Judgement = Literal["proved", "refuted", "open"]
JUDGEMENTS: tuple[Judgement, ...] = ("open", "proved", "refuted")
Method = Literal["nothing", "one pass", "lp", "search"]
#: What a bound of ours comes from.
BY: tuple[Method, ...] = ("nothing", "one pass", "lp", "search")

#: Points that are evaluated together.
VISITS = 256
#: What ours and a point attain, when they are as close as that to each other relative to a
#: claim or to 1, differ by rounding: nothing is left to be found.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class AuditedEnd:
    """Claims that values are at least (or, of an upper end, at most) these; each (batch, values).

    claimed: the numbers. ours: a bound that holds over the reals; by: where it comes from, as
    positions in `BY`. lp: the optimum of the LP over the layers below, where that was asked for and
    found, NaN else. attained: what a point of the set attains or goes beyond, over the reals.
    judgement: positions in `JUDGEMENTS`. points: by input and value, the point of what is refuted,
    (*input_shape).
    """

    claimed: Tensor
    ours: Tensor
    by: Tensor
    lp: Tensor
    attained: Tensor
    judgement: Tensor
    points: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def count(self, judgement: Judgement) -> int:
        require_option("AuditedEnd.count", "judgement", judgement, JUDGEMENTS)
        return int((self.judgement == JUDGEMENTS.index(judgement)).sum())


class Judge:
    """Claims that sign × each row of a network is at least `claimed`, (batch, rows)."""

    def __init__(
        self,
        network: Network,
        ball: Ball | Box,
        rows: Specification,
        claimed: Tensor,
        sign: float,
        deadline: Deadline,
    ) -> None:
        d = None if rows.d is None else sign * rows.d
        signed = Specification(sign * rows.C, d)
        limit = deadline.limit
        self._relaxation = relax(network, ball, signed, slope="adaptive", time_limit=limit).double()
        self._ball, self._claimed, self._sign = ball, claimed, sign
        self._deadline = deadline
        passed = solve(self._relaxation, method="adaptive_slope")
        self._ours = trusted(passed)
        constant = (self._relaxation.C == 0).flatten(2).all(2)
        self._ours = torch.where(constant, self._relaxation.d, self._ours)
        self._by = torch.where(self._ours.isfinite(), BY.index("one pass"), 0)
        self._lp = torch.full_like(claimed, math.nan)
        self._attained = torch.full_like(claimed, math.inf)
        self._starts = passed.certificate.x
        self._points: dict[tuple[int, int], Tensor] = {}

    def end(self) -> AuditedEnd:
        """What was found, seen from this end."""
        judgement = torch.where(self._ours >= self._claimed, 1, 0)
        judgement = torch.where(self._attained < self._claimed, 2, judgement)
        claimed, ours, lp, attained = (
            (self._sign * each).cpu()
            for each in (self._claimed, self._ours, self._lp, self._attained)
        )
        return AuditedEnd(
            claimed, ours, self._by.cpu(), lp, attained, judgement.cpu(), self._points
        )

    def decide(self, *, complete: bool, generator: torch.Generator) -> None:
        """As far as the time allows."""
        images, rows = self._left()
        self._visit(images, rows, self._starts[images, rows])
        images, rows = self._left()
        some = images.unique().tolist()
        self._deadline.tell(len(self._claimed) - len(some))
        for i in some:
            self._solve(i, rows[images == i])
            self._deadline.tell(1)
        self._attack(*self._left(refutable=True), generator)
        if complete:
            for i, row in torch.stack(self._left(refutable=True), 1).tolist():
                self._search(i, row)

    def find_optima(self, stated: dict[str, ReluBounds]) -> None:
        """The LP optimum beside every claim. stated: what is claimed of ReLUs, by name."""
        relaxation = self._relaxation
        layers = []
        for index, own in zip(relaxation.network.relus, relaxation.relu_bounds, strict=True):
            claimed = stated.get(relaxation.network.nodes[index].name)
            layers.append(own if claimed is None else _as_claimed(claimed, own))
        if any(layer is not own for layer, own in zip(layers, relaxation.relu_bounds, strict=True)):
            given = tuple(layers)
            relaxation = replace(relaxation, relu_bounds=given, intermediate="given", slope=None)
        for i, claimed in enumerate(self._claimed):
            self._deadline.tell(1)
            rows = claimed.isfinite().nonzero().flatten()
            if len(rows) == 0 or self._deadline.passed:
                continue
            one = relaxation.take(torch.tensor([i], device=rows.device), rows)
            found = solve(one, method="exact", time_limit=self._deadline.limit)
            optimal = found.status[0] == int(Status.OPTIMAL)
            self._lp[i, rows] = torch.where(optimal, found.lower[0], math.nan)

    def _left(self, *, refutable: bool = False) -> tuple[Tensor, Tensor]:
        """The inputs and the rows of what is neither proved nor refuted, and where ours and what
        is attained differ by more than rounding; none where the time is up. refutable: where the
        claim goes beyond ours by more than rounding, so that a point may go beyond the claim."""
        if self._deadline.passed:
            nothing = torch.zeros(0, dtype=torch.long, device=self._ours.device)
            return nothing, nothing
        open_ = (self._ours < self._claimed) & (self._attained >= self._claimed)
        beyond = self._claimed if refutable else self._attained
        open_ &= beyond - self._ours > ROUNDING * self._claimed.abs().clamp(min=1.0)
        images, rows = open_.nonzero(as_tuple=True)
        return images, rows

    def _improve(self, i: int, rows: Tensor, bound: Tensor, method: Method) -> None:
        """Keep bounds of one input's rows that are larger than those that are known."""
        better = bound > self._ours[i, rows]
        self._by[i, rows] = torch.where(better, BY.index(method), self._by[i, rows])
        self._ours[i, rows] = torch.where(better, bound, self._ours[i, rows])

    def _solve(self, i: int, rows: Tensor) -> None:
        """LP optima, and the points where they are attained for the attack to start from."""
        if self._deadline.passed:
            return
        one = self._relaxation.take(torch.tensor([i], device=rows.device), rows)
        solution = solve(one, method="exact", time_limit=self._deadline.limit)
        self._improve(i, rows, trusted(solution)[0], "lp")
        self._starts[i, rows] = solution.certificate.x[0]

    def _attack(self, images: Tensor, rows: Tensor, generator: torch.Generator) -> None:
        relaxation = self._relaxation
        numbers = pass_numbers(relaxation.network) * restarts(relaxation.network)
        together = max(1, CHUNK // numbers)
        for first in range(0, len(images), together):
            part = slice(first, first + together)
            some, at = images[part], (images[part], rows[part])
            if self._deadline.passed:
                return
            found, _ = attack(
                relaxation.network,
                relaxation.input_set.convert(lambda tensor, some=some: tensor[some]),  # type: ignore[misc]
                relaxation.C[at].unsqueeze(1),
                relaxation.d[at].unsqueeze(1),
                self._starts[at].unsqueeze(1),
                random=restarts(relaxation.network),
                generator=generator,
                deadline=self._deadline,
            )
            self._visit(*at, found)

    def _search(self, i: int, row: int) -> None:
        """The true minimum of a row."""
        if self._deadline.passed:
            return
        number, at = torch.tensor([i], device=self._ours.device), torch.tensor([row])
        one = self._relaxation.take(number, at.to(number.device))
        assert isinstance(one.input_set, Box)
        row_alone = Specification(one.C[0].flatten(1), one.d[0])
        true = minimum(one.network, one.input_set, row_alone, time_limit=self._deadline.limit)
        self._improve(i, at, true.lower[0].to(self._ours), "search")
        self._visit(number, at.to(number.device), true.x[0].to(self._ours))

    def _visit(self, images: Tensor, rows: Tensor, points: Tensor) -> None:
        """Points (visits, *input_shape), one a claim: a number that the row is not above there,
        over the reals, is kept where it is the lowest."""
        for first in range(0, len(images), VISITS):
            part = slice(first, first + VISITS)
            at = images[part], rows[part]
            values, moved = _values(self._relaxation, *at, points[part])
            refuting = values < self._claimed[at]
            kept = torch.minimum(self._attained[at], values)
            self._attained[at] = torch.where(refuting, self._attained[at], kept)
            for place in refuting.nonzero().flatten().tolist():
                self._refute(int(at[0][place]), int(at[1][place]), moved[place])

    def _refute(self, i: int, row: int, point: Tensor) -> None:
        """The one place where a claim is refuted: by a point that the set holds as the caller wrote
        it, in rational numbers."""
        number, at = (torch.tensor([each], device=self._ours.device) for each in (i, row))
        for moved in self._held(i, point):
            [value] = _values(self._relaxation, number, at, moved.unsqueeze(0))[0].tolist()
            if value < min(self._claimed[i, row], self._attained[i, row]):
                self._attained[i, row], self._points[i, row] = value, moved.cpu()
                return

    def _held(self, i: int, point: Tensor) -> Iterator[Tensor]:
        """That point, or points nearby, as far as the set holds them exactly."""
        if isinstance(self._ball, Box):
            yield point
            return
        x = self._ball.x
        whole = self._ball if x.dim() == point.dim() + 1 else replace(self._ball, x=x.unsqueeze(0))
        ball = whole.take(torch.tensor([i], device=x.device))
        for moved in itertools.chain([point.cpu()], ball.nearby(point.cpu(), torch.float64)):
            if ball.holds(moved):
                yield moved.to(point)


def _values(
    relaxation: Relaxation, images: Tensor, rows: Tensor, points: Tensor
) -> tuple[Tensor, Tensor]:
    """Numbers that rows are not above at points of their sets, over the reals, (visits,); infinite
    where no such point is proved to be close; and those points."""
    sets = relaxation.input_set.convert(lambda tensor: tensor[images])
    moved, inside = sets.inside(points.unsqueeze(1))
    opposite = Specification(
        -relaxation.C[images, rows].flatten(1).unsqueeze(1), -relaxation.d[images, rows, None]
    )
    there = relax(relaxation.network, Box(moved[:, 0], moved[:, 0]), opposite)
    values = -trusted(solve(there, method="fixed_slope"))[:, 0]
    return torch.where(inside[:, 0], values, math.inf), moved[:, 0]


def _as_claimed(claimed: ReluBounds, own: ReluBounds) -> ReluBounds:
    """The claimed interval of each neuron where it is one, and ours elsewhere."""
    lower, upper = (
        end.to(own.lower).reshape(own.lower.shape) for end in (claimed.lower, claimed.upper)
    )
    stated = lower.isfinite() & upper.isfinite() & (lower <= upper)
    return ReluBounds(torch.where(stated, lower, own.lower), torch.where(stated, upper, own.upper))
