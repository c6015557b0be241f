"""The errors that attacks find and that bounds leave, image by image.

Each is a set of images that contains the one before: answered wrongly; broken by FGS; by PGD; by
PGD or a search; not certified by a search of the ReLUs' phases, which is complete where it ends in
time; by the LP optimum; by the fixed slope; by intervals. What is proved by one is proved by those
before it, which are only asked about what is left, and so is PGD. The robust error lies between
what is broken and what a search leaves. All of it is in float64, and attacks and bounds are about
the same set.

Of a cascade (Wong et al. 2018, arXiv 1805.12514, section 3.3) there are only the first of these and
what fixed slopes leave: its prediction is wrong, or not proved by the network that answers. An
attack on one of the networks is none on the cascade, as the attacked image may be answered by
another one. And which network answers is decided by the fixed slope: LP optima would make another
cascade. Its last error is no bound on what attacks on the whole cascade can reach (see
`bounds.cascade`).
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import bounds
from bounds import BoundsError, CascadeAnswer
from bounds.certification.stopwatch import Stopwatch
from bounds.solution.verdict import trusted
from examples.image_data import CLASSES, Split
from examples.kept import Kept

#: The errors, each a set that contains the one before, with their names in tables.
KINDS = {
    "clean": "answered wrongly",
    "fgs": "broken by FGS",
    "pgd": "broken by PGD",
    "broken": "broken by PGD or the search",
    "complete": "not certified by the search",
    "exact": "not certified by the LP optimum",
    "fixed": "not certified by the fixed slope",
    "interval": "not certified by intervals",
}
#: Is told of the work: its name, how many images are done, and of how many.
Tick = Callable[[str, int, int], None]
#: Images that are measured together.
CHUNK = 100


@dataclass(frozen=True, kw_only=True)
class Question:
    """radius, norm: of the balls. box: whether pixels stay in [0, 1]. steps, restarts, seed: of
    PGD. exact: whether LPs are solved. timeout: seconds of search an image, on average over a batch
    of them; 0 for no search."""

    radius: float
    norm: float = math.inf
    box: bool = True
    steps: int = 40
    restarts: int = 1
    seed: int = 0
    exact: bool = True
    timeout: float = 0.0

    @property
    def ball(self) -> dict[str, Any]:
        ends = {"lower": 0.0, "upper": 1.0} if self.box else {}
        return {"radius": self.radius, "norm": self.norm, **ends}


@dataclass(frozen=True, eq=False)
class Findings:
    """errors: by kind, which images are such errors, (images,). seconds: that their kinds took.
    answer: what a cascade says of each image; None for one network."""

    errors: dict[str, Tensor]
    seconds: dict[str, float]
    answer: CascadeAnswer | None = None

    @property
    def open(self) -> Tensor | None:
        """Which images are neither proved nor broken after the search; None without one."""
        if "complete" not in self.errors:
            return None
        return self.errors["complete"] & ~self.errors["broken"]


def measure(
    models: Sequence[nn.Sequential],
    images: Split,
    question: Question,
    *,
    device: torch.device,
    tick: Tick = lambda *_: None,
    kept: Kept | None = None,
) -> Findings:
    """The errors of a network, or of the cascade of several.

    tick: is told what is done, of how many images, and of how many in all. kept: what an evaluation
    of the same has found.

    Raises:
        BoundsError: an attack broke what was certified.
    """
    models = [copy.deepcopy(model).to(device, torch.float64) for model in models]
    kept = kept or Kept(None, {})
    errors: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    seconds: Counter[str] = Counter()
    answers: list[CascadeAnswer] = []
    for number, chosen in enumerate(torch.arange(len(images)).split(CHUNK)):
        x = images.pixels(chosen, next(models[0].parameters()).detach())
        y = images.labels[chosen].to(device)

        def find(number: int = number, x: Tensor = x, y: Tensor = y) -> Any:
            watch = Stopwatch()
            if len(models) > 1:
                with watch("fixed"):
                    answer = bounds.cascade(models, x, **question.ball)
                found = {"clean": answer.prediction != y, "fixed": answer.wrong(y)}
                return found, watch.seconds, tuple(answer)
            # A chunk's own, so that an evaluation that goes on draws the same.
            generator = torch.Generator().manual_seed(question.seed + number)
            return _errors(models[0], x, y, question, generator, watch), watch.seconds, None

        found, spent, answer = kept.part(f"chunk {number}", find)
        for kind, which in found.items():
            errors[kind].append(which.cpu())
        seconds.update(spent)
        if answer is not None:
            answers.append(CascadeAnswer(*(part.cpu() for part in answer)))
        tick("images", (number + 1) * CHUNK, len(images))
    joined = {kind: torch.cat(parts) for kind, parts in errors.items() if parts}
    if question.timeout and len(models) == 1:
        sought, spent = _searched(models[0], images, joined, question, kept, tick)
        joined |= sought
        seconds.update({"complete": spent})
    return Findings(
        joined,
        dict(seconds),
        CascadeAnswer(*map(torch.cat, zip(*answers, strict=True))) if answers else None,
    )


def _errors(
    model: nn.Sequential,
    x: Tensor,
    y: Tensor,
    question: Question,
    generator: torch.Generator,
    watch: Stopwatch,
) -> dict[str, Tensor]:
    found = {}
    with watch("clean"):
        found["clean"] = _wrong(model, x, y)
    with watch("fgs"):
        found["fgs"] = _wrong(model, bounds.fgs(model, x, y, **question.ball), y)
    network = bounds.from_torch(model, x.shape[1:])
    with watch("interval"), torch.no_grad():
        boxes = bounds.interval_loss(network, x, y, reduction="none", **question.ball).error
        found["fixed"], found["interval"] = boxes.clone(), boxes
    left = boxes.nonzero().flatten()
    found["pgd"] = found["fgs"].clone()
    if question.exact:
        found["exact"] = boxes.clone()
    if len(left):
        ball = bounds.Ball(x, **question.ball).take(left)
        with watch("fixed"), torch.no_grad():
            relaxation = bounds.relax(network, ball, bounds.margins(y[left], CLASSES))
            lower = trusted(bounds.solve(relaxation, method="fixed_slope"))
            unproved = ~(lower > 0).all(1)
            found["fixed"][left] = unproved
        with watch("pgd"):
            tried = left[unproved]
            if len(tried):
                points = bounds.pgd(
                    model,
                    x[tried],
                    y[tried],
                    steps=question.steps,
                    restarts=question.restarts,
                    generator=generator,
                    **question.ball,
                )
                found["pgd"][tried] |= _wrong(model, points, y[tried])
        if question.exact:
            with watch("exact"):
                proved = proved_exactly(relaxation, lower, unproved & ~found["pgd"][left])
                found["exact"][left] = unproved & ~proved
    for attack in ("clean", "fgs"):
        if bool((found[attack] & ~found["fixed"]).any()):
            raise BoundsError(
                f"an image that is {KINDS[attack]} was certified: report this, one of the two is "
                "wrong."
            )
    return found


def _searched(
    model: nn.Sequential,
    images: Split,
    errors: dict[str, Tensor],
    question: Question,
    kept: Kept,
    tick: Tick,
) -> tuple[dict[str, Tensor], float]:
    """What a search breaks and leaves, of the images that cheaper bounds left; and its seconds."""
    broken, complete = errors["pgd"].clone(), errors["exact" if question.exact else "fixed"].clone()
    spent, left = 0.0, (complete & ~broken).nonzero().flatten()
    for number, some in enumerate(left.split(CHUNK) if len(left) else ()):
        tick("searched", number * CHUNK, len(left))
        x = images.pixels(some, next(model.parameters()).detach())
        y = images.labels[some].to(x.device)

        def find(x: Tensor = x, y: Tensor = y) -> Any:
            watch = Stopwatch()
            with watch("complete"):
                verdicts = bounds.certify(
                    model, x, y, timeout=question.timeout * len(x), **question.ball
                ).verdicts
            return list(verdicts), watch.seconds["complete"]

        verdicts, seconds = kept.part(f"search from {int(some[0])}", find)
        broken[some] |= torch.tensor([verdict == "sat" for verdict in verdicts])
        complete[some] = torch.tensor([verdict != "unsat" for verdict in verdicts])
        spent += seconds
    return {"broken": broken, "complete": complete}, spent


@torch.no_grad()
def _wrong(model: nn.Sequential, points: Tensor, y: Tensor) -> Tensor:
    return model(points).argmax(1) != y


def proved_exactly(relaxation: bounds.Relaxation, lower: Tensor, tried: Tensor) -> Tensor:
    """Of which of the images `tried` (batch,) the LP optima prove every row.

    lower: bounds of the rows. Those that leave a row open are solved the lowest first, as an image
    with one row that stays open needs no more.
    """
    lower, proved = lower.clone(), torch.zeros_like(tried)
    left = tried.nonzero().flatten()
    while len(left):
        worst = lower[left].argmin(1, keepdim=True)
        solution = bounds.solve(relaxation.take(left, worst), method="exact", sign_only=True)
        lower[left.unsqueeze(1), worst] = trusted(solution)
        left = left[(trusted(solution) > 0).flatten()]
        done = (lower[left] > 0).all(1)
        proved[left[done]] = True
        left = left[~done]
    return proved
