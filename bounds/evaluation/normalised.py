"""The normalisation of images as the first layer of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from bounds.arguments import real, shown
from bounds.errors import InvalidInputError
from bounds.network.build.builder import NetworkBuilder
from bounds.network.graph import Network

PerChannel = float | Sequence[float]


def normalised(
    call: str, network: Network, mean: PerChannel | None, std: PerChannel | None
) -> Network:
    """x ↦ network((x − mean) / std), so that radii and boxes are in the units of x.

    mean, std: a number for each channel, which is the first of several axes, or one for all;
    default 0 and 1. They are taken as numbers of float64, and the quotient as exact.

    Raises InvalidInputError for another number of them, and for a std that is not positive.
    """
    if mean is None and std is None:
        return network
    shape = network.input_shape
    channels = shape[0] if len(shape) > 1 else 1
    means = _numbers(call, "mean", 0.0 if mean is None else mean, channels)
    stds = _numbers(call, "std", 1.0 if std is None else std, channels)
    if min(stds) <= 0:
        raise InvalidInputError(
            f"{call}(std) got {min(stds)}, expected positive numbers: leave channels alone with 1."
        )
    like = next(iter(network.parameters), torch.empty(0, dtype=torch.float64))
    axes = (channels, *[1] * (len(shape) - 1))
    builder = NetworkBuilder(shape, like.dtype, like.device)
    builder.at = "normalisation"
    centred = builder.moved(builder.input, -torch.tensor(means, dtype=torch.float64).reshape(axes))
    shares = torch.tensor(stds, dtype=torch.float64).reciprocal().reshape(axes)
    before = builder.finish(builder.multiple(centred, shares)).nodes
    after = (
        replace(node, parents=tuple(parent + len(before) - 1 for parent in node.parents))
        for node in network.nodes[1:]
    )
    return Network((*before, *after))


def _numbers(call: str, name: str, value: object, channels: int) -> list[float]:
    """One finite number a channel."""
    given = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    numbers = [real(number) for number in given]
    if not all(map(math.isfinite, numbers)) or len(numbers) not in (1, channels):
        raise InvalidInputError(
            f"{call}({name}) got {shown(value) if len(given) == 1 else f'{len(given)} numbers'}, "
            f"expected one finite number, or {channels}, one a channel."
        )
    return numbers * channels if len(numbers) == 1 else numbers
