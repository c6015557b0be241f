"""Projected gradient descent on the margins that no bound has proved yet."""

from __future__ import annotations

import torch
from torch import Tensor

import bounds

#: Steps of the attack, each shorter than the one before, and the first in units of the radius.
STEPS, FIRST_STEP, SHRINK = 20, 0.5, 0.9
#: Numbers of the points that move together: what stays in a processor's cache.
TOGETHER = 2**18


def attacked(relaxation: bounds.Relaxation, starts: Tensor, lower: Tensor) -> Tensor:
    """Whether a row of each input becomes negative; (batch,), on the CPU.

    starts: (batch, rows, *shape), where each row's descent begins. lower: (batch, rows), bounds
    that hold: rows whose bound is positive have no such point, and an input's others need none
    once one is found.
    """
    # What looks worst of every input first: many are fooled by that.
    order = torch.where(torch.isnan(lower), -torch.inf, lower).argsort(1)
    places, images = (~(lower.gather(1, order) > 0)).T.nonzero(as_tuple=True)
    rows = order[images, places]
    fooled = torch.zeros(len(lower), dtype=torch.bool, device=lower.device)
    for some in torch.arange(len(images)).split(max(1, TOGETHER // starts[0, 0].numel())):
        _descend(relaxation, starts, images[some], rows[some], fooled)
    return fooled.cpu()


def _descend(
    relaxation: bounds.Relaxation, starts: Tensor, images: Tensor, rows: Tensor, fooled: Tensor
) -> None:
    """Add the inputs of these rows that are fooled."""
    network, step = relaxation.network, FIRST_STEP / 2
    at = (~fooled[images]).nonzero().squeeze(1)
    images, rows = images[at], rows[at]
    x, C, d = starts[images, rows], relaxation.C[images, rows], relaxation.d[images, rows]
    input_set = relaxation.input_set.convert(lambda tensor: tensor[images])
    for _ in range(STEPS):
        if len(images) == 0:
            break
        with torch.enable_grad():
            x.requires_grad_()
            margins = (network(x) * C).flatten(1).sum(1) + d
            [gradient] = torch.autograd.grad(margins.sum(), x)
        fooled[images[margins < 0]] = True
        reach = step * (input_set.upper - input_set.lower)
        x = input_set.project((x.detach() - reach * gradient.sign()).unsqueeze(1)).squeeze(1)
        step *= SHRINK
        kept = ~fooled[images]
        if not bool(kept.all()):
            images, x, C, d = (tensor[kept] for tensor in (images, x, C, d))
            input_set = input_set.convert(lambda tensor, kept=kept: tensor[kept])
