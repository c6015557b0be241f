"""A ReLU network as an immutable directed acyclic graph of affine operations, sums and ReLUs.

A `Network` is a snapshot: its parameters are copies, so training the model afterwards does not
change it, while gradients still flow from a bound back to the parameters of the model it was built
from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor

from bounds.arguments import require_tensor
from bounds.errors import InvalidInputError
from bounds.network.affine import Affine, Convert, Shape, per_row


@dataclass(frozen=True, eq=False)
class Node:
    """One tensor: its name in the model, its per-sample shape, and the nodes it comes from."""

    name: str
    shape: Shape
    parents: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class InputNode(Node):
    """The network's input; always node 0."""


@dataclass(frozen=True, eq=False)
class AffineNode(Node):
    """operation(parent)."""

    operation: Affine


@dataclass(frozen=True, eq=False)
class SumNode(Node):
    """The sum of its parents, all of one shape: a residual connection."""


@dataclass(frozen=True, eq=False)
class ReluNode(Node):
    """max(parent, 0)."""


@dataclass(frozen=True)
class ModelLayer:
    """A layer of the model, of whatever nodes it is made. shape: of what it gives, per sample.
    relus: which of `Network.relus` are its own, and so of `Relaxation.layers`; a max pooling has
    several."""

    name: str
    shape: Shape
    relus: tuple[int, ...]


#: Given the ReLU's position in `Network.relus` and the coefficients that arrive at its output, the
#: coefficients on its input; both of shape (batch, rows, *shape).
ReluRule = Callable[[int, Tensor], Tensor]


class Observer(Protocol):
    """Sees the coefficients (batch, rows, *shape) of a backward pass go by."""

    def arrived(self, node: int, coefficients: Tensor) -> None:
        """These will go through the affine operation of `node`."""

    def added(self, node: int, coefficients: Tensor) -> None:
        """These are the sum of two that have come to `node` from its readers."""


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """Nodes in topological order: the first is the input, the last the output.

    Calling the network evaluates it on a batch of shape (batch, *input_shape).

    >>> import torch, bounds
    >>> network = bounds.from_torch(torch.nn.ReLU(), (2,), dtype=torch.float32)
    >>> network(torch.tensor([[-1.0, 2.0]])).tolist()
    [[0.0, 2.0]]
    """

    nodes: tuple[Node, ...]

    @property
    def input_shape(self) -> Shape:
        return self.nodes[0].shape

    @property
    def output_shape(self) -> Shape:
        return self.nodes[-1].shape

    @property
    def relus(self) -> tuple[int, ...]:
        """The indices of the ReLU nodes, in topological order."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, ReluNode))

    @property
    def layers(self) -> tuple[ModelLayer, ...]:
        """Of the model, in the order in which it has them, after its input.

        >>> import torch, bounds
        >>> model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.MaxPool1d(2))
        >>> for layer in bounds.from_torch(model, (1, 4)).layers:
        ...     print(layer.name, layer.shape, layer.relus)
        0 (1, 4) (0,)
        1 (1, 2) (1,)
        """
        shapes = {node.name: node.shape for node in self.nodes[1:]}
        relus: dict[str, list[int]] = {name: [] for name in shapes}
        for position, index in enumerate(self.relus):
            relus[self.nodes[index].name].append(position)
        return tuple(ModelLayer(name, shapes[name], tuple(relus[name])) for name in shapes)

    @property
    def last_readers(self) -> dict[int, int]:
        """Of each node that is read, the last one that reads it."""
        return {p: index for index, node in enumerate(self.nodes) for p in node.parents}

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Every tensor of the affine operations."""
        tensors: list[Tensor] = []

        def collect(tensor: Tensor) -> Tensor:
            tensors.append(tensor)
            return tensor

        for node in self.nodes:
            if isinstance(node, AffineNode):
                node.operation.convert(collect)
        return tuple(tensors)

    def __repr__(self) -> str:
        """A line a node: never the weights."""
        count = sum(tensor.numel() for tensor in self.parameters)
        lines = [f"Network {self.input_shape} → {self.output_shape}, {count} numbers"]
        for index, node in enumerate(self.nodes):
            kind = type(node).__name__.removesuffix("Node")
            if isinstance(node, AffineNode):
                kind = type(node.operation).__name__
            of = f" of {', '.join(map(str, node.parents))}" if node.parents else ""
            lines.append(f"  {index}: {kind}{of} {node.shape} {node.name!r}")
        return "\n".join(lines)

    def convert(self, convert: Convert) -> Network:
        """The same network with `convert` applied to every parameter."""
        return Network(
            tuple(
                replace(node, operation=node.operation.convert(convert))
                if isinstance(node, AffineNode)
                else node
                for node in self.nodes
            )
        )

    def to(self, *args: Any, **kwargs: Any) -> Network:
        """The same network on another device or in another floating dtype, as `torch.Tensor.to`."""
        return self.convert(lambda tensor: tensor.to(*args, **kwargs))

    def detach(self) -> Network:
        """The same network, out of the reach of gradients."""
        return self.convert(Tensor.detach)

    def behind(self, node: int) -> set[int]:
        """That node, the input, and all nodes in between that it depends on."""
        needed = {0, node}
        for index in range(node, 0, -1):
            if index in needed:
                needed.update(self.nodes[index].parents)
        return needed

    def ending_at(self, node: int) -> tuple[Network, tuple[int, ...]]:
        """The network whose output is that node, of the nodes that it depends on alone; and which
        of `relus` are left, by their position."""
        needed = self.behind(node)
        renamed = {old: new for new, old in enumerate(sorted(needed))}
        nodes = (
            replace(self.nodes[old], parents=tuple(renamed[p] for p in self.nodes[old].parents))
            for old in renamed
        )
        kept = tuple(position for position, relu in enumerate(self.relus) if relu in needed)
        return Network(tuple(nodes)), kept

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs, of shape (batch, *output_shape), for a batch in the dtype of the network.

        Raises InvalidInputError for what is no tensor, or one of another shape, dtype or device.
        """
        self.require_batch("Network", x)
        return self.evaluate(x, lambda _, z: z.clamp(min=0))

    def require_batch(self, call: str, x: object) -> None:
        """Refuse all but inputs (batch, *input_shape) in the dtype and on the device of the
        network."""
        x = require_tensor(call, "x", x)
        if x.dim() == 0 or x.shape[1:] != self.input_shape:
            raise InvalidInputError(
                f"{call} got x of shape {tuple(x.shape)} but expects (batch, "
                f"{', '.join(map(str, self.input_shape))}): add or remove axes with x.reshape(...)."
            )
        for parameter in self.parameters[:1]:
            if parameter.dtype != x.dtype or parameter.device != x.device:
                raise InvalidInputError(
                    f"{call} got a network in {parameter.dtype} on {parameter.device} and inputs "
                    f"in {x.dtype} on {x.device}: convert one with .to(...) or "
                    "from_torch(..., dtype=...)."
                )

    def __deepcopy__(self, memo: dict[int, object]) -> Network:
        """A copy with tensors of its own, through which gradients flow as through these."""
        return self.convert(Tensor.clone)

    def evaluate(self, x: Tensor, relu: Callable[[int, Tensor], Tensor]) -> Tensor:
        """One forward pass in which `relu(k, ẑ)` stands for the k-th ReLU."""
        values: dict[int, Tensor] = {}
        readers = self.last_readers
        position = 0
        for index, node in enumerate(self.nodes):
            match node:
                case InputNode():
                    values[index] = x
                case AffineNode(parents=(parent,), operation=operation):
                    values[index] = operation.forward(values[parent])
                case ReluNode(parents=(parent,)):
                    values[index] = relu(position, values[parent])
                    position += 1
                case SumNode(parents=parents):
                    values[index] = sum(values[p] for p in parents[1:]) + values[parents[0]]
                case _:
                    raise TypeError(f"Network.evaluate does not know {type(node).__name__}.")
            for parent in set(node.parents):
                if readers[parent] == index:  # a batch of many rows is large
                    del values[parent]
        return values[len(self.nodes) - 1]

    def backward(
        self,
        start: int,
        coefficients: Tensor,
        relu_rule: ReluRule,
        observer: Observer | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One pass through the transposed network: rewrite ⟨coefficients, node⟩ as ⟨c, x⟩ +
        constant.

        coefficients: (batch, rows, *shape of node `start`). At each ReLU, `relu_rule` turns the
        coefficients on z into those on ẑ; what it leaves out is its own to account for. `observer`
        is told what is about to be rounded. Returns the constant (batch, rows), which gathers the
        biases, and c (batch, rows, *input_shape).
        """
        return self.backward_from({start: coefficients}, relu_rule, observer)

    def backward_from(
        self,
        coefficients: Mapping[int, Tensor],
        relu_rule: ReluRule,
        observer: Observer | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The same for Σ ⟨coefficients, node⟩ over several nodes, each by its index."""
        pending = dict(coefficients)
        start = max(pending)
        like = pending[start]
        constant = like.new_zeros(like.shape[:2])
        positions = {index: k for k, index in enumerate(self.relus)}

        def send(parent: int, message: Tensor) -> None:
            if parent in pending:
                message = pending[parent] + message
                if observer is not None:
                    observer.added(parent, message)
            pending[parent] = message

        for index in range(start, 0, -1):
            if index not in pending:
                continue
            arriving = pending.pop(index)
            match self.nodes[index]:
                case AffineNode(parents=(parent,), operation=operation):
                    if observer is not None:
                        observer.arrived(index, arriving)
                    if operation.offset is not None:
                        offset = operation.offset.expand(operation.output_shape).flatten()
                        constant = constant + arriving.flatten(2) @ offset
                    send(parent, per_row(operation.adjoint, arriving))
                case ReluNode(parents=(parent,)):
                    send(parent, relu_rule(positions[index], arriving))
                case SumNode(parents=parents):
                    for parent in parents:
                        send(parent, arriving)
                case _:
                    raise TypeError(f"Network.backward does not know {self.nodes[index]!r}.")
        at_input = pending.get(0)
        if at_input is None:
            at_input = like.new_zeros(*like.shape[:2], *self.input_shape)
        return constant, at_input
