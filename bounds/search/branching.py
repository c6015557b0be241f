"""Where a box is cut in two: the coordinate in which the open row's linear bound varies most.

The score of a coordinate is its width times its coefficient, which counts as a tenth of the largest
at least: with the coefficients alone, coordinates that they overlook stay as wide as they are, and
with the widths alone, trees are several times as large.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bounds.search.domains import Domains, join

#: The smallest share of a box's largest coefficient that a coordinate counts with.
FLOOR = 0.1


def coordinates(domains: Domains, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """The coordinate to cut of each box, flattened, and where: its middle; NaN where the box has
    none with a number between its ends. Each (count,).

    coefficients: of the row that is closest to exclude the disjunct, (count, *input_shape).
    """
    lower, upper = domains.lower.flatten(1), domains.upper.flatten(1)
    middle = lower / 2 + upper / 2
    size = coefficients.flatten(1).abs().nan_to_num(0.0)
    score = (upper - lower) * torch.maximum(size, FLOOR * size.amax(1, keepdim=True))
    divisible = (lower < middle) & (middle < upper)
    # Where the bound does not vary at all, the widest.
    score = torch.where(score.amax(1, keepdim=True) > 0, score, upper - lower)
    score = torch.where(divisible, score, -1.0)
    best = score.argmax(1, keepdim=True)
    place = torch.where(divisible.gather(1, best), middle.gather(1, best), torch.nan)
    return best.squeeze(1), place.squeeze(1)


def halves(domains: Domains, coordinate: Tensor, place: Tensor, first: int) -> Domains:
    """The two parts of each box, both of which have the points between them; nodes are numbered
    from `first`, the lower parts before the upper ones."""
    at = coordinate.unsqueeze(1)
    ends = place.unsqueeze(1)
    shape = domains.lower.shape
    below = domains.upper.flatten(1).scatter(1, at, ends).reshape(shape)
    above = domains.lower.flatten(1).scatter(1, at, ends).reshape(shape)
    numbers = first + torch.arange(2 * len(domains), device=coordinate.device)
    low, high = numbers.split(len(domains))
    half = replace(domains, share=domains.share / 2)
    return join([replace(half, upper=below, node=low), replace(half, lower=above, node=high)])
