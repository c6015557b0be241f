"""The refutations of a file that are bounds, and what is used of these, unpacked.

A bound says of one neuron that ẑ ≥ t ≤ 0, or ẑ ≤ t ≥ 0, wherever an input has its phases and all
rows of its disjunct are at most 0: no such input has its ẑ beyond t. What uses it is about inputs
with its phases and rows at most 0 as well, so that t is an l or u for them. As each uses only
earlier ones of its disjunct, none rests on itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bounds.checker.evidence import Rejected
from bounds.checker.forest import Forest
from bounds.checker.proof_file import ProofFile
from bounds.solution.proof_file import MULTIPLIERS


@dataclass(frozen=True, eq=False)
class Uses:
    """Of each refutation: neuron, which it bounds, −1 where it refutes; upper: whether from above;
    end: t. of: the numbers, among all refutations, of those that it uses."""

    neuron: np.ndarray
    upper: np.ndarray
    end: np.ndarray
    of: list[np.ndarray]

    def narrow(self, number: int, lower: np.ndarray, upper: np.ndarray) -> None:
        """l and u of all neurons, (neurons,), become those where this refutation is about: within
        all that it uses, and beyond its own end, if it has one."""
        others = self.of[number]
        low, high = others[~self.upper[others]], others[self.upper[others]]
        np.maximum.at(lower, self.neuron[low], self.end[low])
        np.minimum.at(upper, self.neuron[high], self.end[high])
        at, end = self.neuron[number], self.end[number]
        if at >= 0 and self.upper[number]:
            lower[at] = max(lower[at], end)
        elif at >= 0:
            upper[at] = min(upper[at], end)


def uses_of(
    file: ProofFile, ends: np.ndarray, literals: Sequence[np.ndarray], neurons: int
) -> Uses:
    """ends: of each disjunct, where its refutations begin and end. literals: of each refutation.

    Raises Rejected where tensors do not fit together.
    """
    total = len(literals)
    nothing = np.zeros(0, dtype=np.int64)
    if "refutation.bound" not in file.arrays:
        none = np.full(total, -1)
        return Uses(none, np.zeros(total, dtype=bool), np.zeros(total), [nothing] * total)
    bound = file.list("refutation.bound", total)
    is_bound = bound > 0
    neuron = np.where(is_bound, (bound - 1) // 2, -1)
    upper = is_bound & (bound % 2 == 0)
    if (neuron >= neurons).any():
        raise Rejected("a bound is of a neuron that the network does not have")
    end = np.zeros(total)
    end[is_bound] = file.list("refutation.end", int(is_bound.sum()))
    if (np.where(upper, -end, end) > 0).any():
        raise Rejected("a bound has an end on the other side of 0")
    counts = file.counts("refutation.uses", total)
    used = file.list("use.refutation", int(counts[-1]))
    user = np.repeat(np.arange(total), np.diff(counts))
    first = np.repeat(ends[:-1], np.diff(ends))[user]
    if (used >= user - first).any():
        raise Rejected("a refutation uses one that does not come before it in its disjunct")
    used = used + first
    if not is_bound[used].all():
        raise Rejected("a refutation uses one that is no bound")
    own = [frozenset(each.tolist()) for each in literals]
    for one, other in zip(user.tolist(), used.tolist(), strict=True):
        if not own[other] <= own[one]:
            raise Rejected("a refutation uses a bound with phases that it does not have itself")
    return Uses(neuron, upper, end, np.split(used, counts[1:-1]) if total else [])


def require_leaves_refute(forest: Forest, ends: np.ndarray, uses: Uses) -> None:
    """Raises Rejected where a leaf names a bound, which leaves inputs."""
    leaf = np.flatnonzero(forest.kind == MULTIPLIERS)
    number = ends[forest.disjunct[leaf]] + forest.which[leaf]
    known = number < ends[forest.disjunct[leaf] + 1]
    if (uses.neuron[number[known]] >= 0).any():
        raise Rejected("a leaf names a bound, which refutes nothing by itself")
