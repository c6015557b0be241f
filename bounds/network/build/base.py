"""What every layer is built with: nodes, refusals, private copies of parameters, sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.arguments import all_finite
from bounds.errors import InvalidInputError, UnsupportedLayerError
from bounds.network.affine import Affine, Reshape, Shape
from bounds.network.graph import AffineNode, InputNode, Network, Node, ReluNode

Sizes = int | Sequence[int]
Constant = Tensor | float
#: One number for every side, one for both sides of each axis, or a pair (before, after) an axis.
Padding = int | Sequence[int] | Sequence[tuple[int, int]]
Pairs = tuple[tuple[int, int], ...]
#: A layer whose sample has more numbers than this would need an index out of all proportion.
MAX_NUMBERS = 2**26
#: What all layers together may have of numbers and of products a sample, and a convolution of
#: numbers under its windows: a few lines of a file can ask for any amount of either.
MAX_IN_ALL = 2**28
MAX_PRODUCTS = 2**35


@dataclass(frozen=True, eq=False)
class Symbol:
    """A tensor of the network under construction: its node and its per-sample shape."""

    index: int
    shape: Shape


@dataclass(frozen=True)
class Last:
    """A softmax, or its logarithm, along an axis of a model's logits, which the network leaves out.

    The order of the logits is that of the softmax; differences are those of the log-softmax.
    """

    logits: int
    axis: int
    log: bool

    def __call__(self, logits: Tensor) -> Tensor:
        """What the model makes of a batch of the network's outputs."""
        return (torch.log_softmax if self.log else torch.softmax)(logits, self.axis + 1)


class LayerBuilder:
    """Collects nodes; `at` names the layer being read, which every refusal quotes.

    Shapes and axes are those of one sample: the batch axis is not among them. `model_dtype` is what
    the model computes in, where that is not the network's dtype.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
        *,
        model_dtype: torch.dtype | None = None,
        drop_softmax: bool = False,
    ) -> None:
        shape = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
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
        self.last: Last | None = None  # of the network that `finish` made
        self.model_dtype = model_dtype or dtype
        self.numbers = self.products = 0  # of all layers, a sample
        self._drop_softmax = drop_softmax
        self._softmaxes: dict[int, Last] = {}
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
        if not all_finite(converted):
            raise InvalidInputError(
                f"layer {self.at!r} has numbers among its parameters that are NaN or infinite in "
                f"{self.dtype}: no bound can rest on them, check how they were trained or loaded."
            )
        return converted

    def real(self, value: Constant) -> Constant:
        """A constant to compute with: integers without a sign have no negative."""
        return self.tensor(value) if isinstance(value, Tensor) else value

    def softmax(self, x: Symbol, axis: int, *, log: bool) -> Symbol:
        """A softmax along an axis, which is not modelled, or else dropped: see `Last`."""
        if not self._drop_softmax:
            raise self.refuse(
                f"{'log-softmax' if log else 'softmax'} is not piecewise linear",
                "return the logits, or read the model with drop_softmax=True where it comes last",
            )
        same = AffineNode(self.at, x.shape, (x.index,), Reshape(x.shape, x.shape))
        self._softmaxes[len(self._nodes)] = Last(x.index, axis, log)
        return self._add(same)

    def relu(self, x: Symbol) -> Symbol:
        return self._add(ReluNode(self.at, x.shape, (x.index,)))

    def require_shape(self, shape: Sequence[int]) -> None:
        """Refuse samples without axes, without numbers, or with too many."""
        if not shape or min(shape) < 1 or math.prod(shape) > MAX_NUMBERS:
            raise self.refuse(
                f"it has to do with a sample of the shape {tuple(shape)}",
                f"keep at least one axis (keepdim=True), none of size 0, and at most {MAX_NUMBERS} "
                "numbers",
            )

    def finish(self, output: Symbol) -> Network:
        """The network that computes `output`, without the nodes it does not need."""
        self.last = self._softmaxes.get(output.index)
        if self.last is not None:
            output = Symbol(self.last.logits, output.shape)
        whole = Network(tuple(self._nodes))
        inner = whole.behind(output.index) & self._softmaxes.keys()
        if inner:
            self.at = self._nodes[min(inner)].name
            raise self.refuse("its softmax is followed by other layers", "return its logits")
        return whole.ending_at(output.index)[0]

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

    def require_room(self, *, numbers: int = 0, products: int = 0) -> None:
        """Count what a layer needs before it is made."""
        self.numbers, self.products = self.numbers + numbers, self.products + products
        if self.numbers > MAX_IN_ALL or self.products > MAX_PRODUCTS:
            raise self.refuse(
                f"up to here the layers have more than {MAX_IN_ALL} numbers a sample, or compute "
                f"more than {MAX_PRODUCTS} products",
                "use a smaller model",
            )

    def _add(self, node: Node) -> Symbol:
        self.require_shape(node.shape)
        self.require_room(numbers=math.prod(node.shape))
        self._nodes.append(node)
        return Symbol(len(self._nodes) - 1, node.shape)

    def _affine(self, x: Symbol, operation: Affine) -> Symbol:
        shape = operation.output_shape
        self.require_room(products=math.prod(shape) * operation.fan_in)
        return self._add(AffineNode(self.at, shape, (x.index,), operation))

    def _optional(self, value: Tensor | None) -> Tensor | None:
        return None if value is None else self.tensor(value)
