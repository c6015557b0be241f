"""Many small LPs at once, from vertex to vertex of their duals.

At a vertex of d (`bounds.solvers.simplex.vertices`) let the simplices without a tie lie on their
cheapest vertices. The definitions then ask for the weights w = −M⁻¹ r of the ties, r being what is
left of the definitions. If all weights are between 0 and 1, ν is optimal, and they are the point.
If one is not, d rises along the edge on which that tie alone opens, as long as its slope, which
every kink on the way lowers, is positive. The kink where it ends is the new tie: a step of the dual
simplex method with bounded variables.

An edge leads over many kinks, and the search begins where every neuron has the tie that its own
coefficient suggests, of which few have to change: a twentieth as many as there are neurons. The LPs
take their steps together.

Ties of a neuron are far–zero, low–zero or far–low; where it has two, all three vertices cost the
same, and the ties are the first two. Where the third vertex costs less than those of a single tie,
the simplex lies on the third, and the tie's weight has to be 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from bounds.deadline import Deadline
from bounds.solvers.interior_point.simplices import Simplices
from bounds.solvers.simplex.vertices import Columns, Vertices, first_ties

#: By how much weights may leave [0, 1].
WEIGHT = 1e-9
#: What is no change of a cost along an edge, and no difference between costs.
KINK = 1e-11
#: A pivot too small to divide by.
PIVOT = 1e-9
#: Kinks of an edge that are put in order at first; all of them where it leads over these.
KINKS = 48
#: Numbers of the LPs that step together: what stays in a processor's cache.
TOGETHER = 2**20


@dataclass(eq=False)
class _Neurons:
    """How the neurons of R LPs stand, (R, n, ·): costs of their vertices zero, far and low; which
    of their three ties they have; which vertex they lie on, where a tie's weight is 0; whether that
    is the third of a single tie."""

    costs: Tensor
    ties: Tensor
    base: Tensor
    third: Tensor

    def take(self, some: Tensor) -> Self:
        return type(self)(*(getattr(self, field.name)[some] for field in fields(self)))


class Edges:
    """The duals of the LPs of `simplices`."""

    def __init__(self, simplices: Simplices) -> None:
        self.simplices, self.columns = simplices, Columns(simplices)

    def ascend(
        self, running: Tensor, bound: Tensor, limit: int, deadline: Deadline
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """ν (B, S, n), b (B, S, d) and z (B, S, n) where the LPs that run have ended, and their
        pivots (B, S); NaN and none for the others, and for LPs that the arithmetic is too coarse
        for.

        bound: (B, S), of ⟨c, ·⟩: LPs whose optimum is above end there. limit: of pivots.
        """
        simplices, columns, shape = self.simplices, self.columns, running.shape
        n, d, c = columns.n, columns.d, simplices.far_cost
        size = c.abs().amax(2, keepdim=True)
        size = torch.where(size > 0, size, 1.0)
        found = c.new_full((running.numel(), d + 2 * n), torch.nan)
        pivots = torch.zeros(running.numel(), dtype=torch.long, device=c.device)
        # Without any vertex but zero a neuron has no tie to begin with.
        begins = running & ~columns.missing[:, :, 1:].all(2).any(1, keepdim=True)
        chosen = begins.flatten().nonzero().squeeze(1)
        nu, kind = first_ties(simplices)
        begin = tuple(each.flatten(0, 1) for each in (c / size, nu / size, kind))
        bound = (bound / size.squeeze(2)).flatten()
        for at in chosen.split(max(1, TOGETHER // (d + 3 * n + n**2))):
            if len(at) == 0 or deadline.passed:
                break
            own_c, own_nu, own_kind = (each[at] for each in begin)
            work = columns.first(at, at // shape[1], own_c, own_nu, own_kind, bound[at])
            while len(work.at):
                ended, reached, work = self._step(work, limit, deadline.passed)
                found[ended.at], pivots[ended.at] = reached, ended.pivots
        nu, b, z = found.unflatten(0, shape).split([n, d, n], 2)
        # Where the search ends early, weights may lie outside [0, 1].
        return nu * size, b.clamp(0, 1), z * simplices.upper, pivots.view(shape)

    def _step(self, work: Vertices, limit: int, late: bool) -> tuple[Vertices, Tensor, Vertices]:
        """The LPs that end here, what is found of them, and the others, a step on."""
        columns, images, places = self.columns, work.images, work.places
        work.costs.scatter_(1, work.tied, 0.0)
        neurons = self._neurons(work)
        on_far = torch.cat((work.costs[:, : columns.d] < 0, neurons.base == 1), 1)
        on_far = on_far.to(work.nu)
        rest = columns.times(on_far, columns.transposed[:, : columns.low.start], images, places)
        rest.add_(columns.e[images])
        rest.addcmul_((neurons.base == 2).to(rest), columns.depth[images])
        weights = torch.bmm(work.inverse, rest.unsqueeze(2)).squeeze(2).neg_()
        off, rises, of_zero = self._off(work, neurons, weights)
        best, leaving = (off.square() / work.inverse.square().sum(2)).max(1, keepdim=True)
        # Not where it is NaN.
        goes_on = (best.squeeze(1) > 0) & (work.pivots < limit) & (not late)
        if bool((work.bound < math.inf).any()):
            goes_on &= self._value(work, neurons) <= work.bound
        ended, others = (~goes_on).nonzero().squeeze(1), goes_on.nonzero().squeeze(1)
        at_end = work.take(ended)
        reached = self._reached(at_end, on_far[ended], weights[ended])
        if len(ended):
            work, neurons = work.take(others), neurons.take(others)
        if len(others):
            slope, rises, of_zero = (x.gather(1, leaving)[others] for x in (off, rises, of_zero))
            sign = torch.where(rises, 1.0, -1.0).to(slope)
            leaving = leaving[others].squeeze(1)
            kept = self._pivot(work, neurons, leaving, slope, sign, of_zero.squeeze(1))
            work = work if len(kept) == len(others) else work.take(kept)
        return at_end, reached, work

    def _neurons(self, work: Vertices) -> _Neurons:
        columns = self.columns
        is_tied = torch.zeros_like(work.costs, dtype=torch.bool).scatter_(1, work.tied, True)
        ties = is_tied[:, columns.d :].unflatten(1, (3, columns.n)).mT
        far, low = work.costs[:, columns.far], work.costs[:, columns.low]
        low = torch.where(ties[..., 2], far, low)
        costs = torch.stack((torch.zeros_like(far), far, low), 2)
        costs.masked_fill_(columns.missing[work.images], math.inf)
        # The vertex that a tie leaves out, and the one that its weight goes from.
        out = torch.where(ties[..., 0], 2, torch.where(ties[..., 1], 1, 0))
        of_tie = torch.where(ties[..., 2], 2, 0)
        count = ties.sum(2)
        third = (count == 1) & (_pick(costs, out) < _pick(costs, of_tie) - KINK)
        base = torch.where(count == 0, costs.argmin(2), torch.where(third, out, of_tie))
        return _Neurons(costs, ties, base, third)

    def _off(
        self, work: Vertices, neurons: _Neurons, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """By how much the weight of each tie is not as it should be; whether the cost of its first
        vertex has to rise for that, else fall; and whether it is the weight of zero, of a neuron
        with two ties, which is told of its tie low–zero."""
        columns, of_neuron = self.columns, work.tied >= self.columns.d
        neuron = columns.neuron(work.tied)
        third = neurons.third.gather(1, neuron) & of_neuron
        two = (neurons.ties.sum(2) == 2).gather(1, neuron) & of_neuron
        spread = torch.zeros_like(work.costs).scatter_(1, work.tied, weights)
        excess = (spread[:, columns.far] + spread[:, columns.low] - 1).gather(1, neuron)
        is_low = two & (work.tied >= columns.low.start)
        over = torch.where(two, torch.where(is_low, excess, 0.0), weights - 1)
        over = torch.where(third, weights, over)
        falls = over > -weights
        off = (torch.maximum(-weights, over) - WEIGHT).clamp(min=0)
        return off, ~falls, is_low & falls

    def _value(self, work: Vertices, neurons: _Neurons) -> Tensor:
        """d(ν) without its constant."""
        of_inputs = work.costs[:, : self.columns.d].clamp(max=0).sum(1)
        of_neurons = neurons.costs.amin(2).sum(1)
        return (work.nu * self.columns.e[work.images]).sum(1) + of_inputs + of_neurons

    def _reached(self, work: Vertices, on_far: Tensor, weights: Tensor) -> Tensor:
        """ν, and the weights of far, (R, d + 2 n)."""
        columns, tied = self.columns, work.tied
        c = columns.objective(work.c).gather(1, tied)
        nu = -torch.bmm(c.unsqueeze(1), work.inverse).squeeze(1)
        column = torch.where(tied >= columns.far_low.start, tied - 2 * columns.n, tied)
        has_far = column < columns.low.start
        on_far = on_far.scatter_add(1, column * has_far, weights * has_far)
        return torch.cat((nu, on_far), 1)

    def _pivot(
        self,
        work: Vertices,
        neurons: _Neurons,
        leaving: Tensor,
        slope: Tensor,
        sign: Tensor,
        of_zero: Tensor,
    ) -> Tensor:
        """To the end of the edge on which the tie in this place of each LP opens. Which LPs have
        got there: others have no end, or a pivot that the arithmetic is too coarse for."""
        columns, n, d = self.columns, self.columns.n, self.columns.d
        rows = torch.arange(len(leaving), device=leaving.device)
        some = of_zero.nonzero().squeeze(1)
        if len(some):
            # Far–zero and low–zero become far–low and low–zero.
            place, low = leaving[some], work.tied[some, leaving[some]]
            other = (work.tied[some] == (low - n).unsqueeze(1)).to(torch.uint8).argmax(1)
            work.inverse[some, place] += work.inverse[some, other]
            work.tied[some, other] = low + n
            work.costs[some, low + n] = 0.0
            neurons.ties[some, low - columns.low.start, 0] = False
            neurons.ties[some, low - columns.low.start, 2] = True
        before = work.tied[rows, leaving]
        delta = work.inverse[rows, leaving] * sign
        rate = columns.times(delta, columns.numbers, work.images, work.places)
        rate.scatter_(1, work.tied, 0.0)
        rate[rows, before] = sign.squeeze(1)
        kinks, drops, ways = self._kinks(work, neurons, rate, before, sign.squeeze(1))
        entering, length, ends = _end_of_edge(kinks, drops, slope)

        neuron = columns.neuron(entering)
        way = ways[rows, neuron]
        later = (entering >= columns.low.start).to(torch.long).unsqueeze(1)
        start, stop = way.gather(1, later).squeeze(1), way.gather(1, later + 1).squeeze(1)
        # With a tie that the neuron has besides, all its vertices cost the same.
        neurons.ties[rows, columns.neuron(before), columns.kind(before)] &= before < d
        besides = neurons.ties[rows, neuron]
        kind = torch.where(besides.any(1), 1 - besides[:, 1].to(torch.long), start + stop - 1)
        column = torch.where(entering < d, entering, d + kind * n + neuron)
        change = torch.bmm(work.inverse, columns.transposed[work.images, column].unsqueeze(2))
        pivot = change[rows, leaving]
        row = delta * sign / pivot
        work.inverse[rows, leaving], change[rows, leaving] = row, 0.0
        work.inverse.baddbmm_(change, row.unsqueeze(1), alpha=-1)
        work.tied[rows, leaving] = column
        work.nu.addcmul_(length, delta)
        work.costs.addcmul_(length, rate)
        work.pivots += 1
        some = (besides[:, 2] & (entering >= d)).nonzero().squeeze(1)
        if len(some):
            # Far–low and low–zero become far–zero and low–zero.
            low = column[some]
            other = (work.tied[some] == (low + n).unsqueeze(1)).to(torch.uint8).argmax(1)
            work.inverse[some, leaving[some]] -= work.inverse[some, other]
            work.tied[some, other] = low - n
        return (ends & (pivot.squeeze(1).abs() > PIVOT)).nonzero().squeeze(1)

    def _kinks(
        self, work: Vertices, neurons: _Neurons, rate: Tensor, leaving: Tensor, sign: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """How far along an edge each simplex has its kinks, and what the slope falls by there,
        (R, d + 2 n): of inputs, and the first and the second one of neurons. The vertices that
        neurons lie on before, between and after these, (R, n, 3)."""
        columns, d = self.columns, self.columns.d
        inputs, slow = work.costs[:, :d], rate[:, :d]
        towards = torch.where(inputs < 0, slow, -slow)
        kink = torch.where(towards > KINK, inputs.abs() / towards, math.inf)
        # The tie that opens, of an input: it is no kink.
        some = (leaving < d).nonzero().squeeze(1)
        kink[some, leaving[some]] = math.inf
        # Of a neuron: its first vertex where that falls, else the other one.
        some = (leaving >= d).nonzero().squeeze(1)
        neuron, kind = columns.neuron(leaving[some]), columns.kind(leaving[some])
        falling = torch.where(kind == 1, 2, 1)
        opened = torch.where(sign[some] < 0, falling, torch.where(kind == 2, 2, 0))
        base = neurons.base.clone()
        base[some, neuron] = torch.where(neurons.third[some, neuron], base[some, neuron], opened)
        # Tied vertices have the same rates, whatever the arithmetic says.
        far, low, far_low = (rate[:, part] for part in (columns.far, columns.low, columns.far_low))
        of_far_low = neurons.ties[..., 2]
        low = torch.where(of_far_low & ~neurons.ties[..., 1], far - far_low, low)
        far = torch.where(of_far_low, low + far_low, far)
        rates = torch.stack((torch.zeros_like(far), far, low), 2)
        first, first_drop, middle = _next(neurons.costs, rates, base)
        second, second_drop, last = _next(neurons.costs, rates, middle)
        second = torch.where(first < math.inf, torch.maximum(first, second), math.inf)
        return (
            torch.cat((kink, first, second), 1),
            torch.cat((slow.abs(), first_drop, second_drop), 1),
            torch.stack((base, middle, last), 2),
        )


def _pick(values: Tensor, vertex: Tensor) -> Tensor:
    return values.gather(2, vertex.unsqueeze(2)).squeeze(2)


def _next(costs: Tensor, rates: Tensor, base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How far another vertex gets as cheap as this one, by how much less its cost rises, and which
    it is."""
    drops = _pick(rates, base).unsqueeze(2) - rates
    above = (costs - _pick(costs, base).unsqueeze(2)).clamp(min=0)
    kink, vertex = torch.where(drops > KINK, above / drops, math.inf).min(2)
    return kink, _pick(drops, vertex), vertex


def _end_of_edge(kinks: Tensor, drops: Tensor, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which kink (R,) leaves no slope, how far it is (R, 1), and whether there is one."""

    def end(near: Tensor, where: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = drops[rows].gather(1, where).cumsum(1) >= slope[rows] - KINK
        flat &= near < math.inf
        at = flat.to(torch.uint8).argmax(1, keepdim=True)
        return where.gather(1, at), near.gather(1, at), flat.any(1)

    every = torch.arange(len(kinks), device=kinks.device)
    nearest = kinks.topk(min(KINKS, kinks.shape[1]), dim=1, largest=False)
    entering, length, ends = end(*nearest, every)
    beyond = (~ends).nonzero().squeeze(1)
    if len(beyond):
        entering[beyond], length[beyond], ends[beyond] = end(*kinks[beyond].sort(1), beyond)
    return entering.squeeze(1), length, ends
