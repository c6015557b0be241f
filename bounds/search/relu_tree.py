"""What became of every node of a search that splits ReLUs: the skeleton of a proof.

The root is node 0. A node is split at a neuron into the inputs for which its ẑ ≥ 0 and those for
which ẑ ≤ 0. What closes a leaf is a refutation of some of the phases on its path, which may be
shared by many leaves: where it needs few of them, it excludes much more than one leaf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

#: A neuron: which ReLU, in the order of `Network.relus`, and its flat index there.
Neuron = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Refutation:
    """Why no input with these phases has all rows of the disjunct at most 0.

    phases: 1 where a neuron's ẑ ≥ 0 is needed, −1 where ẑ ≤ 0 is. weights: λ ≥ 0, of which one is
    positive at least, (rows,). multipliers: ν at each ReLU of the root's relaxation, flat, 0 at
    stable neurons; in float64. With the phases' vertices left out of the triangles, the dual value
    of the row Σ λ_r (⟨C_r, z⟩ + d_r) at ν is positive.
    """

    phases: Mapping[Neuron, int]
    weights: Tensor
    multipliers: tuple[Tensor, ...]


@dataclass(eq=False)
class ReluTree:
    """Of one disjunct on one input set.

    splits: of each node that was split the neuron, the child with ẑ ≥ 0 and the one with ẑ ≤ 0.
    leaves: of each node that was closed, the position of its refutation.
    """

    splits: dict[int, tuple[Neuron, int, int]] = field(default_factory=dict)
    leaves: dict[int, int] = field(default_factory=dict)
    refutations: list[Refutation] = field(default_factory=list)
