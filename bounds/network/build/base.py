"""What every layer is built with: nodes, refusals, private copies of parameters, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.errors import InvalidInputError, UnsupportedLayerError
from bounds.network.affine import Affine, Shape
from bounds.network.graph import AffineNode, InputNode, Network, Node, ReluNode

Sizes = int | Sequence[int]
Constant = Tensor | float
#: One number for every side, one for both sides of each axis, or a pair (before, after) an axis.
Padding = int | Sequence[int] | Sequence[tuple[int, int]]
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Symbol:
    """A tensor of the network under construction: its node and its per-sample shape."""

    index: int
    shape: Shape


class LayerBuilder:
    """Collects nodes; `at` names the layer being read, which every refusal quotes.

    Shapes and axes are those of one sample: the batch axis is not among them.
    """

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

    def refuse(self, what: str, remedy: str) -> UnsupportedLayerError:
        """The error for a layer that is not modelled; raise what it returns."""
        return UnsupportedLayerError(f"layer {self.at!r}: {what}; {remedy}.")

    def misfit(self, x: Symbol, expected: str) -> InvalidInputError:
        """The error for a sample of a shape that the layer does not take; raise what it returns."""
        return InvalidInputError(
            f"layer {self.at!r} got a sample of shape {x.shape} but expects {expected}: "
            "check input_shape and the layers before it."
        )

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

    def real(self, value: Constant) -> Constant:
        """A constant to compute with: integers without a sign have no negative."""
        return self.tensor(value) if isinstance(value, Tensor) else value

    def relu(self, x: Symbol) -> Symbol:
        return self._add(ReluNode(self.at, x.shape, (x.index,)))

    def finish(self, output: Symbol) -> Network:
        """The network that computes `output`, without the nodes it does not need."""
        return Network(tuple(self._nodes)).ending_at(output.index)[0]

    def per_axis(self, sizes: Sizes, axes: int) -> Shape:
        """One entry an axis, where one number may stand for all."""
        values = (sizes,) * axes if isinstance(sizes, int) else tuple(sizes)
        if len(values) not in (1, axes):
            raise self.refuse(
                f"it has {len(values)} sizes {values} for {axes} axes", "give one size an axis"
            )
        return values * axes if len(values) == 1 else values

    def per_side(self, padding: Padding, axes: int) -> Pairs:
        """A pair (before, after) an axis."""
        if not isinstance(padding, int) and any(not isinstance(p, int) for p in padding):
            pairs = tuple(tuple(pair) for pair in padding)  # type: ignore[arg-type]
            if len(pairs) != axes or any(len(pair) != 2 for pair in pairs):
                raise self.refuse(
                    f"it has padding {pairs} for {axes} axes", "give a pair (before, after) an axis"
                )
            return pairs  # type: ignore[return-value]
        return tuple((p, p) for p in self.per_axis(padding, axes))  # type: ignore[arg-type]

    def _add(self, node: Node) -> Symbol:
        self._nodes.append(node)
        return Symbol(len(self._nodes) - 1, node.shape)

    def _affine(self, x: Symbol, operation: Affine) -> Symbol:
        return self._add(AffineNode(self.at, operation.output_shape, (x.index,), operation))

    def _optional(self, value: Tensor | None) -> Tensor | None:
        return None if value is None else self.tensor(value)
