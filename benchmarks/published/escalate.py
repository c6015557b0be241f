"""Images decided from cheap to tight: Wong and Kolter's pass, LP-LAST, attack, LP-ALL.

The names are those of Salman et al. 2019 (https://arxiv.org/abs/1902.08722): LP-GREEDY is one pass
of fixed slopes with such intermediate bounds, LP-LAST the LP optimum over the same, and LP-ALL the
LP optimum over intermediate bounds that are LP optima themselves. Each proves all that the ones
before it prove, so an image stops at the first that decides it.

What costs most is to learn that LP-ALL proves nothing: `benchmarks.published.inner` does it with
one LP.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import bounds
from benchmarks.published.attack import attacked
from benchmarks.published.inner import refuted
from benchmarks.published.signs import solve_rows
from bounds.intermediate import layer_lp

#: Numbers in the ± rows of all intermediate LPs of the images that are relaxed together.
LP_ROWS = {"cpu": 1000, "cuda": 100_000}


@dataclass(frozen=True)
class Outcome:
    """How an image ended.

    decided: by what: "clean" (a wrong answer to the image itself), "attack", "lp_greedy",
    "lp_inner" (`inner.py`: LP-ALL leaves it open), "lp_last" or "lp_all"; "" where that is still to
    come. lp_greedy: that bound of its smallest margin. lower, upper: of the tightest LP's smallest
    margin that was looked at, which stops at the sign; NaN where none was. certified: whether every
    margin is proved positive. undecided: whether an LP ended without a sign, or with intermediate
    bounds that are no optima: such an image counts as not certified. lps: by what they are of.
    seconds: its share of the time.
    """

    image: int
    decided: str
    certified: bool
    lp_greedy: float
    lower: float = math.nan
    upper: float = math.nan
    undecided: bool = False
    lps: dict[str, int] | None = None
    seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        """For JSON, which has no NaN, and no infinity."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def escalate(
    network: bounds.Network, x: Tensor, y: Tensor, images: list[int], *, radius: float
) -> Iterator[list[Outcome]]:
    """The outcomes of a chunk of images x (chunk, *shape), in groups as they are decided."""
    work = Escalation(network, x, y, radius, "cpu", tuple(images))
    tasks: list[Chunk | Group] = [Chunk(tuple(images))]
    for task in tasks:
        found = work(task)
        tasks += found.left
        yield list(found.outcomes)


@dataclass(frozen=True)
class Chunk:
    """Images to look at together, by whatever is cheap."""

    images: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Images whose LPs are solved together: what is known of them so far."""

    known: tuple[Outcome, ...]

    @property
    def images(self) -> tuple[int, ...]:
        return tuple(one.image for one in self.known)


@dataclass(frozen=True)
class Found:
    """outcomes: of what is decided. left: what is not."""

    outcomes: tuple[Outcome, ...]
    left: tuple[Group, ...] = ()


@dataclass(frozen=True, eq=False)
class Escalation:
    """What is asked of images (images, *shape), whose numbers are `images`; called with a task."""

    network: bounds.Network
    x: Tensor
    y: Tensor
    radius: float
    device: str
    images: Sequence[int]

    def __call__(self, task: Chunk | Group) -> Found:
        places = [self.images.index(image) for image in task.images]
        x, y = self.x[places].to(self.device), self.y[places].to(self.device)
        start, network = time.perf_counter(), self.network.to(self.device)
        ball = bounds.Ball(x, radius=self.radius, lower=0.0, upper=1.0)
        margins = bounds.margins(y, math.prod(network.output_shape))
        if isinstance(task, Chunk):
            return _cheap(bounds.relax(network, ball, margins), x, y, task.images, start)
        lps = Counter[str]()
        with _counting(lps):
            tight = bounds.relax(network, ball, margins, intermediate="lp")
        return Found(_by_lp(tight, task.known, lps, start))


def _cheap(
    relaxation: bounds.Relaxation, x: Tensor, y: Tensor, images: Sequence[int], start: float
) -> Found:
    """Whatever is decided without LP-ALL; what is left in groups of alike sizes."""
    network, lps = relaxation.network, Counter[str]()
    greedy = bounds.solve(relaxation, method="fixed_slope")
    proved, smallest = greedy.verified, greedy.lower.amin(1).tolist()
    right = (network(x).flatten(1).argmax(1) == y).cpu()
    if bool((proved & ~right).any()):
        raise AssertionError(f"an image among {images} is proved, and answered wrongly")
    outcomes = [
        Outcome(image, "lp_greedy" if sure else "clean", sure, low)
        for image, sure, low in zip(images, proved.tolist(), smallest, strict=True)
    ]
    open_ = torch.nonzero(right & ~proved).flatten()
    share = (time.perf_counter() - start) / len(images)
    outcomes = [replace(one, seconds=share) for one in outcomes]
    start = time.perf_counter()
    left: list[int] = []
    if len(open_):
        at = open_.to(x.device)
        part = relaxation.take(at, torch.arange(greedy.lower.shape[1], device=x.device))
        found = _part(part, greedy.lower[at], greedy.certificate.x[at], lps)
        share += (time.perf_counter() - start) / len(open_)
        each = {method: count / len(open_) for method, count in lps.items()}
        for k, one in zip(open_.tolist(), found, strict=True):
            outcomes[k] = replace(outcomes[k], **one, lps=each, seconds=share)
        left = [k for k, one in zip(open_.tolist(), found, strict=True) if not one["decided"]]
    groups = (Group(tuple(outcomes[k] for k in group)) for group in _groups(relaxation, left))
    return Found(tuple(one for one in outcomes if one.decided), tuple(groups))


def _part(
    relaxation: bounds.Relaxation, greedy: Tensor, starts: Tensor, lps: Counter[str]
) -> list[dict[str, Any]]:
    """What LP-LAST, an attack and inner LPs say of images that one pass leaves open; decided by ""
    where they do not say what LP-ALL does."""
    last = solve_rows(relaxation, greedy, lps)
    found = [last.of(k, "lp_last") for k in range(len(greedy))]
    rows = torch.arange(greedy.shape[1], device=greedy.device)
    left = (~last.certified).nonzero().squeeze(1)
    if len(left) == 0:
        return found
    fooled = attacked(relaxation.take(left, rows), starts[left], greedy[left]).to(left.device)
    for k in left[fooled].tolist():
        found[k] = _open("attack")
    left = left[~fooled]
    # With one ReLU, whose bounds are exact, LP-LAST is LP-ALL.
    if len(left) == 0 or len(relaxation.network.relus) == 1:
        return found
    hopeless = refuted(relaxation.take(left, rows), greedy[left])
    lps["inner"] += len(left)
    for k, is_hopeless in zip(left.tolist(), hopeless.tolist(), strict=True):
        found[k] = _open("lp_inner" if is_hopeless else "")
    return found


def _open(method: str) -> dict[str, Any]:
    return {"decided": method, "certified": False}


def _groups(relaxation: bounds.Relaxation, left: list[int]) -> Iterator[list[int]]:
    """The images to solve together: of alike sizes, and about LP_ROWS LPs."""
    counts = torch.zeros(len(relaxation.C))
    for neurons in relaxation.relu_bounds[1:]:
        counts += 2 * neurons.unstable.flatten(1).sum(1).cpu()
    group: list[int] = []
    for k in sorted(left, key=lambda k: relaxation.unstable[k]):
        group.append(k)
        if counts[group].sum() >= LP_ROWS[relaxation.C.device.type]:
            yield group
            group = []
    if group:
        yield group


def _by_lp(
    tight: bounds.Relaxation, known: Sequence[Outcome], lps: Counter[str], start: float
) -> tuple[Outcome, ...]:
    """What LP-ALL says of these images. lps: those that its bounds took."""
    greedy = bounds.solve(tight, method="fixed_slope")
    every = solve_rows(tight, greedy.lower, lps)
    share = (time.perf_counter() - start) / len(known)
    found = []
    for k, one in enumerate(known):
        own = every.of(k, "lp_all")
        own["undecided"] |= bool(tight.unsolved[k]) and not own["certified"]
        each = Counter(one.lps) + Counter({name: n / len(known) for name, n in lps.items()})
        found.append(replace(one, **own, lps=dict(each), seconds=one.seconds + share))
    return tuple(found)


def _counting(lps: Counter[str]) -> Any:
    """Counts the intermediate LPs that `bounds.relax` solves meanwhile."""

    def solve(relaxation: bounds.Relaxation, **options: Any) -> bounds.Solution:
        lps["intermediate"] += int((relaxation.C != 0).flatten(2).any(2).sum())
        return bounds.solve(relaxation, **options)

    return mock.patch.object(layer_lp, "solve", solve)
