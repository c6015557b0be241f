"""The attack to train on: few steps of signed gradients from a random point, the last one kept.

`bounds.pgd` looks for the worst of all points that it visits, and pays for each. Here a point a
batch is wanted that is bad on average: one step of 1.25 radii from a uniform point of the box
(Wong et al. 2020, arXiv 2001.03994), or more and shorter ones. It proves nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.network.graph import Network
from bounds.sets.box import InputSet
from bounds.sets.norm_ball import NormBall
from bounds.training.intervals import outputs

#: The length of a single step, and of all steps together where there are more, in radii.
SINGLE, TOGETHER = 1.25, 2.5


@torch.enable_grad()
def ascended(network: Network, input_set: InputSet, labels: Tensor, steps: int) -> Tensor:
    """A point of each set, up to rounding, (batch, *input_shape), by so many steps up the
    cross-entropy; random numbers are those of torch's default generator."""
    network = network.detach()
    input_set = input_set.convert(Tensor.detach)
    lower, upper = input_set.lower, input_set.upper
    share = torch.rand(lower.shape, dtype=torch.float64).to(lower)
    points = _placed(input_set, lower + share * (upper - lower))
    length = SINGLE if steps == 1 else TOGETHER / steps
    for _ in range(steps):
        points.requires_grad_()
        losses = F.cross_entropy(outputs(network, points), labels, reduction="sum")
        [gradient] = torch.autograd.grad(losses, points)
        if isinstance(input_set, NormBall):
            reach = input_set.radius.reshape(-1, *[1] * (lower.dim() - 1))
            step = F.normalize(gradient.flatten(1), dim=1).reshape(gradient.shape)
        else:
            reach, step = (upper - lower) / 2, gradient.sign()
        points = _placed(input_set, points.detach() + length * reach * step)
    return points


def _placed(input_set: InputSet, points: Tensor) -> Tensor:
    return input_set.project(points.unsqueeze(1)).squeeze(1)
