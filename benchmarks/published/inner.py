"""LPs whose feasible points are feasible for LP-ALL too, without LP-ALL's intermediate bounds.

Where the optimum of such an LP is negative, LP-ALL's is, and none of its many LPs needs solving.

A feasible point of the LPs over the layers below a neuron gives a value that its pre-activation
takes, so that two of them give an interval [l, u] within that of LP-ALL; and the triangle of a
shorter interval lies in that of a longer one. One pass suggests such points, layer by layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

import bounds
from bounds import ReluBounds

#: Whether LP-ALL has a neuron as unstable, or as stable, is not known where one end of its inner
#: interval has the other sign than that of its outer bounds. It gets a triangle of this height in
#: place of none, and LP-ALL's optimum is negative where the inner one is below −MARGIN.
EDGE, MARGIN = 1e-9, 1e-4


def inner_relaxation(relaxation: bounds.Relaxation) -> bounds.Relaxation:
    """The LPs with inner intermediate bounds. relaxation: with bounds for which "backward" or a
    tighter method vouches; those of the first ReLU have to be exact, as a box's are."""
    network = relaxation.network
    found = [relaxation.relu_bounds[0]]
    for position in range(1, len(network.relus)):
        (parent,) = network.nodes[network.relus[position]].parents
        below = bounds.Network(network.nodes[: parent + 1])
        found.append(_inner(below, relaxation.input_set, found, relaxation.relu_bounds[position]))
    return bounds.Relaxation(
        network, relaxation.input_set, relaxation.C, relaxation.d, tuple(found)
    )


def _inner(
    below: bounds.Network,
    input_set: bounds.Box,
    found: list[ReluBounds],
    outer: ReluBounds,
) -> ReluBounds:
    unstable = outer.unstable.flatten(1)
    count = int(unstable.sum(1).max())
    if count == 0:
        return outer
    chosen = torch.argsort(unstable, dim=1, descending=True, stable=True)[:, :count]
    real = unstable.gather(1, chosen)
    rows = torch.zeros(*chosen.shape, unstable.shape[1]).to(outer.lower)
    rows = rows.scatter_(2, chosen.unsqueeze(2), 1.0).unflatten(2, below.output_shape)
    rows = torch.cat((rows, -rows), 1)
    lps = bounds.Relaxation(below, input_set, rows, 0 * rows.flatten(2)[:, :, 0], tuple(found))
    attained = bounds.solve(lps, method="adaptive_slope", sound=False).upper
    one, other = attained[:, :count], -attained[:, count:]
    # The network's own value at a point holds where a pass finds none within the intervals below.
    middle = below((input_set.lower + input_set.upper) / 2).flatten(1).gather(1, chosen)
    one, other = (torch.where(torch.isfinite(end), end, middle) for end in (one, other))
    low = torch.minimum(torch.minimum(one, other), middle)
    high = torch.maximum(torch.maximum(one, other), middle)

    def merge(bound: Tensor, inner: Tensor) -> Tensor:
        flat = bound.flatten(1)
        values = torch.where(real, inner, flat.gather(1, chosen))
        return flat.scatter(1, chosen, values).reshape(bound.shape)

    return ReluBounds(
        merge(outer.lower, low.clamp(max=-EDGE)), merge(outer.upper, high.clamp(min=EDGE))
    )


def refuted(relaxation: bounds.Relaxation, cheap: Tensor) -> Tensor:
    """Whether LP-ALL leaves the margin of each image open that is smallest by the bounds `cheap`
    (batch, rows); (batch,)."""
    images = torch.arange(len(cheap), device=cheap.device)
    worst = inner_relaxation(relaxation).take(images, cheap.argmin(1, keepdim=True))
    # Rounding is no matter beside the margin, and that an image is not proved is no claim.
    return (bounds.solve(worst, sign_only=True, sound=False).upper < -MARGIN).flatten()
