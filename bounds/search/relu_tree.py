"""What became of every node of a search that splits ReLUs: the skeleton of a proof.

The root is node 0. A node is split at a neuron into the inputs for which its ẑ ≥ 0 and those for
which ẑ ≤ 0. What closes a leaf is a refutation of some of the phases on its path, which may be
shared by many leaves: where it needs few of them, it excludes much more than one leaf.

Some refutations exclude just a part of what a neuron can be, and so bound it. What they bound holds
under their phases, and only where all rows are at most 0; others may use it in the same disjunct.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

#: A neuron: which ReLU, in the order of `Network.relus`, and its flat index there.
Neuron = tuple[int, int]


@dataclass(frozen=True)
class Bound:
    """Of a neuron that is unstable at the root: ẑ ≥ end ≤ 0 (side 1), or ẑ ≤ end ≥ 0 (side −1).

    Raises ValueError for any other side or end: on the part that it excludes, the neuron is to be
    on one side of 0.
    """

    neuron: Neuron
    side: int
    end: float

    def __post_init__(self) -> None:
        if self.side not in (1, -1) or not (math.isfinite(self.end) and self.side * self.end <= 0):
            raise ValueError(f"a bound of side {self.side} with end {self.end}")


@dataclass(frozen=True, eq=False)
class Refutation:
    """Why no input with these phases has all rows of the disjunct at most 0.

    phases: 1 where a neuron's ẑ ≥ 0 is needed, −1 where ẑ ≤ 0 is. weights: λ ≥ 0, of which one is
    positive at least, (rows,). multipliers: ν at each ReLU of the root's relaxation, flat, 0 at
    stable neurons; in float64. With the phases' vertices left out of the triangles, the dual value
    of the row Σ λ_r (⟨C_r, z⟩ + d_r) at ν is positive.

    uses: the positions of bounds in the same tree, each before its own and with phases that are all
    among its own; their ends stand for l and u where they are tighter.
    bound: None where nothing more is assumed. Else the dual value is positive where the neuron is
    beyond the end, [l, end] or [end, u]: the bound holds for every input with the phases that has
    all rows at most 0.
    """

    phases: Mapping[Neuron, int]
    weights: Tensor
    multipliers: tuple[Tensor, ...]
    uses: tuple[int, ...] = ()
    bound: Bound | None = None

    @cached_property
    def _literals(self) -> frozenset[tuple[Neuron, int]]:
        """The phases, as they are compared with many others."""
        return frozenset(self.phases.items())

    def used(self, earlier: Sequence[Refutation]) -> list[Bound]:
        """What it uses of these.

        Raises ValueError where it may not.
        """
        found = []
        for position in self.uses:
            if not 0 <= position < len(earlier):
                raise ValueError(f"a refutation uses number {position} of {len(earlier)}")
            other = earlier[position]
            if other.bound is None or not other._literals <= self._literals:
                raise ValueError(f"a refutation cannot use number {position}")
            found.append(other.bound)
        return found


@dataclass(eq=False)
class ReluTree:
    """Of one disjunct on one input set.

    splits: of each node that was split the neuron, the child with ẑ ≥ 0 and the one with ẑ ≤ 0.
    leaves: of each node that was closed, the position of its refutation, which bounds nothing.
    """

    splits: dict[int, tuple[Neuron, int, int]] = field(default_factory=dict)
    leaves: dict[int, int] = field(default_factory=dict)
    refutations: list[Refutation] = field(default_factory=list)


def needed(refutations: Sequence[Refutation], cited: Iterable[int]) -> list[int]:
    """The positions of those that leaves cite, and of all that these rest on; in ascending order.

    Raises ValueError where a leaf cites a bound, or something rests on what comes later.
    """
    pending = set(cited)
    if any(refutations[position].bound is not None for position in pending):
        raise ValueError("a leaf cites a bound, which refutes nothing")
    found = set()
    while pending:
        position = pending.pop()
        found.add(position)
        one = refutations[position]
        one.used(refutations)
        if any(other >= position for other in one.uses):
            raise ValueError(f"refutation {position} uses what does not come before it")
        pending |= set(one.uses) - found
    return sorted(found)
