"""What an ℓ1 or ℓ2 ball allows the neurons of the first layer, whatever box cuts it.

W c + b ± r ‖Wᵢ‖_* takes one norm a neuron, the same for all inputs. Most neurons that the interval
of such a ball leaves unstable are stable by this already, and need no pass of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bounds.network.affine import Affine, Linear, Scale
from bounds.network.convolution import Convolution
from bounds.network.graph import AffineNode, Network
from bounds.network.sparse import SparseLinear
from bounds.relaxation.ranges import Range
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import gamma, smallest
from bounds.sets.box import InputSet
from bounds.sets.norm_ball import NormBall


def within_ball(
    network: Network,
    input_set: InputSet,
    ranges: Sequence[Range],
    start: int,
    neurons: ReluBounds,
) -> ReluBounds:
    """The neurons of node `start` within these bounds; as they are where the set is no ball around
    a point of its box, or where the node is not the first that sums numbers of the input."""
    path = _first_sum(network, start)
    if not path or not (isinstance(input_set, NormBall) and input_set.centred):
        return neurons
    centre, radius = input_set.around
    off = torch.zeros_like(centre)  # by how much rounding moved the centre
    for index, operation in path:
        found = ranges[index]
        rounding = (gamma(operation.fan_in, centre.dtype) + operation.inexact) * found.terms
        if operation.fan_in == 0:
            rounding = torch.zeros_like(found.terms)
        centre, off = operation.forward(centre), operation.absolute().linear(2 * off) + rounding
        if isinstance(operation, Scale):
            radius = radius * operation.scale.abs().amax()
    last = path[-1][1]
    assert isinstance(last, Linear | SparseLinear | Convolution)
    radius = radius.reshape(-1, *[1] * len(last.output_shape))
    reach = off + radius * _norms(input_set, last) * (1 + 2 * gamma(last.fan_in, centre.dtype))
    return neurons.intersection(ReluBounds(centre - reach, centre + reach))


def _first_sum(network: Network, start: int) -> list[tuple[int, Affine]]:
    """The operations from the input to the node, of which the last one sums and the others only
    move and scale; none where that is not so."""
    path: list[tuple[int, Affine]] = []
    index = start
    while index > 0:
        match network.nodes[index]:
            case AffineNode(
                parents=(parent,), operation=Linear() | SparseLinear() | Convolution() as operation
            ) if not path:
                path.insert(0, (index, operation))
            case AffineNode(parents=(parent,), operation=operation) if path and (
                operation.elementwise and (operation.fan_in == 0 or isinstance(operation, Scale))
            ):
                path.insert(0, (index, operation))
            case _:
                return []
        index = parent
    return path


def _norms(ball: NormBall, operation: Linear | SparseLinear | Convolution) -> Tensor:
    """‖Wᵢ‖_* of each row, or more, as it broadcasts to the result."""
    rows = operation.weight.flatten(1)
    underflow = (rows.shape[1] * smallest(rows.dtype)) ** 0.5
    norms = ball.dual_norm(rows.unsqueeze(0)).squeeze(0) * (1 + operation.inexact) + underflow
    axes = len(operation.output_shape) - 1 if isinstance(operation, Convolution) else 0
    return norms.reshape(-1, *[1] * axes)
