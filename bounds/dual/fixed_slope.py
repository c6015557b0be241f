"""The two one-pass bounds: multipliers that the backward pass itself determines.

`fixed_slope` is Wong & Kolter's (2018, arXiv 1711.00851): both faces of the triangle get the slope
u / (u − l). `adaptive_slope` is CROWN's (Zhang et al. 2018, arXiv 1811.00866): where the arriving
coefficient ĉ is positive, so that z is bounded from below, the slope is 1 if u > −l and 0
otherwise, whichever triangle is smaller. Larger means by a part of 2⁻³⁰ at least (in float64), so
that what is a tie but for rounding is one for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.dual.dual import MultiplierRule
from bounds.network.affine import Convert
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import smallest


def fixed(position: int, arriving: Tensor, neurons: ReluBounds) -> Tensor:
    """ν = ĉ u / (u − l), which is odd in ĉ."""
    return arriving * neurons.slope.unsqueeze(1)


def adaptive(position: int, arriving: Tensor, neurons: ReluBounds) -> Tensor:
    """ν = ĉ u / (u − l) for ĉ < 0, and ĉ or 0 for ĉ ≥ 0."""
    below = neurons.mostly_active.to(arriving.dtype)
    return arriving * torch.where(arriving < 0, neurons.slope.unsqueeze(1), below.unsqueeze(1))


RULES: dict[str, MultiplierRule] = {"fixed": fixed, "adaptive": adaptive}


@dataclass(frozen=True, eq=False)
class Faces:
    """What either rule makes of a ReLU layer, stable neurons included; each (batch, *shape).

    ν is the coefficient ĉ times `below` where ĉ ≥ 0, which costs the bound nothing, and times
    `above` where ĉ < 0, which costs at most |ĉ| intercept, whatever rounding did to ν. largest: as
    of the neurons, (batch,).
    """

    below: Tensor
    above: Tensor
    intercept: Tensor
    largest: Tensor

    @staticmethod
    def of(neurons: ReluBounds, slope: str) -> Faces:
        dtype = neurons.lower.dtype
        active, unstable = neurons.active.to(dtype), neurons.unstable.to(dtype)
        steep, depth = neurons.slope, -neurons.lower
        above = steep + active
        below = above
        if slope == "adaptive":
            below = unstable * neurons.mostly_active + active
        # −ν l and (ν − ĉ) u, which are equal over the reals.
        intercept = torch.maximum(depth * steep, (1 - steep) * neurons.upper)
        eps = torch.finfo(dtype).eps
        off = intercept + steep * torch.maximum(depth, neurons.upper)
        rounding = 4 * (eps * off.detach() + smallest(dtype))
        return Faces(below, above, unstable * (intercept + rounding), neurons.largest)

    def convert(self, convert: Convert) -> Faces:
        above = convert(self.above)
        below = above if self.below is self.above else convert(self.below)
        return Faces(below, above, convert(self.intercept), convert(self.largest))
