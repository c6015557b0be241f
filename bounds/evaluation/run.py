"""What is known of each image of an evaluation, and the tasks that are left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from bounds.engines.queue import Engine
from bounds.evaluation.proofs import ProofFolder
from bounds.evaluation.result import Image, Result
from bounds.evaluation.store import Store
from bounds.evaluation.work import Outcome, Task, Work

#: Images that one pass is tried on together, and that are answered together.
BATCH, ANSWERED = 32, 256
#: Clean accuracy is looked at with so many images, and is near chance within so many deviations.
ENOUGH, DEVIATIONS = 10, 2.0


@dataclass(frozen=True)
class Progress:
    """How far an evaluation is.

    results: that have just become known. done, total: pairs of image and radius. right, inputs:
    images, how many of them are answered rightly. warning: as in `Evaluation`.
    """

    results: Sequence[Result]
    done: int
    total: int
    right: int
    inputs: int
    warning: str | None


#: Is told before work begins, and whenever something becomes known.
Watch = Callable[[Progress], None]


def near_chance(right: int, inputs: int, classes: int) -> str | None:
    """A warning where guessing might answer as many inputs rightly."""
    chance = 1 / classes
    likely = chance + DEVIATIONS * math.sqrt(chance * (1 - chance) / inputs)
    if classes < 2 or inputs < ENOUGH or right / inputs > likely:
        return None
    return (
        f"{right} of {inputs} images are answered rightly, {100 * right / inputs:.1f} %, about "
        f"what guessing among {classes} classes gives: are images scaled and normalised as the "
        "network expects, and are these the labels?"
    )


class Run:
    """asked: the positions of the radii that are. proofs: where they go, if anywhere."""

    def __init__(
        self,
        work: Work,
        store: Store,
        names: Sequence[str],
        asked: Sequence[int],
        proofs: ProofFolder | None,
        watch: Watch | None,
    ) -> None:
        self.work, self.store, self.images, self.watch = work, store, work.images, watch
        self.names, self.proofs = names, proofs
        self.total = len(self.images) * len(asked)
        self.open = {image: set(asked) for image in self.images}
        self.lost: set[int] = set()
        self.right = 0
        self.warning: str | None = None

    def answer(self) -> None:
        """Ask the network about every image itself, and settle those that it answers wrongly."""
        known = {image.image for image in self.store.images()}
        new = torch.tensor([image for image in self.images if image not in known], dtype=torch.long)
        for part in new.split(ANSWERED) if len(new) else ():
            x = self.work.inputs(part.tolist()).double()
            answers = self.work.network(x).flatten(1).argmax(1).tolist()
            rows = zip(part.tolist(), answers, strict=True)
            self.store.add_images(
                Image(i, self.names[i], self.work.label(i), answer) for i, answer in rows
            )
        before = [result for result in self.store.results() if result.image in self.images]
        for result in before:
            self.open[result.image].discard(result.radius)
        mine = (image for image in self.store.images() if image.image in self.images)
        wrong = [image.image for image in mine if image.answer != image.label]
        self.right = len(self.images) - len(wrong)
        classes = math.prod(self.work.network.output_shape)
        self.warning = near_chance(self.right, len(self.images), classes)
        settled = [
            Result(image, radius, "wrong", "clean", radius)
            for image in wrong
            for radius in sorted(self.open[image])
        ]
        for found in before:  # what is known at other radii, where some were added since
            if found.status != "wrong" and found.at == found.radius:
                implied = list(self._implied(found))[1:]
                self.open[found.image] -= {result.radius for result in implied}
                settled += implied
        self._keep(settled)

    def evaluate(self, engine: Engine) -> None:
        passed = {row[0] for row in self.store.query("SELECT image FROM images WHERE passed")}
        left = [image for image, radii in self.open.items() if radii]
        engine.run(self.work, self._first(left, passed), self._done)

    def _first(self, left: Sequence[int], passed: set[int]) -> Iterator[Task]:
        for image in left:
            if image in passed:
                yield self._next(image)
        fresh: dict[tuple[int, ...], list[int]] = {}
        for image in left:
            if image not in passed:
                fresh.setdefault(tuple(sorted(self.open[image])), []).append(image)
        for radii, images in fresh.items():
            for start in range(0, len(images), BATCH):
                yield Task(tuple(images[start : start + BATCH]), radii, alone=False)

    def _next(self, image: int) -> Task:
        """The middle one of the radii that are open: either verdict settles half of the others."""
        radii = sorted(self.open[image])
        return Task((image,), (radii[len(radii) // 2],), alone=True)

    def _done(self, task: Task, outcome: Outcome | None) -> Iterable[Task]:
        if outcome is None:
            self.lost.update(task.images)
            return []
        if self.proofs is not None:
            self.proofs.add(outcome.files)
        results = [implied for result in outcome.results for implied in self._implied(result)]
        self._keep(results, outcome, passed=() if task.alone else task.images)
        return [self._next(image) for image in reversed(task.images) if self.open[image]]

    def _implied(self, found: Result) -> Iterator[Result]:
        """A result, and what it says about other radii that are open."""
        yield found
        if found.status == "open":
            return
        for radius in sorted(self.open[found.image] - {found.radius}):
            if (radius < found.radius) == (found.status == "proved"):
                yield Result(
                    found.image,
                    radius,
                    found.status,
                    found.method,
                    found.radius,
                    found.lower if found.status == "proved" else None,
                    replayed_by=found.replayed_by,
                )

    def _keep(
        self, results: list[Result], outcome: Outcome | None = None, *, passed: Iterable[int] = ()
    ) -> None:
        self.store.add(results, () if outcome is None else outcome.points, passed=passed)
        for result in results:
            self.open[result.image].discard(result.radius)
        if self.watch is not None:
            inputs, left = len(self.images), sum(map(len, self.open.values()))
            self.watch(
                Progress(results, self.total - left, self.total, self.right, inputs, self.warning)
            )
