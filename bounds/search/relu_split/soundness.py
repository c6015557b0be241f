"""Refutations as they count: the dual function on the whole network, rounded so that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bounds.dual.dual import backward_pass
from bounds.network.memory import parts_that_fit, pass_numbers
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import down, gamma, plain_arithmetic, smallest, weighted
from bounds.search.relu_tree import Refutation


@torch.no_grad()
def refuted(
    relaxation: Relaxation, refutations: Sequence[Refutation], *, reserve: float = 0.0
) -> Tensor:
    """Lower bounds, over the reals, of the weighted rows where the phases hold; (refutations,).
    What is NaN or not above 0 refutes nothing.

    relaxation: of one input, with the rows of the disjunct, in float64; l and u hold for its
    network, and phases are of its unstable neurons. reserve: how often the rounding of the pass is
    taken off besides.
    """
    network, bounds, C, d = (
        relaxation.network, relaxation.relu_bounds, relaxation.C[0], relaxation.d[0]
    )  # fmt: skip
    with plain_arithmetic():
        ranges = relaxation.ranges()
        values = []
        for images, _ in parts_that_fit(
            C.new_zeros(len(refutations), 1), pass_numbers(network), None
        ):
            part = [refutations[i] for i in images.tolist()]
            expand = partial(_repeated, count=len(part))
            within = [each.convert(expand) for each in ranges]
            layers = [_kept(k, neurons, part) for k, neurons in enumerate(bounds)]
            weights = torch.stack([each.weights for each in part]).to(C)
            rows = (weights @ C.flatten(1)).reshape(len(part), 1, *C.shape[1:])
            offset = (weights @ d).unsqueeze(1)
            # What the weighted rows are off by, against what they multiply.
            sizes = (weights @ C.flatten(1).abs()).reshape(rows.shape)
            reach = weighted(sizes, within[-1].magnitude) + (weights @ d.abs()).unsqueeze(1)
            excess = gamma(len(d) + C[0].numel(), C.dtype) * reach
            excess = excess + 8 * C.numel() * smallest(C.dtype) * (1 + within[-1].magnitude.amax())
            nu = [torch.stack([r.multipliers[k] for r in part]) for k in range(len(bounds))]

            def rule(
                position: int, arriving: Tensor, _: ReluBounds, nu: list[Tensor] = nu
            ) -> Tensor:
                return nu[position].reshape(arriving.shape)

            point = backward_pass(network, layers, len(network.nodes) - 1, rows, rule, within)
            input_set = relaxation.input_set.convert(expand)
            value = point.value_below(input_set, layers, offset - excess)
            assert point.rounding is not None
            values.append(down(value - reserve * point.rounding)[:, 0] if reserve else value[:, 0])
    return torch.cat(values)


def _repeated(tensor: Tensor, count: int) -> Tensor:
    return tensor.expand(count, *tensor.shape[1:])


def _kept(position: int, neurons: ReluBounds, refutations: Sequence[Refutation]) -> ReluBounds:
    """The bounds of a layer with the vertices that each refutation leaves."""
    own = [
        [(index, side) for (layer, index), side in refutation.phases.items() if layer == position]
        for refutation in refutations
    ]
    phases = neurons.lower.new_zeros(len(refutations), neurons.lower[0].numel())
    rows = torch.arange(len(own)).repeat_interleave(torch.tensor([len(each) for each in own]))
    places = torch.tensor([each for some in own for each in some]).reshape(-1, 2)
    phases[rows, places[:, 0].long()] = places[:, 1].to(phases)
    everywhere = neurons.convert(partial(_repeated, count=len(refutations)))
    return everywhere.kept(phases.unflatten(1, neurons.lower.shape[1:]))
