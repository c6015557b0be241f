"""The signs of an image's margins, each by the cheapest LP method that tells it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import bounds
from bounds.solution.verdict import trusted

#: Iterations on an LP's slopes before an exact method takes it: nearly all have a sign by then.
SLOPES = 20


@dataclass(frozen=True)
class Rows:
    """What the LPs of each image's margins came to: all are proved, or one is not.

    lower: of the smallest margin that was looked at, or is known. upper: of that which was looked
    at, infinite where none was.
    """

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
    """The signs of the margins that `cheap` (batch, rows), lower bounds that hold, leaves open; of
    each image the worst first: where that is not positive, the others do not matter."""
    cheap = torch.where(torch.isnan(cheap), -torch.inf, cheap)
    open_, order = cheap <= 0, cheap.argsort(1)
    count = open_.sum(1)
    every = torch.arange(len(cheap), device=cheap.device)
    lower = torch.where(open_, torch.inf, cheap).amin(1)
    upper = torch.full_like(lower, torch.inf)
    undecided = torch.zeros_like(lower, dtype=torch.bool)
    for first, last in ((0, 1), (1, int(count.max()))):
        left = every[(lower > 0) & (count > first)]
        if len(left) == 0:
            break
        columns = order[left, first:last]
        proof, reached = signs(relaxation.take(left, columns))
        # Beside the rows of others, an image may get some that are known.
        known = ~open_[left].gather(1, columns)
        lps[f"margins, {relaxation.intermediate}"] += int((~known).sum())
        proof, reached = (end.masked_fill(known, torch.inf) for end in (proof, reached))
        lower[left] = torch.minimum(lower[left], proof.amin(1))
        upper[left] = torch.minimum(upper[left], reached.amin(1))
        undecided[left] |= ((proof <= 0) & ~(reached < 0)).any(1)
    return Rows(lower, upper, lower > 0, undecided & ~(upper < 0))


def signs(relaxation: bounds.Relaxation, *, sound: bool = True) -> tuple[Tensor, Tensor]:
    """Bounds of the LPs' optima from below and above, (batch, rows), as tight as their signs ask
    for; those from below are trusted ones, where they have to be sound."""

    def solved(lps: bounds.Relaxation, **options: Any) -> tuple[Tensor, Tensor]:
        found = bounds.solve(lps, sign_only=True, sound=sound, **options)
        return trusted(found) if sound else found.lower, found.upper

    lower, upper = solved(relaxation, method="optimised_slope", iteration_limit=SLOPES)
    open_ = ~((lower > 0) | (upper < 0))
    images = open_.any(1).nonzero().squeeze(1)
    if len(images):
        most = int(open_.sum(1).max())
        rows = open_[images].argsort(dim=1, descending=True, stable=True)[:, :most]
        at = images.unsqueeze(1), rows
        exact = solved(relaxation.take(images, rows))
        lower[at] = torch.maximum(lower[at], exact[0])
        upper[at] = torch.minimum(upper[at], exact[1])
    return lower, upper
