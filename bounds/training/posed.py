"""What every loss of training is asked: a model, a batch of balls and the right classes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bounds.arguments import (
    class_labels,
    number_of_classes,
    real,
    require_floats,
    require_option,
    shown,
)
from bounds.errors import InvalidInputError
from bounds.intermediate.relax import matching_set
from bounds.network.graph import Network
from bounds.read.model import network_of
from bounds.relaxation.specification import margins
from bounds.sets.ball import Ball
from bounds.sets.box import InputSet
from bounds.sets.numbers import Number
from bounds.training.batch_statistics import clean_statistics

Reduction = Literal["mean", "sum", "none"]


class LossAndError(NamedTuple):
    """loss: at least the cross-entropy of every point of the balls. error: how many inputs are not
    proved to keep the answer y. Both are means, sums, or of each input, (batch,).

    >>> import torch
    >>> loss, error = LossAndError(torch.tensor(0.5), torch.tensor(0.25))
    >>> error.item()
    0.25
    """

    loss: Tensor
    error: Tensor


@dataclass(frozen=True, eq=False)
class Posed:
    """network, input_set: of the balls. labels: (batch,). C, d: the margins z_y − z_j, as rows."""

    network: Network
    input_set: InputSet
    labels: Tensor
    C: Tensor
    d: Tensor

    @property
    def x(self) -> Tensor:
        """A number of each input, for what follows its dtype and device."""
        return self.input_set.lower


@contextmanager
def without_autocast() -> Iterator[None]:
    """Sums in the dtype of the model and x, whatever `torch.autocast` says around it."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


def require_loss(call: str, model: object, reduction: object) -> None:
    """Refuse what no loss takes, before anything is computed."""
    require_option(call, "reduction", reduction, get_args(Reduction))
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        arguments = "model" if call == "robust_loss" else f"model, bounds.{call}"
        raise InvalidInputError(
            f"{call} got a {type(model).__name__}, whose gradients are only exchanged when it "
            f"is called itself: call DistributedDataParallel(RobustLoss({arguments}))(x, y, …)."
        )


def posed(
    call: str,
    model: nn.Module | Network,
    x: Tensor,
    y: Tensor | int,
    *,
    radius: Number,
    norm: float,
    lower: Number | None,
    upper: Number | None,
    batch_statistics: bool = False,
) -> Posed:
    """The question, looked at once; see `robust_loss`.

    batch_statistics: whether batch normalisation in training mode takes those of x, or is refused.
    """
    require_floats(call, "x", x)
    with clean_statistics(model, x) if batch_statistics else nullcontext():
        network = network_of(call, model, x, often=True)
    network.require_batch(call, x)
    ball = Ball(x, radius=radius, norm=norm, lower=lower, upper=upper)
    input_set = matching_set(call, network, ball)
    classes = number_of_classes(call, network.output_shape)
    labels = class_labels(call, y, len(x), classes)
    C, d = margins(labels, classes).resolve(len(x), network.output_shape, input_set.lower)
    return Posed(network, input_set, labels.to(x.device), C, d)


def require_share(call: str, name: str, value: object) -> float:
    share = real(value)
    if not 0 <= share <= 1:
        raise InvalidInputError(f"{call}({name}={shown(value)}): expected a number from 0 to 1.")
    return share


def require_relus(call: str, network: Network) -> None:
    """Refuse an affine network, of which the bounds of `robust_loss` are exact already."""
    if not network.relus:
        raise InvalidInputError(
            f"{call} got a network without a ReLU, of which nothing is relaxed: train it on "
            "bounds.robust_loss, which is exact there."
        )


def cross_entropies(margin: Tensor) -> Tensor:
    """Of logits that exceed that of y by minus these margins, (batch, rows); (batch,)."""
    # The logit of y is 0.
    worst = F.pad(-margin, (1, 0))
    zero = torch.zeros(len(margin), dtype=torch.long, device=margin.device)
    return F.cross_entropy(worst, zero, reduction="none")


def unproved(margin: Tensor) -> Tensor:
    """Which inputs have a lower bound of a margin, (batch, rows), that proves nothing."""
    return ~((margin > 0) & torch.isfinite(margin)).detach().all(1)


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """The losses of all inputs as one, or as they are."""
    if reduction == "none":
        return values
    return values.mean() if reduction == "mean" else values.sum()


def loss_and_error(losses: Tensor, errors: Tensor, reduction: Reduction) -> LossAndError:
    """Of each input, (batch,), as `reduction` says; one that is not counted stays a bool."""
    counted = errors if reduction == "none" else reduced(errors.to(losses), reduction)
    return LossAndError(reduced(losses, reduction), counted)
