"""What is known of ẑ on a part of a search besides phases: tighter l and u, and what proves them.

A lemma says that an unstable neuron's ẑ is on one side of an end wherever some phases are held and
all rows of the disjunct are at most 0. It uses earlier lemmas, whose phases are then among its own;
so it holds on the whole set, and what refutes a node by it needs no more than phases. Most lemmas
are never needed. So they are only numbers until something is closed by them: then `reasons` goes
back from there, and looks which phases and lemmas each of those that are needed cannot do without.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bounds.network.affine import Convert
from bounds.search.relu_split.bounding import Evidence, Phases


@dataclass(frozen=True)
class End:
    """side 1: ẑ of the neuron is at least `at`, which is at most 0; −1: at most, at least 0."""

    neuron: int
    side: int
    at: float


@dataclass(frozen=True, eq=False)
class Lemma:
    """phases: that it needs, with those of the lemmas that it uses, which are given by numbers.
    end: what it says; None where it says that no input of the disjunct has the phases."""

    phases: Mapping[int, int]
    evidence: Evidence
    uses: tuple[int, ...] = ()
    end: End | None = None


@dataclass(frozen=True, eq=False)
class Region:
    """lower, upper: l and u of the unstable neurons, (n,), in float32 or more. numbers: of the
    lemmas that these 2 · n ends are known by, −1 where the root says so, (2, n). found: the last
    that were found, where there are any."""

    lower: Tensor
    upper: Tensor
    numbers: np.ndarray
    found: Findings | None = None

    @staticmethod
    def of(lower: Tensor, upper: Tensor) -> Region:
        """Where nothing is known but what the root says."""
        return Region(lower, upper, np.full((2, len(lower)), -1, dtype=np.int64))

    def convert(self, convert: Convert) -> Region:
        return Region(convert(self.lower), convert(self.upper), self.numbers, self.found)

    @cached_property
    def side(self) -> Tensor:
        """1 where l is 0, −1 where u is, else 0; (n,)."""
        kept = torch.where(self.upper <= 0, -1.0, 0.0).to(self.lower)
        return torch.where(self.lower >= 0, 1.0, kept)


@dataclass(frozen=True, eq=False)
class Findings:
    """What one iteration has found on a node, k rows: lemmas, or a refutation.

    first: the number of the first. region: what was known before. phases: of the node. weights: λ
    (k, R). nu, arriving: ν and ĉ, (k, n). neuron, side, at: of the ends, (k,), with side 0 for a
    refutation. shift: what of the neuron's own ν is no part of the value, (k,). spare: how much
    less than its value is enough, (k,).
    """

    first: int
    region: Region
    phases: Phases
    weights: Tensor
    nu: Tensor
    arriving: Tensor
    neuron: Tensor
    side: Tensor
    at: Tensor
    shift: Tensor
    spare: Tensor

    @cached_property
    def held(self) -> np.ndarray:
        """The phases, (n,)."""
        held = np.zeros(len(self.region.lower), dtype=np.int8)
        held[list(self.phases)] = list(self.phases.values())
        return held

    def narrowed(self) -> Region:
        """What is known with these."""
        lower, upper, numbers = (
            self.region.lower.clone(), self.region.upper.clone(), self.region.numbers.copy()
        )  # fmt: skip
        for side, ends in ((1, lower), (-1, upper)):
            own = self.side == side
            ends[self.neuron[own]] = self.at[own]
        rows = np.arange(len(self.side))
        numbers[(self.side < 0).long().cpu().numpy(), self.neuron.cpu().numpy()] = self.first + rows
        return Region(lower, upper, numbers, self)

    def needed(self, rows: np.ndarray, root: Region) -> np.ndarray:
        """Which of the ends, by phases or lemmas, some of the rows cannot do without, (rows, 2, n),
        if the others are the root's."""
        at = torch.from_numpy(rows).to(self.nu.device)
        counted = self.nu[at]
        own = self.shift[at].nonzero().flatten()
        counted[own, self.neuron[at[own]]] -= self.shift[at[own]]
        costs, before = (
            torch.stack([-counted * r.lower, (self.arriving[at] - counted) * r.upper], 1)
            .cpu()
            .numpy()
            for r in (self.region, root)
        )
        # A phase takes the vertex on the other side of 0 away, as an end at 0 does.
        by_phase = np.stack([self.held > 0, self.held < 0])
        least = np.where(by_phase, 0.0, costs).min(1).clip(max=0.0)
        ends = ((self.region.numbers >= 0) | by_phase).ravel().nonzero()[0]
        lost = (least[:, None] - before).clip(min=0.0).reshape(len(rows), -1)[:, ends]
        order = lost.argsort(1, kind="stable")
        total = np.take_along_axis(lost, order, 1).cumsum(1, dtype=np.float64)
        spare = self.spare[at].double().cpu().numpy().clip(min=0.0)
        found = np.zeros((len(rows), by_phase.size), dtype=bool)
        np.put_along_axis(found, ends[order], total > spare[:, None], 1)
        return found.reshape(len(rows), *by_phase.shape)


@dataclass(frozen=True, eq=False)
class Reasons:
    """Some rows of what was found, and the ends that each needs, (rows, 2, n)."""

    findings: Findings
    rows: np.ndarray
    needed: np.ndarray

    @cached_property
    def numbers(self) -> list[int]:
        found: list[int] = (self.findings.first + self.rows).tolist()
        return found

    def lemmas(self, known: Mapping[int, Lemma]) -> dict[int, Lemma]:
        """By number. known: those that they use."""
        found, of = dict[int, Lemma](), self.findings
        numbers, phases = of.region.numbers, of.phases
        at = torch.from_numpy(self.rows).to(of.nu.device)
        weights, nu = of.weights[at].double().cpu().numpy(), of.nu[at].cpu().numpy()
        by_phase = self.needed & np.stack([of.held > 0, of.held < 0])
        ends = zip(*(each[at].tolist() for each in (of.neuron, of.side, of.at)), strict=True)
        nothing, seen = np.zeros((2, 0)), dict[frozenset[int], dict[int, int]]()
        for place, (neuron, side, end) in enumerate(ends):
            uses = numbers[self.needed[place] & (numbers >= 0)].tolist()
            held = set(by_phase[place].any(0).nonzero()[0].tolist())
            held.update(*(known[use].phases for use in uses))
            one = seen.setdefault(
                frozenset(held), {i: side for i, side in phases.items() if i in held}
            )
            evidence = Evidence(weights[place], nu[place], 0.0, nothing)
            said = End(neuron, int(side), end) if side else None
            found[self.numbers[place]] = Lemma(one, evidence, tuple(uses), said)
        return found


def reasons(
    last: Findings, wanted: Iterable[int], root: Region, known: Sequence[Container[int]] = ()
) -> list[Reasons]:
    """Of some that were found then or before, and of all that they use but what is known; what is
    used comes first."""

    def new(numbers: Iterable[int]) -> set[int]:
        return {number for number in numbers if not any(number in each for each in known)}

    left, found = new(wanted), list[Reasons]()
    of: Findings | None = last
    while of is not None and left:
        rows = np.array(sorted(n - of.first for n in left if n >= of.first), dtype=np.int64)
        if len(rows):
            needed, numbers = of.needed(rows, root), of.region.numbers
            used = numbers[needed.any(0) & (numbers >= 0)].tolist()
            left = {number for number in left | new(used) if number < of.first}
            found.append(Reasons(of, rows, needed))
        of = of.region.found
    return found[::-1]


def rows_held(regions: Iterable[Region]) -> int:
    """How many rows of what was found these are known by, each counted once."""
    seen, count = set[int](), 0
    for region in regions:
        of = region.found
        while of is not None and id(of) not in seen:
            seen.add(id(of))
            count += len(of.nu)
            of = of.region.found
    return count
