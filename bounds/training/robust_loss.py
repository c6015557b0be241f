"""Provably robust training: the loss of the worst logits that the bounds allow.

Wong & Kolter 2018 (arXiv 1711.00851), eq. 14: with J the lower bounds of the margins z_y − z_j over
a ball, no point of it has a larger cross-entropy than the logits −J.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch import Tensor, nn

from bounds.arguments import require_option, require_whole
from bounds.errors import InvalidInputError
from bounds.intermediate.intermediate import relu_bounds
from bounds.intermediate.neuron_bounds import row_bounds
from bounds.network.graph import Network
from bounds.relaxation.relaxation import Relaxation
from bounds.rounding import plain_arithmetic
from bounds.sets.numbers import Number
from bounds.training.posed import (
    LossAndError,
    Reduction,
    cross_entropies,
    loss_and_error,
    posed,
    require_loss,
    unproved,
)

#: The intermediate bounds that cost little enough to train on.
TrainingIntermediate = Literal["interval", "backward"]


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
    require_loss("robust_loss", model, reduction)
    require_option("robust_loss", "intermediate", intermediate, get_args(TrainingIntermediate))
    if projection is not None:
        projection = require_whole("robust_loss", "projection", projection)
        if intermediate != "backward":
            raise InvalidInputError(
                f"robust_loss(projection={projection}, intermediate={intermediate!r}): expected "
                'intermediate="backward", whose bounds random vectors estimate, or no projection.'
            )
    with plain_arithmetic():
        question = posed(
            "robust_loss", model, x, y, radius=radius, norm=norm, lower=lower, upper=upper
        )
        network, input_set = question.network, question.input_set
        layers = relu_bounds(
            network, input_set, method=intermediate, slope="fixed", projection=projection
        ).layers
        origin = intermediate if projection is None else "given"
        relaxation = Relaxation(network, input_set, question.C, question.d, layers, origin)
        margin = row_bounds(relaxation)
        losses = cross_entropies(margin)
    return loss_and_error(losses, unproved(margin), reduction)
