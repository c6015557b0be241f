"""Losses between an attack and interval bounds: what they are worth shows complete verification.

De Palma et al. 2024 (arXiv 2305.13991): MTL-IBP, CC-IBP and Exp-IBP. Müller et al. 2023 (arXiv
2210.04871): small boxes, SABR. None of them bounds anything, and none says that it does.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from bounds.arguments import require_option, require_whole
from bounds.network.affine import row_sums
from bounds.network.graph import Network
from bounds.rounding import smallest
from bounds.sets.box import Box
from bounds.sets.numbers import Number
from bounds.training.ascent import ascended
from bounds.training.intervals import nominal, nominal_margins, outputs
from bounds.training.posed import (
    Reduction,
    cross_entropies,
    loss_and_error,
    posed,
    require_loss,
    require_relus,
    require_share,
    unproved,
    without_autocast,
)

#: MTL-IBP mixes the losses, CC-IBP the margins, and Exp-IBP the logarithms of the losses.
Combination = Literal["losses", "margins", "logarithms"]


class Surrogate(NamedTuple):
    """loss: to train on; a number that bounds nothing. attacked: how many inputs are answered
    wrongly at the point that the attack found; no bound either, as a longer attack finds more. Both
    are means, sums, or of each input, (batch,).

    >>> import torch
    >>> loss, attacked = Surrogate(torch.tensor(0.5), torch.tensor(0.25))
    >>> attacked.item()
    0.25
    """

    loss: Tensor
    attacked: Tensor


@without_autocast()
def mixed_loss(
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor | int,
    *,
    radius: Number,
    mixture: float,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
    combination: Combination = "losses",
    steps: int = 1,
    reduction: Reduction = "mean",
) -> Surrogate:
    """The cross-entropy between that at attacked points and that of interval bounds.

    A surrogate: its value is no bound, and it proves nothing, not even with a mixture of 1, as
    rounding is not accounted for. Train on it, and let `certify` prove what it left open.

    Args:
        model, x, y, radius, norm, lower, upper, reduction: as for `robust_loss`; but a model with
            batch normalisation in training mode takes the statistics of x, for the attack and the
            boxes alike. ℓ1 and ℓ2 balls are attacked as they are, and bounded as their boxes.
        mixture: the share of the interval bounds, from 0 (adversarial training) to 1.
        combination: of what the two are shares: "losses" (MTL-IBP), "margins" (CC-IBP) or
            "logarithms" of the losses (Exp-IBP).
        steps: of the attack, at least 1; see `bounds.training.ascent`.

    Raises:
        InvalidInputError: what `robust_loss` refuses, a mixture outside of [0, 1], no steps, or a
            network without a ReLU.
        UnsupportedLayerError: what `from_torch` does not model.

    >>> import torch
    >>> x, y = torch.tensor([[1.0, 0.0], [0.2, 0.0]]), torch.tensor([0, 0])
    >>> mixed_loss(torch.nn.ReLU(), x, y, radius=0.25, mixture=0.1, reduction="none").loss.shape
    torch.Size([2])
    """
    require_loss("mixed_loss", model, reduction)
    mixture = require_share("mixed_loss", "mixture", mixture)
    require_option("mixed_loss", "combination", combination, get_args(Combination))
    steps = require_whole("mixed_loss", "steps", steps)
    at: Any = {"radius": radius, "norm": norm, "lower": lower, "upper": upper}
    question = posed("mixed_loss", model, x, y, batch_statistics=True, **at)
    require_relus("mixed_loss", question.network)
    network, input_set = nominal(question.network), question.input_set
    C, d = question.C, question.d
    points = ascended(network, input_set, question.labels, steps)
    margin = row_sums(C.flatten(2), outputs(network, points).unsqueeze(1)) + d
    bound = nominal_margins(network, input_set, C, d)
    if combination == "margins":
        losses = cross_entropies((1 - mixture) * margin + mixture * bound)
    elif combination == "losses":
        losses = (1 - mixture) * cross_entropies(margin) + mixture * cross_entropies(bound)
    else:
        # An answer can be so confident that its loss is 0, which has no logarithm.
        little = smallest(margin.dtype)
        attacked, bounded = (cross_entropies(rows).clamp(min=little) for rows in (margin, bound))
        losses = torch.exp((1 - mixture) * attacked.log() + mixture * bounded.log())
    return Surrogate(*loss_and_error(losses, unproved(margin), reduction))


@without_autocast()
def small_box_loss(
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor | int,
    *,
    radius: Number,
    share: float,
    lower: Number | None = None,
    upper: Number | None = None,
    steps: int = 8,
    reduction: Reduction = "mean",
) -> Surrogate:
    """The cross-entropy of interval bounds over a small box around an attacked point (SABR).

    A surrogate: its value is no bound and proves nothing, as most of the ℓ∞ ball lies outside of
    the box. Train on it, and let `certify` prove what it left open.

    Args:
        model, x, y, radius, lower, upper, steps, reduction: as for `mixed_loss`, in ℓ∞.
        share: of the ball's width in each coordinate that the box has, from 0 (adversarial
            training) to 1 (the loss of intervals). The box lies within the ball.

    Returns:
        As `mixed_loss`; `attacked` counts the middles of the boxes.

    Raises:
        InvalidInputError: what `mixed_loss` refuses, or a share outside of [0, 1].
        UnsupportedLayerError: what `from_torch` does not model.

    >>> import torch
    >>> x, y = torch.tensor([[1.0, 0.0], [0.2, 0.0]]), torch.tensor([0, 0])
    >>> small_box_loss(torch.nn.ReLU(), x, y, radius=0.25, share=0.1).loss.shape
    torch.Size([])
    """
    require_loss("small_box_loss", model, reduction)
    share = require_share("small_box_loss", "share", share)
    steps = require_whole("small_box_loss", "steps", steps)
    at: Any = {"radius": radius, "norm": math.inf, "lower": lower, "upper": upper}
    question = posed("small_box_loss", model, x, y, batch_statistics=True, **at)
    require_relus("small_box_loss", question.network)
    network, whole = nominal(question.network), question.input_set
    points = ascended(network, whole, question.labels, steps)
    reach = share * (whole.upper - whole.lower) / 2
    middle = torch.clamp(points, whole.lower + reach, whole.upper - reach)
    box = Box(middle - reach, middle + reach)
    bound = nominal_margins(network, box, question.C, question.d)
    with torch.no_grad():
        logits = outputs(network, middle).unsqueeze(1)
        wrong = unproved(row_sums(question.C.flatten(2), logits) + question.d)
    return Surrogate(*loss_and_error(cross_entropies(bound), wrong, reduction))
