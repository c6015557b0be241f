"""The two one-pass bounds: multipliers that the backward pass itself determines.

`fixed_slope` is Wong & Kolter's (2018, arXiv 1711.00851): both faces of the triangle get the slope
u / (u − l). `adaptive_slope` is CROWN's (Zhang et al. 2018, arXiv 1811.00866): where the arriving
coefficient ĉ is positive, so that z is bounded from below, the slope is 1 if u > −l and 0
otherwise, whichever triangle is smaller.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.dual import MultiplierRule
from bounds.triangle import ReluBounds


def fixed(position: int, arriving: Tensor, neurons: ReluBounds) -> Tensor:
    """ν = ĉ u / (u − l), which is odd in ĉ."""
    return arriving * neurons.slope.unsqueeze(1)


def adaptive(position: int, arriving: Tensor, neurons: ReluBounds) -> Tensor:
    """ν = ĉ u / (u − l) for ĉ < 0, and ĉ or 0 for ĉ ≥ 0."""
    below = (neurons.upper > -neurons.lower).to(arriving.dtype)
    return arriving * torch.where(arriving < 0, neurons.slope.unsqueeze(1), below.unsqueeze(1))


RULES: dict[str, MultiplierRule] = {"fixed": fixed, "adaptive": adaptive}
