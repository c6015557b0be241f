"""The loss of bounds that are optimised, for what fixed slopes leave open: fine-tuning.

By the envelope theorem (Milgrom & Segal 2002) the gradient of an optimum with respect to the data
of its problem is that of the Lagrangian at the optimal point and multipliers, held fixed: no
iteration is differentiated, and none is kept.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from bounds.arguments import require_option
from bounds.intermediate.intermediate import relu_bounds
from bounds.intermediate.neuron_bounds import row_bounds
from bounds.network.graph import Network
from bounds.relaxation.relaxation import Relaxation
from bounds.rounding import plain_arithmetic
from bounds.sets.numbers import Number
from bounds.solution.certificate import Certificate
from bounds.solvers.solve import solve
from bounds.training.posed import (
    LossAndError,
    Reduction,
    cross_entropies,
    loss_and_error,
    posed,
    require_loss,
    unproved,
    without_autocast,
)
from bounds.training.robust_loss import TrainingIntermediate

#: What finds multipliers.
OptimisedMethod = Literal["optimised_slope", "exact"]


@without_autocast()
def optimised_loss(
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor | int,
    *,
    radius: Number,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
    intermediate: TrainingIntermediate = "backward",
    method: OptimisedMethod = "optimised_slope",
    reduction: Reduction = "mean",
) -> LossAndError:
    """`robust_loss`, but where fixed slopes leave an input open, of the best slopes or the LP.

    A bound, like `robust_loss`, and never a larger one; what is no error is proved, rounding
    included. Differentiable as that is, at the multipliers that were found; where those are
    optimal and the only ones, that is the gradient of the LP optimum itself. Inputs that fixed
    slopes prove cost nothing more, and every other input as much as `solve` takes: for a network
    that is nearly trained.

    Args:
        model, x, y, radius, norm, lower, upper, reduction: as for `robust_loss`.
        intermediate: the pre-activation bounds, through which gradients flow too.
        method: "optimised_slope" (α-CROWN), or "exact", the LP optimum.

    Raises:
        InvalidInputError: what `robust_loss` refuses, or another method.
        UnsupportedLayerError: what `from_torch` does not model.

    >>> import torch
    >>> x, y = torch.tensor([[1.0, 0.0], [0.2, 0.0]]), torch.tensor([0, 0])
    >>> optimised_loss(torch.nn.ReLU(), x, y, radius=0.25, reduction="none").error.tolist()
    [False, True]
    """
    require_loss("optimised_loss", model, reduction)
    require_option("optimised_loss", "intermediate", intermediate, get_args(TrainingIntermediate))
    require_option("optimised_loss", "method", method, get_args(OptimisedMethod))
    with plain_arithmetic():
        question = posed(
            "optimised_loss", model, x, y, radius=radius, norm=norm, lower=lower, upper=upper
        )
        network, input_set = question.network, question.input_set
        layers = relu_bounds(network, input_set, method=intermediate, slope="fixed").layers
        relaxation = Relaxation(network, input_set, question.C, question.d, layers, intermediate)
        margin = row_bounds(relaxation)
    left = unproved(margin).nonzero().flatten()
    if len(left):
        hard = relaxation.take(left, torch.arange(margin.shape[1], device=left.device))
        fixed, optimum = margin[left], _optimum(hard, method)
        margin = margin.index_copy(0, left, torch.where(optimum > fixed, optimum, fixed))
    return loss_and_error(cross_entropies(margin), unproved(margin), reduction)


def _optimum(relaxation: Relaxation, method: OptimisedMethod) -> Tensor:
    """A lower bound of each LP by what a solver finds; its gradient is that of the Lagrangian."""
    held = relaxation.convert(Tensor.detach)
    with torch.no_grad():
        solution = solve(held, method=method, sound=False)
        # All multipliers are valid: zeros stand for those of a solve that failed.
        found = solution.certificate.convert(
            lambda tensor: tensor.to(held.C.dtype).nan_to_num(0.0, 0.0, 0.0)
        )
        lower = found.lower(held)
    if not torch.is_grad_enabled():
        return lower
    lagrangian = _lagrangian(relaxation, found)
    return lower + (lagrangian - lagrangian.detach())


def _lagrangian(relaxation: Relaxation, at: Certificate) -> Tensor:
    """⟨C, y⟩ + d + Σ ν (W z + b − ẑ), (batch, rows), where each (ẑ, z) stays at its place between
    the vertices of its triangle, and x at its place in the set: what they weigh is held fixed, as ν
    is, and not what it is weights of."""
    x = at.x.detach().requires_grad_()
    batch, rows = x.shape[:2]
    prices: list[Tensor] = []

    def relu(position: int, flat: Tensor) -> Tensor:
        neurons = relaxation.relu_bounds[position]
        pre, z = flat.unflatten(0, (batch, rows)), at.z[position]
        active, unstable = neurons.active.unsqueeze(1), neurons.unstable.unsqueeze(1)
        lower = torch.where(unstable, neurons.lower.unsqueeze(1), -1.0)
        upper = torch.where(unstable, neurons.upper.unsqueeze(1), 1.0)
        top, bottom = z / upper.detach(), ((pre - z) / lower).detach()  # of (u, u) and (l, 0)
        moved = pre - bottom * lower - top * upper
        prices.append((at.multipliers[position] * unstable * moved).flatten(2).sum(2))
        return torch.where(unstable, top * upper, pre * active).flatten(0, 1)

    y = relaxation.network.evaluate(x.flatten(0, 1), relu).unflatten(0, (batch, rows))
    value = (relaxation.C * y).flatten(2).sum(2) + relaxation.d + sum(prices)
    [pull] = torch.autograd.grad(value.sum(), x, retain_graph=True)
    smallest = relaxation.input_set.minimum(pull)
    return value + (smallest - smallest.detach())
