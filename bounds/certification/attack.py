"""Projected gradient descent towards an unsafe output. It finds counterexamples and proves nothing.

Madry et al. 2018, arXiv 1706.06083, with restarts and steps that shrink.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.network.graph import Network
from bounds.network.memory import pass_numbers
from bounds.sets.box import InputSet

#: Steps, each shorter than the one before, and the first in units of the set's half width.
STEPS, FIRST_STEP, SHRINK = 40, 0.5, 0.9
#: Points that each search starts from at random: so many that a pass holds about as many numbers,
#: within limits.
NUMBERS, FEWEST, MOST = 2**19, 16, 256


def restarts(network: Network) -> int:
    """How many points each search starts from, besides those that it is given."""
    return min(MOST, max(FEWEST, NUMBERS // pass_numbers(network)))


@torch.enable_grad()
def attack(
    network: Network,
    input_set: InputSet,
    C: Tensor,
    d: Tensor,
    starts: Tensor,
    *,
    generator: torch.Generator,
    deadline: Deadline,
) -> tuple[Tensor, Tensor]:
    """Search each set for the point where the largest of its rows ⟨c, net(x)⟩ + d is smallest.

    Args:
        input_set: one set a search. C: (searches, rows, *output_shape). d: (searches, rows).
        starts: (searches, points, *input_shape), points to start from.

    Returns:
        The best points, (searches, *input_shape), and the largest row of each, (searches,). At a
        negative one, all rows are negative.
    """
    C, network = C.flatten(2), network.detach()
    lower, width = input_set.lower.unsqueeze(1), (input_set.upper - input_set.lower).unsqueeze(1)
    shape = (len(input_set), restarts(network), *network.input_shape)
    share = torch.rand(shape, generator=generator, dtype=torch.float64)
    share[:, ::2] = share[:, ::2].round()  # corners, which are likelier to be worst
    x = input_set.project(torch.cat((starts, lower + share.to(lower) * width), 1))
    best, smallest = x, torch.full(x.shape[:2], torch.inf).to(x)
    step = FIRST_STEP / 2
    for _ in range(STEPS):
        x.requires_grad_()
        y = network(x.flatten(0, 1)).reshape(*x.shape[:2], -1)
        values = (torch.einsum("bpo,bro->bpr", y, C) + d.unsqueeze(1)).amax(2)
        [gradient] = torch.autograd.grad(values.sum(), x)
        better = (values < smallest).detach()
        smallest = torch.where(better, values.detach(), smallest)
        best = torch.where(better.reshape(*better.shape, *[1] * (x.dim() - 2)), x.detach(), best)
        if deadline.passed:
            break
        x = input_set.project(x.detach() - step * width * gradient.sign())
        step *= SHRINK
    winner = smallest.argmin(1)
    searches = torch.arange(len(best), device=best.device)
    return best[searches, winner], smallest[searches, winner]
