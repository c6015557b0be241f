"""The errors that attacks find and that bounds leave, image by image.

Each is a set of images that contains the one before: answered wrongly; broken by FGS; by PGD; not
certified by the LP optimum; not certified by the fixed slope. The robust error lies between PGD and
the LP optimum. All of it is in float64, and attacks and bounds are about the same set.

Of a cascade (Wong et al. 2018, arXiv 1805.12514, section 3.3) there are only the first and the last
of these: its prediction is wrong, or not proved by the network that answers. An attack on one of
the networks is none on the cascade, as the attacked image may be answered by another one. And which
network answers is decided by the fixed slope: LP optima would make another cascade. Its last error
is no bound on what attacks on the whole cascade can reach (see `bounds.cascade`).
"""

from __future__ import annotations

import copy
import math
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

#: The errors, each a set that contains the one before, with their names in tables.
KINDS = {
    "clean": "answered wrongly",
    "fgs": "broken by FGS",
    "pgd": "broken by PGD",
    "exact": "not certified by the LP optimum",
    "fixed": "not certified by the fixed slope",
}
#: Images that are measured together.
CHUNK = 100


@dataclass(frozen=True, kw_only=True)
class Question:
    """radius, norm: of the balls. box: whether pixels stay in [0, 1]. steps, restarts, seed: of
    PGD. exact: whether LPs are solved."""

    radius: float
    norm: float = math.inf
    box: bool = True
    steps: int = 40
    restarts: int = 1
    seed: int = 0
    exact: bool = True

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


def measure(
    models: Sequence[nn.Sequential],
    images: Split,
    question: Question,
    *,
    device: torch.device,
    tick: Callable[[int], None] = lambda count: None,
) -> Findings:
    """The errors of a network, or of the cascade of several.

    tick: is told how many images were added.

    Raises:
        BoundsError: an attack broke what was certified.
    """
    models = [copy.deepcopy(model).to(device, torch.float64) for model in models]
    generator = torch.Generator().manual_seed(question.seed)
    watch = Stopwatch()
    errors: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    answers: list[CascadeAnswer] = []
    for chosen in torch.arange(len(images)).split(CHUNK):
        x = images.pixels(chosen, next(models[0].parameters()).detach())
        y = images.labels[chosen].to(device)
        if len(models) > 1:
            with watch("fixed"):
                answer = bounds.cascade(models, x, **question.ball)
            found = {"clean": answer.prediction != y, "fixed": answer.wrong(y)}
            answers.append(CascadeAnswer(answer.stage.cpu(), answer.prediction.cpu()))
        else:
            found = _errors(models[0], x, y, question, generator, watch)
        for kind, which in found.items():
            errors[kind].append(which.cpu())
        tick(len(x))
    return Findings(
        {kind: torch.cat(parts) for kind, parts in errors.items() if parts},
        watch.seconds,
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
    with watch("pgd"):
        points = bounds.pgd(
            model,
            x,
            y,
            steps=question.steps,
            restarts=question.restarts,
            generator=generator,
            **question.ball,
        )
        found["pgd"] = _wrong(model, points, y)
    with watch("fixed"), torch.no_grad():
        network = bounds.from_torch(model, x.shape[1:])
        relaxation = bounds.relax(
            network, bounds.Ball(x, **question.ball), bounds.margins(y, CLASSES)
        )
        lower = trusted(bounds.solve(relaxation, method="fixed_slope"))
        found["fixed"] = ~(lower > 0).all(1)
    if question.exact:
        with watch("exact"):
            proved = proved_exactly(relaxation, lower, found["fixed"] & ~found["pgd"])
            found["exact"] = found["fixed"] & ~proved
    for attack in ("clean", "fgs", "pgd"):
        if bool((found[attack] & ~found["fixed"]).any()):
            raise BoundsError(
                f"an image that is {KINDS[attack]} was certified: report this, one of the two is "
                "wrong."
            )
    return found


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
