"""Builds a `Network` node by node, checking each layer's shapes and attributes.

Every reader (torch.fx, torch.export, …) translates its own operations into these calls, so that a
layer is checked, folded or refused in one place whatever file it came from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bounds.affine import (
    Affine,
    Convolution,
    Linear,
    Reshape,
    Scale,
    Shape,
    convolution_output_shape,
)
from bounds.errors import InvalidInputError, UnsupportedLayerError
from bounds.network import AffineNode, InputNode, Network, Node, ReluNode, SumNode

Sizes = int | Sequence[int]


@dataclass(frozen=True, eq=False)
class Symbol:
    """A tensor of the network under construction: its node and its per-sample shape."""

    index: int
    shape: Shape


class NetworkBuilder:
    """Collects nodes; `at` names the layer being read, which every refusal quotes."""

    def __init__(
        self, input_shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = tuple(input_shape)
        if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
            raise InvalidInputError(
                f"input_shape is {input_shape!r}, expected positive integers without the batch "
                "axis, such as (1, 28, 28)."
            )
        if dtype not in (torch.float32, torch.float64):
            raise InvalidInputError(
                f"the network's dtype is {dtype}, expected torch.float32 or torch.float64: pass "
                "dtype=torch.float64."
            )
        self.dtype, self.device = dtype, device
        self.at = "input"
        self._nodes: list[Node] = [InputNode("input", shape, ())]
        self.input = Symbol(0, shape)

    # -- refusals

    def refuse(self, what: str, remedy: str) -> UnsupportedLayerError:
        """The error for a layer that is not modelled; raise what it returns."""
        return UnsupportedLayerError(f"layer {self.at!r}: {what}; {remedy}.")

    def tensor(self, value: Tensor) -> Tensor:
        """A private copy of a parameter or constant, through which gradients still flow."""
        if value.is_complex() or value.is_quantized:
            raise self.refuse(f"its numbers are {value.dtype}", "use real floating-point numbers")
        converted = value.to(self.dtype, copy=True)
        if not torch.isfinite(converted).all():
            raise InvalidInputError(
                f"layer {self.at!r} has numbers among its parameters that are NaN or infinite in "
                f"{self.dtype}: no bound can rest on them, check how they were trained or loaded."
            )
        return converted

    # -- layers

    def linear(self, x: Symbol, weight: Tensor, bias: Tensor | None) -> Symbol:
        if weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[:1]):
            raise self.refuse(
                f"its weight has shape {tuple(weight.shape)} and its bias another than one number "
                "an output",
                "use a weight of shape (out, in) and a bias of shape (out,)",
            )
        if x.shape[-1] != weight.shape[1]:
            raise self._misfit(x, f"{weight.shape[1]} features along the last axis")
        shape = (*x.shape[:-1], weight.shape[0])
        return self._affine(x, Linear(x.shape, shape, self.tensor(weight), self._optional(bias)))

    def convolution(
        self,
        x: Symbol,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
    ) -> Symbol:
        axes = weight.dim() - 2
        if axes not in (1, 2):
            raise self.refuse(
                f"convolution over {axes} axes is not modelled", "use Conv1d or Conv2d"
            )
        if len(x.shape) != axes + 1 or x.shape[0] != weight.shape[1] * groups:
            raise self._misfit(
                x, f"({weight.shape[1] * groups} channels, then {axes} spatial axes)"
            )
        stride, dilation = self._per_axis(stride, axes), self._per_axis(dilation, axes)
        if isinstance(padding, str):
            padding = self._named_padding(padding, weight.shape[2:], dilation)
        padding = self._per_axis(padding, axes)
        if min(stride) < 1 or min(dilation) < 1 or min(padding) < 0:
            raise self.refuse(
                f"stride {stride}, dilation {dilation} and padding {padding} describe no "
                "convolution",
                "use positive strides and dilations and padding of at least 0",
            )
        shape = convolution_output_shape(x.shape, weight, stride, padding, dilation)
        if min(shape) < 1:
            raise self._misfit(x, f"at least the kernel's extent {tuple(weight.shape[2:])}")
        operation = Convolution(
            x.shape,
            shape,
            self.tensor(weight),
            self._optional(bias),
            stride,
            padding,
            dilation,
            groups,
        )
        return self._affine(x, operation)

    def batch_norm(
        self,
        x: Symbol,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        *,
        training: bool,
    ) -> Symbol:
        """Batch normalisation with its stored statistics: one scale and one shift a channel."""
        if training or mean is None or variance is None:
            raise self.refuse(
                "BatchNorm normalises by the batch at hand, so a sample's output depends on the "
                "others",
                "call model.eval() and keep track_running_stats=True",
            )
        if x.shape[0] != mean.shape[0]:
            raise self._misfit(x, f"{mean.shape[0]} channels")
        # Folded in float64, so that the numbers are off by no more than their own rounding.
        scale = torch.rsqrt(variance.double() + eps)
        if weight is not None:
            scale = scale * weight.double()
        shift = -mean.double() * scale
        if bias is not None:
            shift = shift + bias.double()
        per_channel = (-1, *[1] * (len(x.shape) - 1))
        # Finite statistics can still give NaN or infinity: a negative variance, or one near 0.
        scale, shift = (self.tensor(t.reshape(per_channel)) for t in (scale, shift))
        return self._affine(x, Scale(x.shape, x.shape, scale, shift))

    def average_pool(
        self,
        x: Symbol,
        kernel: Sizes,
        *,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor: int | None = None,
    ) -> Symbol:
        """AvgPool2d, as the convolution of each channel with a constant kernel."""
        if ceil_mode:
            raise self.refuse(
                "ceil_mode=True is not modelled", "use ceil_mode=False with explicit padding"
            )
        if len(x.shape) != 3:
            raise self._misfit(x, "(channels, height, width)")
        kernel = self._per_axis(kernel, 2)
        stride = kernel if stride is None or stride == [] else self._per_axis(stride, 2)
        padding = self._per_axis(padding, 2)
        if not count_include_pad and any(padding) and divisor is None:
            raise self.refuse(
                "count_include_pad=False with padding is not modelled",
                "use count_include_pad=True or padding=0",
            )
        if any(k > size + 2 * p for k, size, p in zip(kernel, x.shape[1:], padding, strict=True)):
            raise self._misfit(x, f"at least the kernel's extent {kernel}")
        channels, share = x.shape[0], 1 / (divisor or math.prod(kernel))
        weight = torch.full((channels, 1, *kernel), share, dtype=self.dtype, device=self.device)
        return self.convolution(x, weight, None, stride=stride, padding=padding, groups=channels)

    def relu(self, x: Symbol) -> Symbol:
        return self._add(ReluNode(self.at, x.shape, (x.index,)))

    def reshape(self, x: Symbol, shape: Sequence[int]) -> Symbol:
        """The per-sample shape, in which one entry may be -1."""
        target, size = list(shape), math.prod(x.shape)
        if target.count(-1) == 1:
            known = math.prod(s for s in target if s != -1)
            target[target.index(-1)] = size // known if known else 0
        if math.prod(target) != size or min(target, default=1) < 1:
            raise self._misfit(x, f"something that reshapes to {tuple(shape)} a sample")
        if tuple(target) == x.shape:
            return x
        return self._affine(x, Reshape(x.shape, tuple(target)))

    def flatten(self, x: Symbol, start: int, end: int) -> Symbol:
        """torch.flatten, whose axis 0 is the batch."""
        rank = len(x.shape) + 1
        if not (-rank <= start < rank and -rank <= end < rank):
            raise self._misfit(x, f"axes {start} to {end}, the batch axis counted")
        start, end = start % rank, end % rank
        if start == 0:
            raise self.refuse(
                "it flattens the batch axis into the sample", "flatten from axis 1 on"
            )
        flat = math.prod(x.shape[start - 1 : end])
        return self.reshape(x, (*x.shape[: start - 1], flat, *x.shape[end:]))

    def scale(self, x: Symbol, factor: Tensor | float) -> Symbol:
        """x times a constant that broadcasts to the sample."""
        return self._affine(x, Scale(x.shape, x.shape, self._constant(x, factor)))

    def shift(self, x: Symbol, amount: Tensor | float) -> Symbol:
        """x plus a constant that broadcasts to the sample."""
        shift = self._constant(x, amount)
        return self._affine(x, Scale(x.shape, x.shape, torch.ones_like(shift), shift))

    def sum(self, x: Symbol, y: Symbol) -> Symbol:
        """A residual sum."""
        if x.shape != y.shape:
            raise self._misfit(x, f"the other term's shape {y.shape}, without broadcasting")
        return self._add(SumNode(self.at, x.shape, (x.index, y.index)))

    def finish(self, output: Symbol) -> Network:
        """The network that computes `output`, without the nodes it does not need."""
        needed = {0, output.index}
        for index in range(output.index, 0, -1):
            if index in needed:
                needed.update(self._nodes[index].parents)
        renamed = {old: new for new, old in enumerate(sorted(needed))}
        return Network(
            tuple(
                replace(
                    self._nodes[old], parents=tuple(renamed[p] for p in self._nodes[old].parents)
                )
                for old in renamed
            )
        )

    # -- helpers

    def _add(self, node: Node) -> Symbol:
        self._nodes.append(node)
        return Symbol(len(self._nodes) - 1, node.shape)

    def _affine(self, x: Symbol, operation: Affine) -> Symbol:
        return self._add(AffineNode(self.at, operation.output_shape, (x.index,), operation))

    def _optional(self, value: Tensor | None) -> Tensor | None:
        return None if value is None else self.tensor(value)

    def _constant(self, x: Symbol, value: Tensor | float) -> Tensor:
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value, dtype=self.dtype)
        constant = self.tensor(value.to(self.device))
        if constant.dim() == len(x.shape) + 1 and constant.shape[0] == 1:
            constant = constant.squeeze(0)
        try:
            fits = torch.broadcast_shapes(constant.shape, x.shape) == x.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise self._misfit(
                x, f"a sample that the constant {tuple(constant.shape)} broadcasts to"
            )
        return constant

    def _per_axis(self, sizes: Sizes, axes: int) -> Shape:
        values = (sizes,) * axes if isinstance(sizes, int) else tuple(sizes)
        return values * axes if len(values) == 1 else values

    def _named_padding(self, name: str, kernel: Sequence[int], dilation: Shape) -> Shape:
        if name == "valid":
            return (0,) * len(kernel)
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if name != "same" or any(t % 2 for t in total):
            raise self.refuse(
                f"padding={name!r} with kernel {tuple(kernel)} pads one side more than the other",
                "use an odd kernel or give the padding in numbers",
            )
        return tuple(t // 2 for t in total)

    def _misfit(self, x: Symbol, expected: str) -> InvalidInputError:
        return InvalidInputError(
            f"layer {self.at!r} got a sample of shape {x.shape} but expects {expected}: "
            "check input_shape and the layers before it."
        )
