"""Provably robust training: the loss of the worst logits that the bounds allow.

Wong & Kolter 2018 (arXiv 1711.00851), eq. 14: with J the lower bounds of the margins z_y − z_j over
a ball, no point of it has a larger cross-entropy than the logits −J.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bounds.arguments import (
    class_labels,
    number_of_classes,
    require_floats,
    require_option,
    require_type,
    require_whole,
)
from bounds.errors import InvalidInputError
from bounds.intermediate.intermediate import relu_bounds
from bounds.intermediate.neuron_bounds import row_bounds
from bounds.intermediate.relax import matching_set
from bounds.network.graph import Network
from bounds.read.model import network_of
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.specification import margins
from bounds.rounding import plain_arithmetic
from bounds.sets.ball import Ball
from bounds.sets.numbers import Number

Reduction = Literal["mean", "sum", "none"]
#: The intermediate bounds that cost little enough to train on.
TrainingIntermediate = Literal["interval", "backward"]


class LossAndError(NamedTuple):
    """loss: at least the cross-entropy of every point of the balls. error: how many inputs are not
    proved to keep the answer y. Both are means, sums, or of each input, (batch,).

    >>> import torch
    >>> loss, error = LossAndError(torch.tensor(0.5), torch.tensor(0.25))
    >>> error.item()
    0.25
    """

    loss: Tensor
    error: Tensor


def robust_loss(
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor | int,
    *,
    radius: Number,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
    intermediate: TrainingIntermediate = "backward",
    projection: int | None = None,
    reduction: Reduction = "mean",
) -> LossAndError:
    """The cross-entropy of the worst logits that fixed-slope bounds allow, and the certified error.

    Differentiable with respect to the model's parameters, x and the radius, through the bounds of
    every layer. All sums are taken in the dtype of the model and x, inside `torch.autocast` too,
    and their rounding is charged to the bounds.

    Args:
        model: a classifier as for `from_torch`, in float32 or float64; gradients flow to
            its parameters. Wrap `RobustLoss(model)` rather than the model in
            `DistributedDataParallel`.
        x: a batch of inputs, (batch, *input_shape), in the dtype of the model.
        y: the right classes, integers, (batch,), or one number for all.
        radius, norm, lower, upper: of the balls and the box around them, as for `Ball`.
        intermediate: the pre-activation bounds: "backward" (Wong–Kolter), or "interval" (boxes, as
            in Zhang et al. 2020, arXiv 1906.06316), which are looser and cost a fraction.
        projection: for ℓ∞ and ℓ2: how many random vectors estimate the "backward" bounds of a layer
            where that is less work (`bounds.intermediate.projection`), drawn by torch's default
            generator. Loss and error are then estimates too, and prove nothing.
        reduction: "mean", "sum" or "none", of the loss and the error alike.

    Returns:
        The loss and the error: a share of the batch, a number of inputs, or for "none" one bool an
        input. A margin that is no finite number counts as an error.

    Raises:
        InvalidInputError: what `Ball`, `margins` and `from_torch` refuse, labels that are not one
            an input, overflow, another option, or a projection of ℓ1 balls or of no vectors.
        UnsupportedLayerError: what `from_torch` does not model.

    >>> import torch
    >>> x, y = torch.tensor([[1.0, 0.0], [0.2, 0.0]]), torch.tensor([0, 0])
    >>> robust_loss(torch.nn.Identity(), x, y, radius=0.25, reduction="none").error.tolist()
    [False, True]
    """
    require_option("robust_loss", "reduction", reduction, get_args(Reduction))
    require_option("robust_loss", "intermediate", intermediate, get_args(TrainingIntermediate))
    if projection is not None:
        projection = require_whole("robust_loss", "projection", projection)
        if intermediate != "backward":
            raise InvalidInputError(
                f"robust_loss(projection={projection}, intermediate={intermediate!r}): expected "
                'intermediate="backward", whose bounds random vectors estimate, or no projection.'
            )
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        raise InvalidInputError(
            f"robust_loss got a {type(model).__name__}, whose gradients are only exchanged when it "
            "is called itself: call DistributedDataParallel(RobustLoss(model))(x, y, radius=…)."
        )
    require_floats("robust_loss", "x", x)
    with plain_arithmetic():
        network = network_of("robust_loss", model, x)
        network.require_batch("robust_loss", x)
        ball = Ball(x, radius=radius, norm=norm, lower=lower, upper=upper)
        input_set = matching_set("robust_loss", network, ball)
        classes = number_of_classes("robust_loss", network.output_shape)
        labels = class_labels("robust_loss", y, len(x), classes)
        C, d = margins(labels, classes).resolve(len(x), network.output_shape, input_set.lower)
        layers = relu_bounds(
            network, input_set, method=intermediate, slope="fixed", projection=projection
        ).layers
        origin = intermediate if projection is None else "given"
        margin = row_bounds(Relaxation(network, input_set, C, d, layers, origin))
        # The logit of y is 0, and every other one exceeds it by minus its margin.
        worst = F.pad(-margin, (1, 0))
        loss = F.cross_entropy(
            worst, torch.zeros(len(x), dtype=torch.long, device=x.device), reduction=reduction
        )
    # What is no number proves nothing.
    unproved = ~((margin > 0) & torch.isfinite(margin)).detach().all(1)
    if reduction == "none":
        return LossAndError(loss, unproved)
    total = unproved.to(loss).sum()
    return LossAndError(loss, total if reduction == "sum" else total / len(x))


class RobustLoss(nn.Module):
    """`robust_loss` of a model as a module, which `DistributedDataParallel` can wrap.

    Raises InvalidInputError for what is no module; a call raises what `robust_loss` does.

    >>> import torch
    >>> loss = RobustLoss(torch.nn.Linear(2, 3))
    >>> loss(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long), radius=0.1).loss.shape
    torch.Size([])
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        require_type("RobustLoss", model, nn.Module, "pass the model itself")
        self.model = model

    def forward(
        self,
        x: Tensor,
        y: Tensor | int,
        *,
        radius: Number,
        norm: float = math.inf,
        lower: Number | None = None,
        upper: Number | None = None,
        intermediate: TrainingIntermediate = "backward",
        projection: int | None = None,
        reduction: Reduction = "mean",
    ) -> LossAndError:
        """See `robust_loss`."""
        return robust_loss(
            self.model,
            x,
            y,
            radius=radius,
            norm=norm,
            lower=lower,
            upper=upper,
            intermediate=intermediate,
            projection=projection,
            reduction=reduction,
        )
