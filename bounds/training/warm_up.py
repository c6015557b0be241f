"""What training on intervals starts with: Shi et al. 2021 (arXiv 2103.17014).

In a network with torch's own initialisation, boxes grow from layer to layer, and few neurons stay
active: the loss of intervals then finds the network that ignores its input. Smaller weights begin
with boxes of one size; while the radius grows, two regularisers keep them small and the neurons
balanced. They are numbers to train on, and bound nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bounds.arguments import require_positive, require_type
from bounds.network.graph import Network
from bounds.rounding import smallest
from bounds.sets.numbers import Number
from bounds.training.intervals import nominal, nominal_margins
from bounds.training.posed import posed, require_relus, without_autocast


class WarmUp(NamedTuple):
    """tightness: how much wider boxes get than the input's; balance: how uneven active and inactive
    neurons are; both means over the layers, and 0 where they are within the tolerance.

    >>> import torch
    >>> tightness, balance = WarmUp(torch.tensor(0.5), torch.tensor(0.25))
    >>> balance.item()
    0.25
    """

    tightness: Tensor
    balance: Tensor


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Draw every weight of the dense layers and convolutions from a normal distribution with the
    standard deviation √(2π) / n, n being the number of inputs of a neuron; biases become 0.

    Boxes then keep their width, on average, from layer to layer. Random numbers are those of
    torch's default generator.

    Raises InvalidInputError for what is no module.

    >>> import torch
    >>> model = torch.nn.Linear(1000, 10)
    >>> initialise(model)
    >>> bool(model.weight.std() < 0.003)
    True
    """
    require_type("initialise", model, nn.Module, "pass the model itself")
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / layer.weight[0].numel())
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@without_autocast()
def warm_up(
    model: nn.Module | Network,
    x: Tensor,
    *,
    radius: Number,
    norm: float = math.inf,
    lower: Number | None = None,
    upper: Number | None = None,
    tolerance: float = 0.5,
) -> WarmUp:
    """The regularisers of Shi et al. 2021, section 3.3, of the intervals before every ReLU.

    Add them to the loss while the radius grows, with a weight that falls to 0, such as 0.5 times
    what is left of the radius.

    Args:
        model, x, radius, norm, lower, upper: as for `interval_loss`.
        tolerance: τ; the input's width may be so small a part of a layer's, and the active neurons
            so few beside the inactive ones, or these beside those.

    Raises:
        InvalidInputError: what `interval_loss` refuses, or a tolerance that is no positive number.
        UnsupportedLayerError: what `from_torch` does not model.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> warm_up(model, torch.zeros(4, 2), radius=0.1).tightness.shape
    torch.Size([])
    """
    tau = require_positive("warm_up", "tolerance", tolerance, "a positive number")
    at: Any = {"radius": radius, "norm": norm, "lower": lower, "upper": upper}
    question = posed("warm_up", model, x, 0, batch_statistics=True, **at)
    require_relus("warm_up", question.network)
    boxes: list[tuple[Tensor, Tensor]] = []
    nominal_margins(nominal(question.network), question.input_set, question.C, question.d, boxes)
    little = smallest(question.C.dtype)
    width = (question.input_set.upper - question.input_set.lower).mean()
    tightness, balance = [], []
    for low, high in boxes:
        tightness.append((tau - width / (high - low).mean().clamp(min=little)).relu() / tau)
        centre = (low + high) / 2
        active, inactive = (low.detach() > 0).to(centre), (high.detach() < 0).to(centre)
        spread = (centre - centre.mean()) ** 2
        pairs = (
            ((centre * active).mean(), -(centre * inactive).mean()),
            ((spread * active).mean(), (spread * inactive).mean()),
        )
        for one, other in pairs:
            smaller, larger = torch.minimum(one, other), torch.maximum(one, other)
            balance.append((tau - smaller / larger.clamp(min=little)).relu() / tau)
    count = len(boxes)
    return WarmUp(torch.stack(tightness).sum() / count, torch.stack(balance).sum() / count)
