"""LPs whose feasible points are feasible for LP-ALL too, without LP-ALL's intermediate bounds.

Where the optimum of such an LP is negative, LP-ALL's is, and none of its many LPs needs solving.

A feasible point of the LPs over the layers below a neuron gives a value that its pre-activation
takes, so that two of them give an interval [l, u] within that of LP-ALL; and the triangle of a
shorter interval lies in that of a longer one. One pass suggests such points, layer by layer.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

import bounds
from benchmarks.published.signs import signs
from bounds import ReluBounds
from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import fixed
from bounds.dual.primal import suggested

#: Whether LP-ALL has a neuron as unstable, or as stable, is not known where one end of its inner
#: interval has the other sign than that of its outer bounds. It gets a triangle of this height in
#: place of none, and LP-ALL's optimum is negative where the inner one is below −MARGIN.
EDGE, MARGIN = 1e-9, 1e-4
#: Images whose passes go together: few enough for a processor's cache.
TOGETHER = 8


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
    unstable, middle = outer.unstable.flatten(1), (input_set.lower + input_set.upper) / 2
    lower, upper = (end.flatten(1).clone() for end in (outer.lower, outer.upper))
    # Inputs with alike many unstable neurons together.
    for some in unstable.sum(1).argsort().split(TOGETHER):
        real, order = unstable[some].sort(dim=1, descending=True, stable=True)
        count = int(real.sum(1).max())
        if count == 0:
            continue
        real, chosen = real[:, :count], order[:, :count]
        rows = torch.zeros(*chosen.shape, unstable.shape[1]).to(lower)
        rows = rows.scatter_(2, chosen.unsqueeze(2), 1.0).unflatten(2, below.output_shape)
        take = partial(torch.index_select, dim=0, index=some)
        layers = tuple(layer.convert(take) for layer in found)
        nothing = torch.zeros_like(chosen).to(lower)
        lps = bounds.Relaxation(below, input_set.convert(take), rows, nothing, layers)
        # The network's own value at a point holds where no other is found.
        value = below(middle[some]).flatten(1).gather(1, chosen)
        ends = torch.stack(
            [torch.where(torch.isfinite(end), end, value) for end in (*_attained(lps), value)]
        )
        low, high = ends.amin(0).clamp(max=-EDGE), ends.amax(0).clamp(min=EDGE)
        for bound, inner in ((lower, low), (upper, high)):
            at = some.unsqueeze(1), chosen
            bound[at] = torch.where(real, inner, bound[at])
    return ReluBounds(lower.reshape(outer.lower.shape), upper.reshape(outer.upper.shape))


def _attained(lps: bounds.Relaxation) -> tuple[Tensor, Tensor]:
    """What each row is at a feasible point near its least value, and at one near its largest.

    Fixed slopes are odd in ĉ: the pass of a row is that of the opposite one with other signs.
    """
    with torch.no_grad():
        last = len(lps.network.nodes) - 1
        point = backward_pass(lps.network, lps.relu_bounds, last, lps.C, fixed)
        arriving = {position: -c for position, c in point.arriving.items()}
        opposite = replace(point, at_input=-point.at_input, arriving=arriving)
        return suggested(lps, point).value, suggested(lps, opposite).value


def refuted(relaxation: bounds.Relaxation, cheap: Tensor) -> Tensor:
    """Whether LP-ALL leaves the margin of each image open that is smallest by the bounds `cheap`
    (batch, rows); (batch,)."""
    images = torch.arange(len(cheap), device=cheap.device)
    worst = inner_relaxation(relaxation).take(images, cheap.argmin(1, keepdim=True))
    # Rounding is no matter beside the margin, and that an image is not proved is no claim.
    _, upper = signs(worst, sound=False)
    return (upper < -MARGIN).flatten()
