"""One backward pass over interval bounds: CROWN-IBP (Zhang et al. 2020, arXiv 1906.06316).

Fused (Xu et al. 2020, arXiv 2002.12920), the pass has one row an input instead of one for each
other class: e^v lies below its chord between the ends that intervals give v, the logit of a class
minus that of y; so the sum of all e^v lies below an affine function of the logits, whose largest
value over the ball is one bound, and log(1 + ·) of it bounds the cross-entropy.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from bounds.arguments import require_flag
from bounds.intermediate.neuron_bounds import row_bounds
from bounds.network.graph import Network
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import plain_arithmetic, smallest
from bounds.sets.numbers import Number
from bounds.training.interval_loss import interval_margins
from bounds.training.posed import (
    LossAndError,
    Posed,
    Reduction,
    cross_entropies,
    loss_and_error,
    posed,
    require_loss,
    require_relus,
    require_share,
    unproved,
)

#: Roundings of a term of the fused sum, many times over.
ROUNDINGS = 64


def crown_ibp_loss(
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor | int,
    *,
    radius: Number,
    mixture: float = 1.0,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
    fused: bool = False,
    reduction: Reduction = "mean",
) -> LossAndError:
    """The cross-entropy that interval bounds allow, improved by one backward pass.

    A bound: the loss is at least the cross-entropy of every point of the balls, and an input that
    is no error is proved, rounding included, by the intervals or by the backward pass, whatever the
    mixture.

    Args:
        model: as for `interval_loss`.
        x, y, radius, norm, lower, upper, reduction: as for `robust_loss`.
        mixture: the share of the backward pass, from 0 (`interval_loss`) to 1; the rest is that of
            the intervals. Zhang et al. begin with 1 and end with 0.
        fused: whether the pass bounds the loss itself, with one row an input, and the mixture is of
            losses; or every margin, and it is of margins. Fused it costs less, and is little better
            than intervals where these are loose, as chords of exponentials are then: for networks
            that are trained on it from small radii on.

    Raises:
        InvalidInputError: what `interval_loss` refuses, a mixture outside of [0, 1], or a flag that
            is none.
        UnsupportedLayerError: what `from_torch` does not model.

    >>> import torch
    >>> x, y = torch.tensor([[1.0, 0.0], [0.2, 0.0]]), torch.tensor([0, 0])
    >>> crown_ibp_loss(torch.nn.ReLU(), x, y, radius=0.25, reduction="none").error.tolist()
    [False, True]
    """
    call = "crown_ibp_loss"
    require_loss(call, model, reduction)
    mixture = require_share(call, "mixture", mixture)
    require_flag(call, "fused", fused)
    with plain_arithmetic():
        question = posed(
            *(call, model, x, y),
            radius=radius,
            norm=norm,
            lower=lower,
            upper=upper,
            batch_statistics=True,
        )
        require_relus(call, question.network)
        rows = question.C.shape[1]
        both = replace(
            question,
            C=torch.cat((question.C, -question.C), 1),
            d=torch.cat((question.d, -question.d), 1),
        )
        before: list[ReluBounds] = []
        ends = interval_margins(both, before)
        boxes, layers = ends[:, :rows], tuple(before)
        if fused:
            own, proved = _fused(question, layers, boxes, -ends[:, rows:])
            losses = mixture * own + (1 - mixture) * cross_entropies(boxes)
            errors = unproved(boxes) & ~proved
        else:
            passed = row_bounds(_relaxation(question, layers, question.C, question.d))
            best = torch.maximum(passed, boxes)
            # Both are bounds; rounding must not lift their mean above the better one.
            mixed = torch.minimum(mixture * passed + (1 - mixture) * boxes, best)
            losses, errors = cross_entropies(mixed), unproved(best)
    return loss_and_error(losses, errors, reduction)


def _relaxation(
    question: Posed, layers: tuple[ReluBounds, ...], C: Tensor, d: Tensor
) -> Relaxation:
    return Relaxation(question.network, question.input_set, C, d, layers, "interval")


def _fused(
    question: Posed, layers: tuple[ReluBounds, ...], least: Tensor, most: Tensor
) -> tuple[Tensor, Tensor]:
    """Upper bounds of the cross-entropies, and which of them prove the answer, both (batch,).

    least, most: bounds of the margins, (batch, rows).
    """
    low, high = -most, -least  # of v
    shift = high.detach().amax(1, keepdim=True).clamp(min=0)  # no exponential exceeds 1
    at_low, at_high = (low - shift).exp(), (high - shift).exp()
    eps, width = torch.finfo(low.dtype).eps, high - low
    narrow = width < eps**0.25  # where the difference of exponentials has lost its digits
    chord = (at_high - at_low) / torch.where(narrow, 1.0, width)
    slope = torch.where(narrow, at_high, chord)
    # Whatever the slope is, e^v − slope · v is convex, and largest at an end.
    offset = torch.maximum(at_low - slope * low, at_high - slope * high)
    row = (slope.unsqueeze(2) * question.C.flatten(2)).sum(1, keepdim=True)
    C = row.unflatten(2, question.C.shape[2:])
    relaxation = _relaxation(question, layers, C, torch.zeros_like(slope[:, :1]))
    lowest = row_bounds(relaxation).squeeze(1)
    with torch.no_grad():
        logits = relaxation.ranges()[-1].magnitude.flatten(1).amax(1, keepdim=True)
        sizes = at_high + slope * (low.abs() + high.abs() + logits)
        unit = ROUNDINGS * slope.shape[1] * eps
        rounding = unit * (sizes.sum(1) + lowest.abs()) + smallest(low.dtype)
    passed = offset.sum(1) - lowest + rounding
    boxes = at_high.sum(1) * (1 + unit)
    total = torch.minimum(passed, boxes)
    none = (-shift).squeeze(1).exp()  # of y itself
    loss = shift.squeeze(1) + (none + total.clamp(min=0)).log()
    # The sum of all e^v stays below 1, and so does each.
    return loss, (total < none * (1 - unit)) & torch.isfinite(total)
