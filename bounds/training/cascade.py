"""Cascades of networks: each answers what the ones before it could not prove.

Wong et al. 2018 (arXiv 1805.12514), section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bounds.arguments import integers, require_floats
from bounds.errors import InvalidInputError
from bounds.network.graph import Network
from bounds.read.model import network_of
from bounds.sets.ball import Ball
from bounds.sets.numbers import Number
from bounds.training.robust_loss import robust_loss


class CascadeAnswer(NamedTuple):
    """stage: the first network that proves its own prediction, and −1 where none does.
    prediction: its class, or the last network's where none does. Both int64, (batch,).

    >>> import torch
    >>> answer = CascadeAnswer(stage=torch.tensor([0, -1]), prediction=torch.tensor([3, 3]))
    >>> answer.wrong(torch.tensor([3, 3])).tolist()
    [False, True]
    """

    stage: Tensor
    prediction: Tensor

    def wrong(self, y: Tensor) -> Tensor:
        """Which inputs count as certified errors for the classes y: the answer is another one, or
        not proved. Both tensors have shape (batch,)."""
        labels = integers("CascadeAnswer.wrong", "y", y)
        if labels.shape not in ((), self.stage.shape):
            raise InvalidInputError(
                f"CascadeAnswer.wrong got y of shape {tuple(labels.shape)}, expected "
                f"{tuple(self.stage.shape)}: give one class an input."
            )
        return (self.stage < 0) | (self.prediction != labels.to(self.stage.device))


def cascade(
    models: Sequence[nn.Module | Network] | nn.ModuleList,
    x: Tensor,
    *,
    radius: Number,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
) -> CascadeAnswer:
    """Answer each input by the first network whose fixed-slope bounds prove its own prediction.

    A network only sees the inputs that the ones before it left unproved. Train the next one on the
    examples with `stage` < 0: those are what will reach it. An example that an earlier network
    proves with the wrong class never does.

    What a stage k ≥ 0 proves: network k alone answers `prediction` on the whole ball around x. It
    does not say that the cascade would, since each point chooses a stage of its own: elsewhere in
    the ball an earlier network may prove another class, or network k prove nothing.

    What holds for the cascade, on balls of one radius around points of the box: x lies in the ball
    around each point x' of its own ball, so a network that proves a class at x' predicts it at x as
    well. Where all networks agree at x, every class that is proved in the ball is therefore theirs;
    points where nothing is proved are answered by the last network, and so the cascade as a whole
    is constant on the ball if that one's prediction is proved at x too.

    Args:
        models: in the order in which they are asked.
        x: inputs of shape (batch, *input_shape).
        radius, norm, lower, upper: as for `Ball`.

    Raises:
        InvalidInputError: no models, a single one, or what `Ball` and `relax` refuse.
        UnsupportedLayerError: what `from_torch` does not model.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.2, 0.0]])
    >>> cascade([torch.nn.Identity()], x, radius=0.25).stage.tolist()
    [0, -1]
    """
    single = not isinstance(models, (Sequence, nn.ModuleList)) or isinstance(models, str)
    if single or not len(models):
        got = f"a single {type(models).__name__}" if single else "no models"
        raise InvalidInputError(
            f"cascade got {got}, expected a sequence of networks: put at least one into a list."
        )
    require_floats("cascade", "x", x)
    whole = Ball(x, radius=radius, norm=norm, lower=lower, upper=upper)
    whole.resolve(x.shape[1:])  # refuses what is ambiguous, before it is cut into parts
    stage = torch.full((len(x),), -1, device=x.device)
    prediction = torch.full_like(stage, -1)
    with torch.no_grad():
        for index, model in enumerate(models):
            left = (stage < 0).nonzero().flatten()
            if not len(left):
                break
            ball = whole.take(left)
            network = network_of("cascade", model, x)
            own = network(ball.x).flatten(1).argmax(1)
            unproved = robust_loss(
                network,
                ball.x,
                own,
                radius=ball.radius,
                norm=norm,
                lower=ball.lower,
                upper=ball.upper,
                reduction="none",
            ).error
            prediction[left] = own
            stage[left[~unproved]] = index
    return CascadeAnswer(stage, prediction)
