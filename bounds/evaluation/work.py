"""What a worker does: one pass over some images at every radius, or all that there is for one."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from bounds.certification.choice import Method
from bounds.certification.data_set import certify
from bounds.evaluation.proofs import ProofBytes, ProofFolder, own_folder
from bounds.evaluation.result import Result
from bounds.evaluation.store import CENTRE, Point
from bounds.intermediate.relax import relax
from bounds.network.graph import Network
from bounds.relaxation.specification import margins
from bounds.sets.ball import Ball
from bounds.solvers.solve import solve


@dataclass(frozen=True, eq=False)
class Task:
    """images, radii: their positions. alone: whether all is tried, on the one image and radius that
    there is then."""

    images: tuple[int, ...]
    radii: tuple[int, ...]
    alone: bool


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a task found. files: proofs of it, where they are asked for."""

    results: tuple[Result, ...]
    points: tuple[Point, ...] = ()
    files: tuple[ProofBytes, ...] = ()


@dataclass(frozen=True, eq=False)
class Work:
    """The images and what is asked of each; called with a task.

    network: in float64, on the CPU. images: the positions of x (images, *input_shape) and labels.
    radii: in rising order. proofs: whether they are written.
    """

    network: Network
    images: range
    x: np.ndarray
    labels: tuple[int, ...]
    radii: tuple[Fraction, ...]
    norm: float
    lower: float | None
    upper: float | None
    timeout: float | None
    method: Method
    seed: int
    proofs: bool

    def __call__(self, task: Task) -> Outcome:
        found = self._all if task.alone else self._one_pass
        if not self.proofs:
            return found(task, None)
        with own_folder() as folder:
            return replace(found(task, folder), files=folder.content())

    def inputs(self, images: Sequence[int]) -> Tensor:
        return torch.from_numpy(self.x[[self.images.index(image) for image in images]])

    def label(self, image: int) -> int:
        return self.labels[self.images.index(image)]

    def ball(self, x: Tensor, radius: int) -> Ball:
        return Ball(
            x,
            radius=self.radii[radius],  # type: ignore[arg-type]
            norm=self.norm,
            lower=self.lower,
            upper=self.upper,
        )

    def _one_pass(self, task: Task, proofs: ProofFolder | None) -> Outcome:
        """From the largest radius down: what is proved at one is proved at those below."""
        x = self.inputs(task.images)
        labels = torch.tensor([self.label(image) for image in task.images])
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
            if proofs is not None:
                images = [task.images[k] for k in left.tolist()]
                verified = proofs.keep(relaxation, solution, images, self.radii[radius])
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

    def _all(self, task: Task, proofs: ProofFolder | None) -> Outcome:
        [image], [radius] = task.images, task.radii
        x, label = self.inputs(task.images), self.label(image)
        ball = self.ball(x, radius)
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
            proof=None if proofs is None else proofs.file([image], self.radii[radius]),
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
            points.append(Point(image, CENTRE, x[0].numpy(), label))
        if counterexample is not None:
            answer = int(counterexample.y.flatten().argmax())
            points.append(Point(image, radius, counterexample.x.double().numpy(), answer))
        return Outcome((result,), tuple(points))


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
