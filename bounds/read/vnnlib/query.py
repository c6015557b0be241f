"""What a query of VNN-LIB 2.0 declares and asserts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from typing import Literal

from bounds.network.affine import Shape
from bounds.read.vnnlib.comparisons import Comparison
from bounds.read.vnnlib.formula import Connective, Formula

Kind = Literal["input", "hidden", "output"]


@dataclass(frozen=True)
class Declared:
    """A tensor. element: its type, such as "float32" or "real". node: the name in the model of a
    hidden one; None for the others, which go by their position."""

    name: str
    kind: Kind
    element: str
    shape: Shape
    node: str | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Declaration:
    """A network. equal_to: the one whose model it has. isomorphic_to: the one whose structure its
    model is said to have, of which nothing makes use."""

    name: str
    inputs: tuple[Declared, ...]
    hidden: tuple[Declared, ...]
    outputs: tuple[Declared, ...]
    equal_to: str | None = None
    isomorphic_to: str | None = None

    @property
    def tensors(self) -> tuple[Declared, ...]:
        """In the order of their declaration."""
        return self.inputs + self.hidden + self.outputs


@dataclass(frozen=True)
class Query:
    """Is there an input of these networks for which every formula holds?

    The numbers of all tensors are counted through, in the order of declaration and each tensor's in
    row-major order: their places. name: the file.
    """

    name: str
    networks: tuple[Declaration, ...]
    formulas: tuple[Formula, ...]

    @cached_property
    def tensors(self) -> tuple[Declared, ...]:
        return tuple(tensor for network in self.networks for tensor in network.tensors)

    @cached_property
    def starts(self) -> Mapping[str, int]:
        """The place of each tensor's first number."""
        starts = accumulate((tensor.size for tensor in self.tensors), initial=0)
        return {tensor.name: start for tensor, start in zip(self.tensors, starts, strict=False)}

    def places(self, tensors: Sequence[Declared]) -> list[int]:
        """Those of these tensors."""
        return [
            place
            for tensor in tensors
            for place in range(self.starts[tensor.name], self.starts[tensor.name] + tensor.size)
        ]

    @cached_property
    def inputs(self) -> list[int]:
        """The places of all inputs."""
        return self.places([tensor for tensor in self.tensors if tensor.kind == "input"])

    @cached_property
    def others(self) -> list[int]:
        """The places of all that is computed, network by network."""
        return self.places([tensor for tensor in self.tensors if tensor.kind != "input"])

    @property
    def element(self) -> str:
        """The coarsest of the types of floating-point numbers; "real" where there are none."""
        found = {tensor.element for tensor in self.tensors}
        return next((kind for kind in ("float32", "float64") if kind in found), "real")

    def holds(self, numbers: Sequence[Fraction]) -> bool:
        """Whether all formulas hold for the numbers at all places; each comparison in the
        arithmetic of its type, without any tolerance."""
        return all(_holds(formula, numbers) for formula in self.formulas)

    def shown(self, place: int) -> str:
        """The name of the number at a place, as the query writes it."""
        for tensor in self.tensors:
            rest = place - self.starts[tensor.name]
            if 0 <= rest < tensor.size:
                if not tensor.shape:
                    return tensor.name
                indices = []
                for size in reversed(tensor.shape):
                    rest, index = divmod(rest, size)
                    indices.append(str(index))
                return f"{tensor.name}[{','.join(reversed(indices))}]"
        raise IndexError(place)


def _holds(formula: Formula, numbers: Sequence[Fraction]) -> bool:
    """No recursion: a file may nest deeply."""
    values: dict[int, bool] = {}
    pending: list[tuple[Formula, bool]] = [(formula, False)]
    while pending:
        part, ready = pending.pop()
        if isinstance(part, Comparison):
            values[id(part)] = part.holds(numbers)
        elif isinstance(part, Connective):
            if ready:
                known = (values[id(child)] for child in part.children)
                values[id(part)] = all(known) if part.conjunction else any(known)
            else:
                pending.append((part, True))
                pending += [(child, False) for child in part.children]
    return values[id(formula)]
