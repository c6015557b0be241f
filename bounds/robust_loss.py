"""Provably robust training: the loss of the worst logits that the bounds allow.

Wong & Kolter 2018 (arXiv 1711.00851), eq. 14: with J the lower bounds of the margins z_y − z_j over
a ball, no point of it has a larger cross-entropy than the logits −J.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bounds.ball import Ball, Number
from bounds.errors import InvalidInputError
from bounds.network import Network
from bounds.neuron_bounds import row_bounds
from bounds.relax import relax
from bounds.rounding import plain_arithmetic
from bounds.specification import margins

Reduction = Literal["mean", "sum", "none"]
#: The intermediate bounds that cost little enough to train on.
TrainingIntermediate = Literal["interval", "backward"]


class LossAndError(NamedTuple):
    """loss: an upper bound of the cross-entropy anywhere in the balls. error: how many inputs are
    not proved to keep the answer y. Both are means, sums, or of each input, (batch,)."""

    loss: Tensor
    error: Tensor


def robust_loss(
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor,
    *,
    radius: Number,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
    intermediate: TrainingIntermediate = "backward",
    reduction: Reduction = "mean",
) -> LossAndError:
    """The cross-entropy of the worst logits that the bounds allow, and the certified error."""
    for name, value, allowed in (
        ("reduction", reduction, get_args(Reduction)),
        ("intermediate", intermediate, get_args(TrainingIntermediate)),
    ):
        if value not in allowed:
            raise InvalidInputError(
                f"robust_loss({name}={value!r}): expected one of {', '.join(map(repr, allowed))}."
            )
    network = model if isinstance(model, Network) else Network.from_torch(model, x.shape[1:])
    ball = Ball(x, radius=radius, norm=norm, lower=lower, upper=upper)
    rows = margins(y, math.prod(network.output_shape))
    relaxation = relax(network, ball, rows, intermediate=intermediate)
    with plain_arithmetic():
        margin = row_bounds(relaxation)
    # The logit of y is 0, and every other one exceeds it by minus its margin.
    worst = F.pad(-margin, (1, 0))
    loss = F.cross_entropy(worst, torch.zeros_like(y), reduction=reduction)
    unproved = ~(margin.detach() > 0).all(1)  # NaN proves nothing
    if reduction == "none":
        return LossAndError(loss, unproved)
    total = unproved.to(loss).sum()
    return LossAndError(loss, total if reduction == "sum" else total / len(x))


class RobustLoss(nn.Module):
    """`robust_loss` as a module: `RobustLoss(model, radius=0.1)(x, y)`.

    `DistributedDataParallel` averages the gradients of what it wraps, when that is called: wrap
    this rather than the model.
    """

    def __init__(self, model: nn.Module, **options: Any) -> None:
        super().__init__()
        self.model, self.options = model, options

    def forward(self, x: Tensor, y: Tensor) -> LossAndError:
        return robust_loss(self.model, x, y, **self.options)
