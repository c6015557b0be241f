"""The relaxation: one frozen object that every method, and the referee in `lp_reference`, consumes.

It states the LP: minimise C · z_out + d over the input set and the affine equations of the network,
with each ReLU replaced by the table in `bounds.relaxation.triangle`. There are no other rows: a
stable neuron gets no bounds of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from bounds.errors import InvalidInputError
from bounds.network.affine import Convert
from bounds.network.graph import Network, Node
from bounds.network.memory import parts_of
from bounds.relaxation.layers import Layer, layers_of
from bounds.relaxation.ranges import Range, ranges
from bounds.relaxation.triangle import ReluBounds
from bounds.rounding import weighted
from bounds.sets.box import InputSet

#: The indices of some inputs, and of some rows.
Part = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class Relaxation:
    """One LP for each input of the batch and each row of the specification.

    network: the network. input_set: its inputs. C: (batch, rows, *output_shape) and d: (batch,
    rows): the rows.
    relu_bounds: l and u of each ReLU, in the order of `network.relus`; they are data of the LP,
    valid or not for the network itself. intermediate, slope: where they came from; if "given",
    nobody vouches that they hold. unsolved: of each input, how many of the LPs that l and u are the
    optima of (intermediate="lp") ended without one; those bounds hold, but could be tighter.
    timed_out: whether some l and u are looser than `intermediate` says, as the time was up.

    Raises InvalidInputError where shapes do not fit, l > u, or a number is NaN or infinite.

    >>> import bounds
    >>> network = bounds.from_torch(torch.nn.ReLU(), (2,), dtype=torch.float64)
    >>> ball = bounds.Ball(torch.tensor([[0.0, 3.0]], dtype=torch.float64), radius=1.0)
    >>> relaxation = bounds.relax(network, ball, bounds.margins(0, classes=2))
    >>> relaxation.unstable, relaxation.relu_bounds[0].unstable.tolist()
    ((1,), [[True, False]])
    """

    network: Network
    input_set: InputSet
    C: Tensor
    d: Tensor
    relu_bounds: tuple[ReluBounds, ...]
    intermediate: str = "given"
    slope: str | None = None
    unsolved: tuple[int, ...] = ()
    timed_out: bool = False

    def __post_init__(self) -> None:
        batch, rows = self.C.shape[:2]
        network = self.network
        if batch == 0 or rows == 0:
            raise InvalidInputError(
                f"Relaxation got C of shape {tuple(self.C.shape)}, which has no rows: give at "
                "least one input and one row."
            )
        if len(self.relu_bounds) != len(network.relus):
            raise InvalidInputError(
                f"Relaxation got bounds for {len(self.relu_bounds)} ReLUs but the network has "
                f"{len(network.relus)}."
            )
        expected = [
            ("input_set.lower", self.input_set.lower, (batch, *network.input_shape)),
            ("input_set.upper", self.input_set.upper, (batch, *network.input_shape)),
            ("C", self.C, (batch, rows, *network.output_shape)),
            ("d", self.d, (batch, rows)),
        ]
        for node, neurons in self._layers():
            expected.append((f"lower bounds of {node.name!r}", neurons.lower, (batch, *node.shape)))
            expected.append((f"upper bounds of {node.name!r}", neurons.upper, (batch, *node.shape)))
        for name, tensor, shape in expected:
            if tensor.shape != shape:
                raise InvalidInputError(
                    f"Relaxation got {name} of shape {tuple(tensor.shape)}, expected {shape}."
                )
        self._require_numbers([(name, tensor) for name, tensor, _ in expected])

    def _layers(self) -> list[tuple[Node, ReluBounds]]:
        nodes = [self.network.nodes[index] for index in self.network.relus]
        return list(zip(nodes, self.relu_bounds, strict=True))

    def _require_numbers(self, tensors: Sequence[tuple[str, Tensor]]) -> None:
        """Refuse what is not finite, and ends that are the wrong way round: all is looked at
        first, as a device makes the host wait for every answer."""
        ordered = [(neurons.lower <= neurons.upper).all() for _, neurons in self._layers()]
        ordered.append((self.input_set.lower <= self.input_set.upper).all())
        finite = [torch.isfinite(tensor).all() for _, tensor in tensors]
        answers = torch.stack((*ordered, *finite)).tolist()
        for (node, neurons), holds in zip(self._layers(), answers, strict=False):
            if not holds:
                raise InvalidInputError(
                    f"the bounds of ReLU {node.name!r} have l > u or NaN: the weights or the "
                    "inputs overflow "
                    f"{neurons.lower.dtype}, or bounds were given the wrong way round."
                )
        for (name, tensor), holds in zip(tensors, answers[len(ordered) :], strict=True):
            if not holds:
                raise InvalidInputError(
                    f"{name} has NaN or infinite entries: the network overflows {tensor.dtype} on "
                    "this input set; "
                    "use float64, a smaller radius or smaller weights."
                )
        if not answers[len(ordered) - 1]:
            raise InvalidInputError(
                "Relaxation got an input set whose lower end lies above its upper end: swap them."
            )

    def _derived(self, **changes: Any) -> Relaxation:
        """The same with other tensors, whose numbers are some of these: nothing is looked at a
        second time."""
        derived = object.__new__(Relaxation)
        for field in fields(self):
            value = changes.get(field.name, getattr(self, field.name))
            object.__setattr__(derived, field.name, value)
        return derived

    @property
    def unstable(self) -> tuple[int, ...]:
        """The number of unstable neurons of each input."""
        counts = torch.zeros(len(self.input_set), dtype=torch.long, device=self.C.device)
        for neurons in self.relu_bounds:
            counts += neurons.unstable.flatten(1).sum(1)
        return tuple(counts.tolist())

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Names, shapes, l, u and the kinds of neurons of every ReLU."""
        return layers_of(self.network, self.relu_bounds)

    def __repr__(self) -> str:
        """A line a layer: never the numbers themselves."""
        batch, rows = self.C.shape[:2]
        how = self.intermediate if self.slope is None else f"{self.intermediate}, {self.slope}"
        lines = [f"Relaxation of {batch} inputs, {rows} rows each, {self.C.dtype} ({how})"]
        for layer in self.layers:
            kinds = ", ".join(
                f"{name} {counts.mean():g}"
                for name in ("active", "dead", "unstable", "split")
                if (counts := getattr(layer, name)).any()
            )
            lines.append(f"  {layer.name} {layer.shape}: {kinds or 'no neuron'} on average")
        return "\n".join(lines)

    @property
    def implied(self) -> bool:
        """Whether l ≤ ẑ ≤ u is a consequence of the LP's rows, and holds for the network."""
        return self.intermediate != "given" and not self.is_split

    @property
    def is_split(self) -> bool:
        """Whether some neurons are kept on one side of 0: bounds are then about the inputs for
        which they are there, and not about all."""
        return any(neurons.split is not None for neurons in self.relu_bounds)

    def split(self, phases: Sequence[Tensor]) -> Relaxation:
        """The LPs with some unstable neurons kept on one side of 0: a node of branch and bound.

        phases: for each ReLU a tensor (batch, *shape), positive where ẑ ≥ 0 is to hold, negative
        where ẑ ≤ 0 is, and 0 elsewhere. What holds on both sides of a split holds for the network.

        Raises InvalidInputError where shapes do not fit, or for a neuron that is not unstable.

        >>> import bounds
        >>> network = bounds.from_torch(torch.nn.ReLU(), (1,), dtype=torch.float64)
        >>> ball = bounds.Ball(torch.zeros(1, 1, dtype=torch.float64), radius=1.0)
        >>> rows = bounds.Specification(torch.tensor([[1.0]], dtype=torch.float64))
        >>> side = bounds.relax(network, ball, rows).split([torch.tensor([[1.0]])])
        >>> side.relu_bounds[0].lower.tolist(), side.is_split
        ([[0.0]], True)
        """
        if len(phases) != len(self.relu_bounds):
            raise InvalidInputError(
                f"Relaxation.split got phases for {len(phases)} ReLUs but the network has "
                f"{len(self.relu_bounds)}: give a tensor for each."
            )
        layers = []
        for k, (neurons, phase) in enumerate(zip(self.relu_bounds, phases, strict=True)):
            whole = (neurons.lower < 0) & (neurons.upper > 0)
            if phase.shape != whole.shape or bool(((phase != 0) & ~whole).any()):
                raise InvalidInputError(
                    f"Relaxation.split(phases[{k}]) has shape {tuple(phase.shape)}, expected "
                    f"{tuple(whole.shape)} and 0 wherever a neuron is not unstable: see "
                    "relu_bounds[k].unstable."
                )
            layers.append(neurons.kept(phase) if bool((phase != 0).any()) else neurons)
        return self._derived(relu_bounds=tuple(layers))

    def convert(self, convert: Convert) -> Relaxation:
        """The same relaxation with `convert` applied to every tensor: to copies of the same
        numbers, or to these in another dtype.

        In a dtype of fewer digits its l and u count as given: rounding may have moved them inward.
        """
        C = convert(self.C)
        exact = torch.finfo(C.dtype).eps <= torch.finfo(self.C.dtype).eps
        changes: dict[str, Any] = {
            "network": self.network.convert(convert),
            "input_set": self.input_set.convert(convert),
            "C": C,
            "d": convert(self.d),
            "relu_bounds": tuple(neurons.convert(convert) for neurons in self.relu_bounds),
        }
        if exact:
            return self._derived(**changes)
        # Numbers may be too large for the dtype.
        return replace(self, **changes, intermediate="given", slope=None, unsolved=())

    def take(self, images: Tensor, rows: Tensor) -> Relaxation:
        """The LPs of these inputs (B',) and rows, (S',) or each input's own (B', S')."""
        at = images.unsqueeze(1)
        return self._derived(
            input_set=self.input_set.convert(lambda tensor: tensor[images]),
            C=self.C[at, rows],
            d=self.d[at, rows],
            relu_bounds=tuple(n.convert(lambda bound: bound[images]) for n in self.relu_bounds),
            unsolved=tuple(self.unsolved[i] for i in images.tolist()) if self.unsolved else (),
        )

    def parts(self, places: int) -> Iterator[tuple[Part | None, Relaxation]]:
        """So many LPs at a time, and the indices of their inputs and of their rows; itself and no
        indices, where that is one part."""
        if places >= self.d.numel():
            yield None, self
        else:
            for part in parts_of(self.C, places):
                yield part, self.take(*part)

    def ranges(self) -> list[Range]:
        """What the values of every node lie within, in the network and in the LP."""
        return ranges(self.network, self.input_set, self.relu_bounds, implied=self.implied)

    @torch.no_grad()
    def scale(self) -> Tensor:
        """Of each row, the sizes of the terms that it is a sum of, at their largest: what the
        rounding of a feasible point's objective is a part of, even where that is 0.

        Of shape (batch, rows).
        """
        terms = self.ranges()[-1].terms
        scale = weighted(self.C, terms) + self.d.abs()
        return torch.where(torch.isfinite(scale), scale, 0.0)

    def double(self) -> Relaxation:
        """The same LP in float64, out of the reach of gradients: what the exact methods solve."""
        return self.convert(lambda tensor: tensor.detach().double())
