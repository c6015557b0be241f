"""`bounds.evaluate`: a classifier on a data set, at several radii."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from bounds.arguments import (
    class_labels,
    number_of_classes,
    real,
    require_floats,
    require_option,
    require_positive,
    require_whole,
    shown,
)
from bounds.certification.choice import Method
from bounds.errors import InvalidInputError
from bounds.evaluation.normalised import PerChannel, normalised
from bounds.evaluation.proofs import proof_folder
from bounds.evaluation.radii import fractions_of
from bounds.evaluation.result import Evaluation, Image, Result, shard_of
from bounds.evaluation.store import Store
from bounds.evaluation.work import Outcome, Task, Work
from bounds.evaluation.workers import work_off
from bounds.network.graph import Network
from bounds.read.model import network_of, ordinary
from bounds.solution.certificate_file import network_digest

CALL = "evaluate"
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


@torch.inference_mode(False)
@torch.no_grad()
def evaluate(
    model: Network | nn.Module | str | os.PathLike[str],
    x: Tensor,
    y: Tensor | int,
    *,
    radii: Sequence[float | str],
    norm: float = math.inf,
    lower: float | None = None,
    upper: float | None = None,
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    timeout: float | None = None,
    method: Method = "auto",
    seed: int = 0,
    jobs: int = 1,
    shard: tuple[int, int] | None = None,
    results: str | os.PathLike[str] | None = None,
    proofs: str | os.PathLike[str] | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    watch: Watch | None = None,
) -> Evaluation:
    """What becomes of every input at every radius: answered wrongly, attacked, proved, or open.

    One pass is tried on batches, from the largest radius down, and `certify` on each input and
    radius that it leaves. A proof holds for every smaller radius, a counterexample for every larger
    one: neither is looked for again. All proofs are in float64, on the CPU.

    Args:
        model: a `Network`, a torch module, or the path of an .onnx or .pt2 file. Counterexamples
            are replayed by bounds, over the reals.
        x, y: a batch of inputs, and one class an input, or one for all.
        radii: in the units of x; text such as "2/255" and "0.01" is taken as the exact number.
        norm, lower, upper: as for `Ball`; the box is a pair of numbers.
        mean, std: where given, the network is x ↦ model((x − mean) / std), a number a channel or
            one for all, so that radii and the box are in the units of the images.
        timeout: in seconds, for each input and radius that one pass leaves open; see `certify`.
        method, seed: as for `certify`.
        jobs: processes. More than one are started anew: a script that is run as a file needs
            `if __name__ == "__main__":`.
        shard: (I, N): only every N-th input, from the I-th, counted from 1.
        results: the path of an SQLite database that is written as results come. Where it is there
            already, it goes on with that: nothing is done twice.
        proofs: the path of a folder for files that prove whatever is proved, which `bounds check`
            proves again, all at once; it is made if it is missing. For norm=inf.
        names, title: what inputs and the whole are called in a report; default: their positions,
            and the path or class of the model.
        watch: is told how far it is, a `Progress`.

    Raises:
        InvalidInputError: what `Ball` and `certify` refuse, options out of range, or a database of
            something else, or that cannot be written.
        BoundsError: where processes end as soon as they begin.

    >>> import torch
    >>> x, y = torch.tensor([[2.0, 0.0], [0.5, 0.0]]), 0
    >>> found = evaluate(torch.nn.Identity(), x, y, radii=["1/10", 0.5], results="run.sqlite")
    >>> [(result.image, result.status, result.method) for result in found.results][2:]
    [(1, 'proved', 'adaptive_slope'), (1, 'attacked', 'attack')]
    """
    fractions = fractions_of(CALL, radii)
    jobs = require_whole(CALL, "jobs", jobs, most=1024)
    seed = require_whole(CALL, "seed", seed, least=0, most=2**63 - 1)
    require_option(CALL, "method", method, get_args(Method))
    if timeout is not None:
        timeout = require_positive(CALL, "timeout", timeout, "a positive time in seconds")
    x = ordinary(require_floats(CALL, "x", x)).detach().cpu()
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    network = network_of(CALL, model, x, dtype=torch.float64, files=True).detach().to("cpu")
    network = normalised(CALL, network, mean, std)
    if x.shape == network.input_shape and not isinstance(model, nn.Module):
        x = x.unsqueeze(0)
    classes = number_of_classes(CALL, network.output_shape)
    low, high = _end("lower", lower), _end("upper", upper)
    folder = None if proofs is None else proof_folder(CALL, proofs, norm)
    work = Work(network, tuple(fractions), norm, low, high, timeout, method, seed, folder)
    for radius in range(len(fractions)):  # what is wrong with a set is said before work begins
        work.ball(x, radius).resolve(network.input_shape)
    labels = class_labels(CALL, y, len(x), classes).cpu()
    names = [str(number) for number in range(len(x))] if names is None else list(map(str, names))
    if len(names) != len(x):
        raise InvalidInputError(
            f"{CALL}(names) has {len(names)} names for {len(x)} inputs: give one an input."
        )
    images = shard_of(CALL, shard, len(x))
    store = Store(_path(results))
    try:
        store.claim(_about(work, x, labels), _shown(work, fractions, classes, title or model))
        run = _Run(work, store, x, labels, names, images, watch)
        run.answer()
        run.evaluate(jobs)
        return Evaluation(
            tuple(fractions.values()),
            tuple(image for image in store.images() if image.image in run.images),
            tuple(result for result in store.results() if result.image in run.images),
            tuple(sorted(run.lost)),
            run.warning,
        )
    finally:
        store.close()


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


class _Run:
    """What is known of each image, and the tasks that are left."""

    def __init__(
        self,
        work: Work,
        store: Store,
        x: Tensor,
        labels: Tensor,
        names: Sequence[str],
        images: range,
        watch: Watch | None,
    ) -> None:
        self.work, self.store, self.x, self.images, self.watch = work, store, x, images, watch
        self.labels, self.names = labels.tolist(), names
        self.open = {image: set(range(len(work.radii))) for image in images}
        self.lost: set[int] = set()
        self.right = 0
        self.warning: str | None = None

    def answer(self) -> None:
        """Ask the network about every image itself, and settle those that it answers wrongly."""
        known = {image.image for image in self.store.images()}
        new = torch.tensor([image for image in self.images if image not in known], dtype=torch.long)
        for part in new.split(ANSWERED) if len(new) else ():
            answers = self.work.network(self.x[part].double()).flatten(1).argmax(1).tolist()
            rows = zip(part.tolist(), answers, strict=True)
            self.store.add_images(Image(i, self.names[i], self.labels[i], a) for i, a in rows)
        for result in self.store.results():
            if result.image in self.images:
                self.open[result.image].discard(result.radius)
        mine = (image for image in self.store.images() if image.image in self.images)
        wrong = [image.image for image in mine if image.answer != image.label]
        self.right = len(self.images) - len(wrong)
        classes = math.prod(self.work.network.output_shape)
        self.warning = near_chance(self.right, len(self.images), classes)
        self._keep(
            [
                Result(image, radius, "wrong", "clean", radius)
                for image in wrong
                for radius in sorted(self.open[image])
            ]
        )

    def evaluate(self, jobs: int) -> None:
        passed = {row[0] for row in self.store.query("SELECT image FROM images WHERE passed")}
        left = [image for image, radii in self.open.items() if radii]
        work_off(self.work, self._first(left, passed), self._done, jobs=jobs)

    def _first(self, left: Sequence[int], passed: set[int]) -> Iterator[Task]:
        for image in left:
            if image in passed:
                yield self._next(image)
        fresh = [image for image in left if image not in passed]
        for start in range(0, len(fresh), BATCH):
            images = fresh[start : start + BATCH]
            yield self._task(images, tuple(range(len(self.work.radii))), alone=False)

    def _task(self, images: Sequence[int], radii: tuple[int, ...], *, alone: bool) -> Task:
        x = self.x[list(images)].numpy()
        return Task(tuple(images), x, tuple(self.labels[i] for i in images), radii, alone)

    def _next(self, image: int) -> Task:
        """The middle one of the radii that are open: either verdict settles half of the others."""
        radii = sorted(self.open[image])
        return self._task([image], (radii[len(radii) // 2],), alone=True)

    def _done(self, task: Task, outcome: Outcome | None) -> Iterable[Task]:
        if outcome is None:
            self.lost.update(task.images)
            return []
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
            total = inputs * len(self.work.radii)
            self.watch(Progress(results, total - left, total, self.right, inputs, self.warning))


def _about(work: Work, x: Tensor, labels: Tensor) -> dict[str, Any]:
    """What has to be the same where an evaluation goes on: options first, which say most."""
    digest = hashlib.sha256(f"{x.dtype} {tuple(x.shape)}".encode())
    digest.update(x.contiguous().numpy().tobytes())
    images = digest.hexdigest()
    return {
        "radii": list(map(str, work.radii)),
        "norm": str(work.norm),
        "box": [work.lower, work.upper],
        "timeout": work.timeout,
        "method": work.method,
        "seed": work.seed,
        "inputs": len(x),
        "model": network_digest(work.network),
        "images": images,
        "labels": hashlib.sha256(str(labels.tolist()).encode()).hexdigest(),
        **({} if work.proofs is None else {"proofs": True}),
    }


def _shown(work: Work, radii: dict[Any, str], classes: int, model: object) -> dict[str, Any]:
    from bounds import __version__

    named = os.fspath(model) if isinstance(model, (str, os.PathLike)) else type(model).__name__
    return {
        "title": str(named),
        "radii": list(radii.values()),
        "input_shape": list(work.network.input_shape),
        "classes": classes,
        "version": __version__,
    }


def _end(name: str, value: object) -> float | None:
    """An end of the box; a number that a float is."""
    number = None if value is None else real(value)
    if number is not None and not (math.isfinite(number) and number == value):
        raise InvalidInputError(f"{CALL}({name}={shown(value)}): expected a finite number.")
    return number


def _path(results: object) -> str | os.PathLike[str] | None:
    if (
        results is None
        or isinstance(results, os.PathLike)
        or (isinstance(results, str) and results and "\0" not in results)
    ):
        return results
    raise InvalidInputError(
        f"{CALL}(results) got {shown(results)}, expected the path of a database to be written."
    )
