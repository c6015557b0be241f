"""The loss of interval bounds: Gowal et al. 2018 (arXiv 1810.12715), rounded outward."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor, nn

from bounds.intermediate.neuron_bounds import row_bounds
from bounds.network.graph import AffineNode, InputNode, Network, ReluNode, SumNode
from bounds.relaxation.ranges import affine_ends, sum_ends
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import plain_arithmetic
from bounds.sets.box import Box
from bounds.sets.numbers import Number
from bounds.training.intervals import last_affine
from bounds.training.posed import (
    LossAndError,
    Posed,
    Reduction,
    cross_entropies,
    loss_and_error,
    posed,
    require_loss,
    require_relus,
    unproved,
)


def interval_loss(
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor | int,
    *,
    radius: Number,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
    reduction: Reduction = "mean",
) -> LossAndError:
    """The cross-entropy of the worst logits that interval bounds allow, and the certified error.

    A bound: the loss is at least the cross-entropy of every point of the balls, and an input that
    is no error is proved, rounding included. The last layer is folded into the margins, which are
    then much better than those of the logits' intervals. Differentiable as `robust_loss` is.

    Args:
        model: as for `robust_loss`; but batch normalisation in training mode takes the statistics
            of x, and loss and error are of the network that has these.
        x, y, radius, norm, lower, upper, reduction: as for `robust_loss`. ℓ1 and ℓ2 balls are
            bounded as their boxes.

    Raises:
        InvalidInputError: what `robust_loss` refuses, or a network without a ReLU.
        UnsupportedLayerError: what `from_torch` does not model.

    >>> import torch
    >>> x, y = torch.tensor([[1.0, 0.0], [0.2, 0.0]]), torch.tensor([0, 0])
    >>> interval_loss(torch.nn.ReLU(), x, y, radius=0.25, reduction="none").error.tolist()
    [False, True]
    """
    require_loss("interval_loss", model, reduction)
    with plain_arithmetic():
        question = posed(
            *("interval_loss", model, x, y),
            radius=radius,
            norm=norm,
            lower=lower,
            upper=upper,
            batch_statistics=True,
        )
        require_relus("interval_loss", question.network)
        margin = interval_margins(question)
        losses = cross_entropies(margin)
    return loss_and_error(losses, unproved(margin), reduction)


def interval_margins(question: Posed, before: list[ReluBounds] | None = None) -> Tensor:
    """Lower bounds of the margins, (batch, rows); before: where the bounds of each ReLU's input are
    to be added."""
    network = question.network
    last = last_affine(network)
    readers = network.last_readers
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for index, node in enumerate(network.nodes[: last + 1]):
        match node:
            case InputNode():
                found[index] = question.input_set.lower, question.input_set.upper
            case AffineNode(parents=(parent,), operation=operation):
                positive = isinstance(network.nodes[parent], ReluNode)
                found[index] = affine_ends(operation, *found[parent], positive=positive)
            case SumNode(parents=parents):
                found[index], _ = sum_ends([found[p] for p in parents])
            case ReluNode(parents=(parent,)):
                lower, upper = found[parent]
                if before is not None:
                    before.append(ReluBounds(lower, upper))
                found[index] = lower.relu(), upper.relu()
            case _:
                raise TypeError(f"interval_margins does not know {type(node).__name__}.")
        for parent in set(node.parents):
            if readers[parent] == index:
                del found[parent]  # what the gradients need is kept by torch
    # What follows is affine: its minimum over a box is one pass, which accounts for its rounding.
    begin = replace(network.nodes[0], shape=network.nodes[last].shape)
    rest = [replace(node, parents=(index,)) for index, node in enumerate(network.nodes[last + 1 :])]
    relaxation = Relaxation(Network((begin, *rest)), Box(*found[last]), question.C, question.d, ())
    return row_bounds(relaxation)
