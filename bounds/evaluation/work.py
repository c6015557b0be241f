"""What a worker does: one pass over some images at every radius, or all that there is for one."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from bounds.certification.choice import Method
from bounds.certification.data_set import certify
from bounds.evaluation.proofs import ProofFolder
from bounds.evaluation.result import Result
from bounds.evaluation.store import CENTRE, Point
from bounds.intermediate.relax import relax
from bounds.network.graph import Network
from bounds.relaxation.specification import margins
from bounds.sets.ball import Ball
from bounds.solvers.solve import solve


@dataclass(frozen=True, eq=False)
class Task:
    """images: their positions, with x (images, *input_shape), their labels, and the radii that are
    open. alone: whether all is tried, on the one image and radius that there is then."""

    images: tuple[int, ...]
    x: np.ndarray
    labels: tuple[int, ...]
    radii: tuple[int, ...]
    alone: bool


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a task found."""

    results: tuple[Result, ...]
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, eq=False)
class Work:
    """What is asked of every image; called with a task.

    network: in float64, on the CPU. radii: in rising order. proofs: where proofs go, if anywhere.
    """

    network: Network
    radii: tuple[Fraction, ...]
    norm: float
    lower: float | None
    upper: float | None
    timeout: float | None
    method: Method
    seed: int
    proofs: ProofFolder | None

    def __call__(self, task: Task) -> Outcome:
        return self._all(task) if task.alone else self._one_pass(task)

    def ball(self, x: Tensor, radius: int) -> Ball:
        return Ball(
            x,
            radius=self.radii[radius],  # type: ignore[arg-type]
            norm=self.norm,
            lower=self.lower,
            upper=self.upper,
        )

    def _one_pass(self, task: Task) -> Outcome:
        """From the largest radius down: what is proved at one is proved at those below."""
        x, labels = torch.from_numpy(task.x), torch.tensor(task.labels)
        left, results = torch.arange(len(task.images)), []
        classes = math.prod(self.network.output_shape)
        start, share = time.perf_counter(), 0.0
        for radius in sorted(task.radii, reverse=True):
            if len(left) == 0:
                break
            ball = self.ball(x[left], radius).grown(torch.float64, self.network.input_shape)
            rows = margins(labels[left], classes)
            relaxation = relax(self.network, ball, rows, slope="adaptive")
            solution = solve(relaxation, method="adaptive_slope")
            verified = solution.verified
            if self.proofs is not None:
                images = [task.images[k] for k in left.tolist()]
                verified = self.proofs.keep(relaxation, solution, images, self.radii[radius])
            share += (time.perf_counter() - start) / len(left)
            start = time.perf_counter()
            for k in verified.nonzero().flatten().tolist():
                lower = float(solution.lower[k].min())
                image = task.images[int(left[k])]
                results.append(
                    Result(image, radius, "proved", "adaptive_slope", radius, lower, share)
                )
            left = left[~verified]
        return Outcome(tuple(results))

    def _all(self, task: Task) -> Outcome:
        [image], [label], [radius] = task.images, task.labels, task.radii
        x, ball = torch.from_numpy(task.x), self.ball(torch.from_numpy(task.x), radius)
        found = certify(
            self.network,
            x,
            torch.tensor([label]),
            radius=ball.radius,
            norm=ball.norm,
            lower=ball.lower,
            upper=ball.upper,
            timeout=self.timeout,
            method=self.method,
            seed=self.seed,
            proof=None if self.proofs is None else self.proofs.file([image], self.radii[radius]),
        )
        status = {"unsat": "proved", "sat": "attacked", "unknown": "open"}[found.verdict]
        [search], [counterexample] = found.searches, found.counterexamples
        result = Result(
            image,
            radius,
            status,  # type: ignore[arg-type]
            found.methods[0],
            radius,
            _finite(float(found.lower.min())),
            found.seconds["total"],
            replayed_by=None if counterexample is None else counterexample.replayed_by,
        )
        if search is not None:
            result = replace(
                result,
                domains=search.domains,
                left=search.open,
                worst=_finite(search.worst),
                ended=search.ended,
            )
        points = []
        if status != "proved":
            points.append(Point(image, CENTRE, task.x[0], label))
        if counterexample is not None:
            answer = int(counterexample.y.flatten().argmax())
            points.append(Point(image, radius, counterexample.x.double().numpy(), answer))
        return Outcome((result,), tuple(points))


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
