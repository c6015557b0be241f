"""Images decided from cheap to tight: attack, Wong and Kolter's pass, LP-LAST, LP-ALL.

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
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import bounds
from benchmarks.published.inner import refuted
from bounds.intermediate import layer_lp
from bounds.solution.verdict import trusted

#: Steps of the attack, each shorter than the one before, and the first in units of the radius.
STEPS, FIRST_STEP, SHRINK = 20, 0.5, 0.9
#: Numbers in the ± rows of all intermediate LPs of the images that are relaxed together.
LP_ROWS = {"cpu": 1000, "cuda": 100_000}


@dataclass(frozen=True)
class Outcome:
    """How an image ended.

    decided: by what: "clean" (a wrong answer to the image itself), "attack", "lp_greedy",
    "lp_inner" (`inner.py`: LP-ALL leaves it open), "lp_last" or "lp_all". lp_greedy: that
    bound of its smallest margin. lower, upper: of the tightest LP's smallest margin that was looked
    at, which stops at the sign; NaN where none was. certified: whether every margin is proved
    positive. undecided: whether an LP ended without a sign, or with intermediate bounds that are no
    optima: such an image counts as not certified. lps: by method. seconds: its share of the time.
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
        """For JSON, which has no NaN."""
        numbers = asdict(self)
        return {k: None if v != v else v for k, v in numbers.items()}


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
    """Images whose LPs are solved together. share: the seconds that each has taken already."""

    images: tuple[int, ...]
    share: float


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
        classes = math.prod(network.output_shape)
        relaxation = bounds.relax(network, ball, bounds.margins(y, classes))
        greedy = bounds.solve(relaxation, method="fixed_slope")
        if isinstance(task, Chunk):
            return _cheap(relaxation, greedy, x, y, task.images, start)
        found = _by_lp(relaxation, greedy.lower, task.share, start)
        smallest = greedy.lower.amin(1).tolist()
        return Found(
            tuple(
                Outcome(image, **one, lp_greedy=low)
                for image, one, low in zip(task.images, found, smallest, strict=True)
            )
        )


def _cheap(
    relaxation: bounds.Relaxation,
    greedy: bounds.Solution,
    x: Tensor,
    y: Tensor,
    images: Sequence[int],
    start: float,
) -> Found:
    """Whatever is decided without an LP; what is left in groups of alike sizes."""
    network = relaxation.network
    proved, smallest = greedy.verified, greedy.lower.amin(1).tolist()
    right = (network(x).flatten(1).argmax(1) == y).cpu()
    if bool((proved & ~right).any()):
        raise AssertionError(f"an image among {images} is proved, and answered wrongly")
    open_ = torch.nonzero(right & ~proved).flatten()
    fooled = torch.zeros_like(right)
    if len(open_):
        fooled[open_] = attacked(relaxation, greedy.certificate.x, open_.to(x.device))
    share = (time.perf_counter() - start) / len(images)
    by = [
        "clean" if not right[k] else "lp_greedy" if proved[k] else "attack" if fooled[k] else ""
        for k in range(len(images))
    ]
    decided = [
        Outcome(image, method, method == "lp_greedy", low, seconds=share)
        for image, method, low in zip(images, by, smallest, strict=True)
        if method
    ]
    left = [k for k, method in enumerate(by) if not method]
    if left and len(network.relus) > 1:
        start = time.perf_counter()
        rows = torch.arange(greedy.lower.shape[1], device=x.device)
        part = relaxation.take(torch.tensor(left, device=x.device), rows)
        hopeless = refuted(part, greedy.lower[left]).tolist()
        share += (time.perf_counter() - start) / len(left)
        decided += [
            Outcome(images[k], "lp_inner", False, smallest[k], lps={"inner": 1}, seconds=share)
            for k, is_hopeless in zip(left, hopeless, strict=True)
            if is_hopeless
        ]
        left = [k for k, is_hopeless in zip(left, hopeless, strict=True) if not is_hopeless]
    groups = (tuple(images[k] for k in group) for group in _groups(relaxation, left))
    return Found(tuple(decided), tuple(Group(group, share) for group in groups))


def attacked(relaxation: bounds.Relaxation, starts: Tensor, images: Tensor) -> Tensor:
    """Whether projected gradient descent makes a row of these inputs negative, each from a point of
    its own: starts (batch, rows, *shape)."""
    rows = torch.arange(relaxation.C.shape[1], device=images.device)
    part, x = relaxation.take(images, rows), starts[images]
    input_set, network = part.input_set, part.network
    width = (input_set.upper - input_set.lower).unsqueeze(1)
    C, step = part.C.flatten(2), FIRST_STEP / 2
    smallest = torch.full(C.shape[:2], torch.inf).to(x)
    for _ in range(STEPS):
        with torch.enable_grad():
            x.requires_grad_()
            y = network(x.flatten(0, 1)).reshape(C.shape)
            margins = (y * C).sum(2) + part.d
            [gradient] = torch.autograd.grad(margins.sum(), x)
        smallest = torch.minimum(smallest, margins.detach())
        x = input_set.project(x.detach() - step * width * gradient.sign())
        step *= SHRINK
    return (smallest < 0).any(1).cpu()


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
    relaxation: bounds.Relaxation, greedy: Tensor, share: float, start: float
) -> list[dict[str, Any]]:
    """What LP-LAST says of these images and, where it proves too little, LP-ALL."""
    rows = torch.arange(relaxation.C.shape[1], device=relaxation.C.device)
    lps = Counter[str]()
    last = solve_rows(relaxation, greedy, lps)
    # With one ReLU, whose bounds are exact, LP-LAST is LP-ALL.
    deep = len(relaxation.network.relus) > 1
    open_ = torch.nonzero(~last.certified & deep).flatten()
    found = [last.of(k, "lp_last") for k in range(len(greedy))]
    if len(open_):
        left = relaxation.take(open_, rows)
        with _counting(lps):
            tight = _relax_again(left)
        every = solve_rows(tight, last.greedy[open_], lps)
        for position, k in enumerate(open_.tolist()):
            found[k] = every.of(position, "lp_all")
            unsolved = bool(tight.unsolved[position]) and not found[k]["certified"]
            found[k]["undecided"] |= unsolved
    seconds = share + (time.perf_counter() - start) / len(greedy)
    each = {method: count / len(greedy) for method, count in lps.items()}
    return [{**one, "lps": each, "seconds": seconds} for one in found]


def _relax_again(part: bounds.Relaxation) -> bounds.Relaxation:
    """The same LPs with intermediate bounds that are LP optima."""
    return bounds.relax(
        part.network, part.input_set, bounds.Specification(part.C, part.d), intermediate="lp"
    )


@dataclass(frozen=True)
class Rows:
    """What the LPs of each image's margins came to: all are proved, or one is not."""

    greedy: Tensor
    lower: Tensor
    upper: Tensor
    certified: Tensor
    undecided: Tensor

    def of(self, k: int, method: str) -> dict[str, Any]:
        return {
            "decided": method,
            "certified": bool(self.certified[k]),
            "lower": float(self.lower[k]),
            "upper": float(self.upper[k]),
            "undecided": bool(self.undecided[k]),
        }


def solve_rows(relaxation: bounds.Relaxation, cheap: Tensor, lps: Counter[str]) -> Rows:
    """The signs of all margins, of each image the worst first: where that is not positive, the
    others do not matter. cheap: (batch, rows), lower bounds that are known."""
    order = cheap.argsort(1)
    every = torch.arange(len(cheap), device=cheap.device)
    lower, upper = cheap.amin(1) * 0 + torch.inf, cheap.amin(1) * 0 + torch.inf
    undecided = torch.zeros_like(lower, dtype=torch.bool)
    for columns in (order[:, :1], order[:, 1:]):
        left = every[lower > 0]
        if len(left) == 0:
            break
        chosen = relaxation.take(left, columns[left])
        found = bounds.solve(chosen, sign_only=True)
        lps[f"margins, {relaxation.intermediate}"] += found.lower.numel()
        proof = trusted(found)
        lower[left] = torch.minimum(lower[left], proof.amin(1))
        upper[left] = torch.minimum(upper[left], found.upper.amin(1))
        undecided[left] |= ((proof <= 0) & ~(found.upper < 0)).any(1)
    return Rows(cheap, lower, upper, lower > 0, undecided & ~(upper < 0))


def _counting(lps: Counter[str]) -> Any:
    """Counts the intermediate LPs that `bounds.relax` solves meanwhile."""

    def solve(relaxation: bounds.Relaxation, **options: Any) -> bounds.Solution:
        lps["intermediate"] += int((relaxation.C != 0).flatten(2).any(2).sum())
        return bounds.solve(relaxation, **options)

    return mock.patch.object(layer_lp, "solve", solve)
