"""Refutations of small dense networks that are bounds, or use them; by LPs, and checked by integer
programs. No code of the search or the checker computes anything here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from torch import nn

import bounds
from bounds.search.relu_tree import Bound, Neuron, Refutation
from tests.support.networks import Dice
from tests.support.proofs import unstable_neurons
from tests.support.referee import random_model, random_relaxation

#: By how much ends are weaker than the best that an LP proves.
SLACK = 1e-4
#: No multiplier is larger: where an LP has no point, its dual function has no maximum.
LARGEST = 1e5
Phases = dict[Neuron, int]
Ends = list[np.ndarray]


@dataclass
class Dense:
    """A relaxation of one input of a dense network, and its matrices."""

    relaxation: bounds.Relaxation
    layers: list[tuple[np.ndarray, np.ndarray]]
    C: np.ndarray = field(init=False)
    d: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.C, self.d = self.relaxation.C[0].numpy(), self.relaxation.d[0].numpy()
        box = self.relaxation.input_set
        self.box = box.lower[0].numpy(), box.upper[0].numpy()
        self.root = [
            [each.lower[0].numpy(), each.upper[0].numpy()] for each in self.relaxation.relu_bounds
        ]

    def lifted(self, by: float) -> Dense:
        """With every row higher by this."""
        return replace(self, relaxation=replace(self.relaxation, d=self.relaxation.d + by))

    def left(
        self, phases: Phases, used: Sequence[Bound], beyond: Bound | None = None
    ) -> list[Ends]:
        """l and u of each ReLU under phases and bounds, and beyond the end of one."""
        ends = [[each.copy() for each in pair] for pair in self.root]
        for (k, i), side in phases.items():
            tighten(ends[k], i, side, 0.0)
        for one in used:
            tighten(ends[one.neuron[0]], one.neuron[1], one.side, one.end)
        if beyond is not None:
            tighten(ends[beyond.neuron[0]], beyond.neuron[1], -beyond.side, beyond.end)
        return ends

    def value(self, ends: list[Ends], weights: np.ndarray, nu: Sequence[np.ndarray]) -> float:
        """The dual function, by its formula."""
        c, total = weights @ self.C, float(weights @ self.d)
        for k in reversed(range(len(self.layers))):
            total += float(c @ self.layers[k][1])
            c = c @ self.layers[k][0]
            if k:
                (root_l, root_u), (l, u) = self.root[k - 1], ends[k - 1]
                own = np.where((root_l < 0) & (root_u > 0), nu[k - 1], c * (root_l >= 0))
                at = [c * np.maximum(end, 0) - own * end for end in (l, u)]
                least = np.minimum(*at)
                least = np.where((l < 0) & (u > 0), np.minimum(least, 0), least)
                total += float(np.where((root_l < 0) & (root_u > 0), least, 0).sum())
                c = own
        return total + float(np.minimum(c * self.box[0], c * self.box[1]).sum())

    def refutation(
        self,
        phases: Phases,
        earlier: Sequence[Refutation] = (),
        bound: Bound | None = None,
    ) -> tuple[Refutation, float]:
        """With the best multipliers, where it uses each of the earlier bounds that it may; and the
        value of its LP."""
        uses = usable(phases, earlier)
        lp = Program(self, self.left(phases, [bound_of(earlier[u]) for u in uses], bound))
        weights, nu, value = lp.multipliers()
        tensors = tuple(torch.from_numpy(each) for each in nu)
        return Refutation(phases, torch.from_numpy(weights), tensors, uses, bound), value

    def bound(
        self, phases: Phases, neuron: Neuron, side: int, earlier: Sequence[Refutation]
    ) -> Refutation | None:
        """A bound a little looser than the best; None where that says nothing."""
        uses = usable(phases, earlier)
        ends = self.left(phases, [bound_of(earlier[u]) for u in uses])
        least = Program(self, ends).least(neuron, side)
        end = side * min(0.0, (least if least is not None else 0.0) - SLACK)
        if side * end <= side * ends[neuron[0]][0 if side > 0 else 1][neuron[1]] + SLACK:
            return None
        return self.refutation(phases, earlier, Bound(neuron, side, end))[0]

    def truth(self, phases: Phases, neuron: Neuron, side: int) -> float:
        """The least side · ẑ of the network itself, where the phases hold and rows are at most 0;
        infinite where that is nowhere."""
        least = Program(self, self.left(phases, [])).least(neuron, side, integer=True)
        return np.inf if least is None else least


class Program:
    """The LP within l and u: the inputs, a weight for each vertex of an unstable neuron, and s, the
    largest of the rows."""

    def __init__(self, dense: Dense, ends: list[Ends]) -> None:
        self._dense, self._ends = dense, ends
        count = len(dense.box[0])
        places: list[list[list[int]]] = []
        low, high = list(dense.box[0]), list(dense.box[1])
        for l, u in dense.root:
            places.append([])
            for i in range(len(l)):
                inside = l[i] < 0 < u[i]
                places[-1].append(list(range(count, count + 3)) if inside else [])
                count += 3 if inside else 0
        low += [0.0] * (count - len(low)) + [-np.inf]
        high += [1.0] * (count - len(high)) + [np.inf]
        self.low, self.high, self._places = np.array(low), np.array(high), places
        self.count = count + 1
        self.equal: list[tuple[np.ndarray, float]] = []
        self.of: dict[Neuron, int] = {}
        self.pre: dict[Neuron, tuple[np.ndarray, float]] = {}
        z = np.eye(count + 1)[: len(dense.box[0])], np.zeros(len(dense.box[0]))
        for k, (weight, bias) in enumerate(dense.layers):
            pre = weight @ z[0], weight @ z[1] + bias
            if k < len(dense.root):
                z = self._relu(k, pre)
        self.rows = dense.C @ pre[0], dense.C @ pre[1] + dense.d

    def _relu(self, k: int, pre: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        active = self._dense.root[k][0] >= 0
        z = pre[0] * active[:, None], pre[1] * active
        for i, place in enumerate(self._places[k]):
            self.pre[k, i] = pre[0][i], pre[1][i]
            if place:
                l, u = (end[i] for end in self._ends[k])
                vertices = np.zeros((2, self.count))
                vertices[0, place] = l, 0, u
                vertices[1, place] = max(l, 0), 0, max(u, 0)
                one = np.zeros(self.count)
                one[place] = 1
                if not l < 0 < u:
                    self.high[place[1]] = 0
                if l > u:
                    self.high[place] = 0
                self.of[k, i] = len(self.equal)
                self.equal += [(vertices[0] - pre[0][i], pre[1][i]), (one, 1.0)]
                z[0][i], z[1][i] = vertices[1], 0
        return z

    def multipliers(self) -> tuple[np.ndarray, list[np.ndarray], float]:
        """λ, ν and the largest value of the dual function."""
        cost, under = np.zeros(self.count), self.rows[0].copy()
        cost[-1], under[:, -1] = 1, -1
        nu = [np.zeros(len(l)) for l, _ in self._dense.root]
        weights = np.eye(len(self.rows[1]))[0]
        rows = np.zeros((len(self.equal), self.count))
        offsets, price = np.zeros(len(rows)), np.zeros(len(rows))
        for at, (row, offset) in enumerate(self.equal):
            rows[at], offsets[at] = row, offset
            price[at] = LARGEST * (at in self.of.values())
        off = np.diag(price > 0).astype(float)
        ends = np.stack((self.low, self.high), 1)
        found = linprog(
            np.concatenate((cost, price, price)),
            np.pad(under, ((0, 0), (0, 2 * len(rows)))),
            -self.rows[1],
            np.concatenate((rows, off, -off), 1) if len(rows) else None,
            offsets if len(rows) else None,
            np.concatenate((ends, np.tile([0.0, np.inf], (2 * len(rows), 1)))),
            method="highs-ds",
        )
        if found.status != 0:
            return weights, nu, np.inf
        for (k, i), at in self.of.items():
            nu[k][i] = found.eqlin.marginals[at]
        weights = np.maximum(-found.ineqlin.marginals, 0)
        return weights, nu, float(found.fun)

    def least(self, neuron: Neuron, side: int, *, integer: bool = False) -> float | None:
        """Of side · ẑ where the rows are at most 0; integer: in the network itself."""
        cost, offset = self.pre[neuron]
        limits = [LinearConstraint(self.rows[0], -np.inf, -self.rows[1])]
        A = np.array([row for row, _ in self.equal])
        b = np.array([offset for _, offset in self.equal])
        limits += [LinearConstraint(A, b, b)] if len(A) else []
        low, high, whole = self.low, self.high, np.zeros(self.count)
        low, high = low.copy(), high.copy()
        low[-1] = high[-1] = 0
        kinds = [place for layer in self._places for place in layer if place]
        if integer:
            # A binary for each unstable neuron: which of its two segments it is on.
            extra = len(kinds)
            segments = np.zeros((2 * extra, self.count + extra))
            for n, (first, _, last) in enumerate(kinds):
                segments[2 * n, [first, self.count + n]] = 1
                segments[2 * n + 1, [last, self.count + n]] = 1, -1
            most = np.tile([1.0, 0.0], extra)
            limits = [
                LinearConstraint(np.pad(each.A, ((0, 0), (0, extra))), each.lb, each.ub)
                for each in limits
            ] + ([LinearConstraint(segments, -np.inf, most)] if extra else [])
            low, high = np.pad(low, (0, extra)), np.append(high, np.ones(extra))
            whole, cost = np.append(whole, np.ones(extra)), np.pad(cost, (0, extra))
        found = milp(side * cost, constraints=limits, bounds=Bounds(low, high), integrality=whole)
        return None if found.status == 2 else float(found.fun + side * offset)


def bound_of(one: Refutation) -> Bound:
    assert one.bound is not None
    return one.bound


def tighten(ends: Ends, i: int, side: int, end: float) -> None:
    at = 0 if side > 0 else 1
    ends[at][i] = max(ends[0][i], end) if side > 0 else min(ends[1][i], end)


def usable(phases: Phases, earlier: Sequence[Refutation]) -> tuple[int, ...]:
    return tuple(
        number
        for number, one in enumerate(earlier)
        if one.bound is not None and one.phases.items() <= phases.items()
    )


def dense(*widths: int, seed: int, radius: float = 0.5, scale: float = 1.0) -> Dense:
    model = random_model(*widths, seed=seed, scale=scale)
    layers = [
        (each.weight.detach().numpy(), each.bias.detach().numpy())
        for each in model
        if isinstance(each, nn.Linear)
    ]
    return Dense(random_relaxation(*widths, seed=seed, batch=1, radius=radius, scale=scale), layers)


def chain(
    problem: Dense, phases: Phases, rounds: int, dice: Dice, known: Sequence[Refutation] = ()
) -> list[Refutation]:
    """Bounds of all unstable neurons, one after another, each by what is known by then; of some
    without any of the phases. known: what comes before these."""
    every = list(known)
    for _ in range(rounds):
        for neuron in unstable_neurons(problem.relaxation):
            for side in (1, -1):
                own = phases if int(dice.below(3, 1)) else {}
                one = problem.bound(own, neuron, side, every)
                every += [] if one is None else [one]
    return every[len(known) :]
