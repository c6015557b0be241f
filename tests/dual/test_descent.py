"""Passes from single neurons through residual sums, in windows, against passes of whole tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import lp_reference
from bounds import Ball, Specification, from_torch, relax
from bounds.dual.descent import descent
from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import RULES, Faces
from bounds.dual.one_pass import OnePass
from bounds.intermediate.neuron_bounds import neuron_bounds
from bounds.network.convolution import convolution_output_shape
from bounds.network.graph import Network, SumNode
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from tests.support.layers import Dice
from tests.support.networks import seeds
from tests.support.problems import NORMS

every_slope = pytest.mark.parametrize("slope", ["fixed", "adaptive"])
Axis = tuple[int, int, int, int]  # kernel, stride, padding, dilation
SAME_SIZE: list[Axis] = [(3, 1, 1, 1), (1, 1, 0, 1), (3, 1, 2, 2)]


@dataclass(frozen=True)
class Block:
    """Ways from one tensor to one sum: each convolutions with their axes, and perhaps a ReLU or a
    scale after the first; none is the identity."""

    ways: tuple[tuple[tuple[Axis, ...], ...], ...]
    channels: int
    bent: tuple[int, ...]


@dataclass(frozen=True)
class Residual:
    """Blocks one after the other, a ReLU after each, then a dense layer; numbers come from the
    seed."""

    shape: tuple[int, ...]
    blocks: tuple[Block, ...]
    seed: int

    def build(self) -> nn.Module:
        dice, shape = Dice(self.seed), self.shape
        layers: list[nn.Module] = []
        for block in self.blocks:
            ways = [_way(way, block, k, shape, dice) for k, way in enumerate(block.ways)]
            layers += [_Sum(ways), nn.ReLU()]
            with torch.no_grad():
                shape = tuple(layers[-2](torch.zeros(1, *shape).double()).shape[1:])
        layers += [nn.Flatten(), nn.Linear(math.prod(shape), 2).double()]
        return nn.Sequential(*layers).eval().requires_grad_(False)

    def relaxation(self, *, norm: float = math.inf, batch: int = 1) -> Relaxation:
        network, dice = from_torch(self.build(), self.shape), Dice(self.seed + 1)
        ball = Ball(dice.normal(batch, *self.shape), radius=0.3, norm=norm)
        return relax(network, ball, Specification(torch.eye(2)), intermediate="interval")


class _Sum(nn.Module):
    def __init__(self, ways: list[nn.Module]) -> None:
        super().__init__()
        self.ways = nn.ModuleList(ways)

    def forward(self, x: Tensor) -> Tensor:
        total = self.ways[0](x)
        for way in list(self.ways)[1:]:
            total = total + way(x)
        return total


def _way(
    way: tuple[tuple[Axis, ...], ...], block: Block, k: int, shape: tuple[int, ...], dice: Dice
) -> nn.Module:
    layers: list[nn.Module] = []
    channels = shape[0]
    two = len(shape) == 3
    for axes in way:
        kernel, stride, padding, dilation = zip(*axes, strict=True)
        kind = nn.Conv2d if two else nn.Conv1d
        layer = kind(channels, block.channels, kernel, stride, padding, dilation).double()
        for parameter in layer.parameters():
            parameter.data = dice.normal(*parameter.shape) / parameter[0].numel() ** 0.5
        layers.append(layer)
        channels = block.channels
        if len(layers) == 1 and block.bent[k] == 1:
            layers.append(nn.ReLU())
        if len(layers) == 1 and block.bent[k] == 2:
            norm = (nn.BatchNorm2d if two else nn.BatchNorm1d)(channels).double()
            norm.running_mean = dice.normal(channels)
            norm.weight.data, norm.bias.data = dice.normal(channels), dice.normal(channels)
            layers.append(norm)
    return nn.Sequential(*layers)


@st.composite
def residuals(draw: st.DrawFn) -> Residual:
    axes = draw(st.integers(1, 2))
    sizes = tuple(draw(st.integers(6, 10)) for _ in range(axes))
    shape = start = (draw(st.integers(1, 2)), *sizes)
    blocks = []
    for _ in range(draw(st.integers(1, 2))):
        channels, found = draw(st.integers(1, 2)), []
        options = [_axis_options(size) for size in shape[1:]]
        # All ways end in tensors of one shape.
        ends = [draw(st.sampled_from(sorted({end for _, end in some}))) for some in options]
        for _ in range(draw(st.integers(1, 3))):
            if draw(st.booleans()) and (channels, *ends) == shape:
                found.append(())
                continue
            to_end = [
                [option for option, reached in some if reached == end]
                for some, end in zip(options, ends, strict=True)
            ]
            way = [tuple(draw(st.sampled_from(some)) for some in to_end)]
            if draw(st.booleans()):  # another one, of the same size
                way.append(
                    tuple(
                        draw(st.sampled_from([(3, 1, 1, 1), (1, 1, 0, 1), (3, 1, 2, 2)]))
                        for _ in ends
                    )
                )
            found.append(tuple(way))
        bent = tuple(draw(st.integers(0, 2)) for _ in found)
        blocks.append(Block(tuple(found), channels, bent))
        shape = (channels if any(found) else shape[0], *ends) if any(found) else shape
    return Residual(start, tuple(blocks), draw(seeds))


def _axis_options(size: int) -> list[tuple[Axis, int]]:
    """Axes of convolutions, and the size of what they make of this one."""
    found = []
    for kernel in (1, 2, 3):
        for stride in (1, 2, 3):
            for padding in (0, 1, 2):
                for dilation in (1, 2):
                    weight = torch.empty(1, 1, kernel)
                    end = convolution_output_shape(
                        (1, size), weight, (stride,), (padding,), (dilation,)
                    )[1]
                    if end >= 3:
                        found.append(((kernel, stride, padding, dilation), end))
    return found


def layers_of(relaxation: Relaxation, slope: str) -> list[tuple[ReluBounds, Tensor, Tensor, float]]:
    """Of each ReLU's input: its bounds by passes in windows, by passes of whole tensors, and the
    size of their terms."""
    network, found = relaxation.network, []
    ranges = relaxation.ranges()
    for layer, index in enumerate(network.relus):
        (start,) = network.nodes[index].parents
        shape, below = network.nodes[start].shape, relaxation.relu_bounds[:layer]
        batch = len(relaxation.input_set)
        bounds = neuron_bounds(
            network,
            relaxation.input_set,
            below,
            ranges[: start + 1],
            start,
            torch.ones(batch, *shape, dtype=torch.bool),
            slope=slope,
            max_memory=None,
        )
        size = math.prod(shape)
        rows = torch.eye(size).double().reshape(1, size, *shape).expand(batch, -1, *shape)
        values = [
            backward_pass(network, below, start, sign * rows, RULES[slope])
            .value(relaxation.input_set, below)
            .unflatten(1, shape)
            for sign in (1.0, -1.0)
        ]
        scale = 1 + float(ranges[start].terms.max())
        found.append((bounds, values[0], -values[1], scale))
    return found


def through_sums(network: Network) -> int:
    """How many sums rows go through as patches, over all passes."""
    starts = [network.nodes[index].parents[0] for index in network.relus]
    return sum(
        isinstance(network.nodes[index], SumNode)
        for start in starts
        for index in descent(network, start)
    )


@every_slope
@given(residuals(), st.sampled_from(NORMS), st.integers(1, 2))
def test_windows_through_sums_and_whole_tensors_agree(
    slope: str, architecture: Residual, norm: float, batch: int
) -> None:
    relaxation = architecture.relaxation(norm=norm, batch=batch)
    for bounds, lower, upper, scale in layers_of(relaxation, slope):
        alive = (bounds.upper > 0) | torch.tensor(slope == "fixed")  # the others need no lower one
        for worse in ((lower - bounds.lower)[alive], bounds.upper - upper):
            assert (worse >= -1e-14 * scale).all()
            assert (worse <= 1e-11 * scale).all()


RESNET = Residual(
    (2, 12, 12),
    (
        Block(((((3, 2, 1, 1),) * 2,),), 4, (0,)),
        Block(((((3, 1, 1, 1),) * 2, ((3, 1, 1, 1),) * 2), ()), 4, (1, 0)),
        Block(((((3, 2, 1, 1),) * 2, ((3, 1, 1, 1),) * 2), (((1, 2, 0, 1),) * 2,)), 4, (1, 0)),
    ),
    seed=7,
)


@every_slope
def test_a_residual_network_goes_through_its_sums_in_windows(slope: str) -> None:
    """Identity and 1 × 1 shortcuts; and no bound is above the LP's optimum."""
    relaxation = RESNET.relaxation()
    assert through_sums(relaxation.network) >= 2
    for bounds, lower, upper, scale in layers_of(relaxation, slope):
        alive = (bounds.upper > 0) | torch.tensor(slope == "fixed")  # the others need no lower one
        assert ((lower - bounds.lower)[alive].abs() <= 1e-11 * scale).all()
        assert ((bounds.upper - upper).abs() <= 1e-11 * scale).all()
    (start,) = relaxation.network.nodes[relaxation.network.relus[-1]].parents
    neurons = bounds.lower.flatten(1)
    chosen = [0, neurons.shape[1] // 2, neurons.shape[1] - 1]
    network, kept = relaxation.network.ending_at(start)
    rows = torch.zeros(1, len(chosen), neurons.shape[1]).double()
    rows[0, range(len(chosen)), chosen] = 1.0
    part = Relaxation(
        network,
        relaxation.input_set,
        rows.unflatten(2, network.output_shape),
        torch.zeros(1, len(chosen)).double(),
        tuple(relaxation.relu_bounds[k] for k in kept),
    )
    optimum = torch.as_tensor(lp_reference.solve(part).value)
    assert (neurons[:, chosen] <= optimum + 1e-9).all()


def test_rounding_is_charged_in_windows_as_on_whole_tensors() -> None:
    """What the ledger has at the end of a pass: at affine layers, and where ways meet."""
    relaxation = RESNET.relaxation()
    network, ranges = relaxation.network, relaxation.ranges()
    for layer, index in enumerate(network.relus):
        (start,) = network.nodes[index].parents
        below, some = relaxation.relu_bounds[:layer], ranges[: start + 1]
        faces = tuple(Faces.of(neurons, "adaptive") for neurons in below)
        size = math.prod(network.nodes[start].shape)
        one = OnePass(network, relaxation.input_set, faces, some, start, odd=False)
        one.neurons(slice(None), torch.arange(size).unsqueeze(0), 1.0)
        rows = torch.eye(size).double().reshape(1, size, *network.nodes[start].shape)
        whole = backward_pass(network, below, start, rows, RULES["adaptive"], some)
        torch.testing.assert_close(one._ledger.total, whole.rounding, rtol=1e-9, atol=0)


@every_slope
def test_windows_that_move_apart_end_at_their_sum(slope: str) -> None:
    """A stride of 2 and one of 1 that end in one shape: no window holds both for every neuron."""
    ways = (((3, 2, 1, 1),) * 2,), (((6, 1, 0, 1),) * 2,)
    relaxation = Residual(
        (1, 10, 10), (Block(((((3, 1, 1, 1),) * 2,),), 2, (0,)), Block(ways, 1, (0, 0))), seed=1
    ).relaxation()
    for bounds, lower, upper, scale in layers_of(relaxation, slope):
        alive = (bounds.upper > 0) | torch.tensor(slope == "fixed")  # the others need no lower one
        assert ((lower - bounds.lower)[alive].abs() <= 1e-11 * scale).all()
        assert ((bounds.upper - upper).abs() <= 1e-11 * scale).all()
