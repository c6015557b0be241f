"""Vertices of the duals of many LPs, and the ones where a search begins.

d(ν), the dual of the condensed LP (`bounds.solvers.interior_point.simplices`), is a constant, a
linear term and, for every simplex, the least of its vertices' costs: concave, with a kink where two
vertices cost the same, which is called a tie here. A vertex of d has n independent ties, and M
(n × n) are their columns: differences of the columns of their two vertices. With c the differences
of their objective, Mᵀ ν = −c.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from bounds.solvers.interior_point.simplices import Simplices
from bounds.solvers.interior_point.triangle_lp import TriangleLP

#: How often the branches of neurons are looked at, and the vertices corrected.
CORRECTIONS = 2


@dataclass(eq=False)
class Vertices:
    """R LPs, each at a vertex of its dual.

    at: (R,), flat indices of (B, S). images, places: (R,), of which input, and the how manieth of
    its LPs. c: of far, (R, d + n). nu: (R, n). costs: of all columns at ν, (R, d + 3 n). tied:
    (R, n), columns. inverse: M⁻¹, (R, n, n). bound: (R,), of ⟨c, ·⟩. pivots: (R,).
    """

    at: Tensor
    images: Tensor
    places: Tensor
    c: Tensor
    nu: Tensor
    costs: Tensor
    tied: Tensor
    inverse: Tensor
    bound: Tensor
    pivots: Tensor

    def take(self, some: Tensor) -> Self:
        taken = type(self)(*(getattr(self, field.name)[some] for field in fields(self)))
        taken.places = _places(taken.images)
        return taken


class Columns:
    """far–zero of every simplex (d + n), low–zero (n) and far–low (n) of every neuron."""

    def __init__(self, simplices: Simplices) -> None:
        self.simplices, self.n, self.d = simplices, simplices.n, simplices.d
        n, d = self.n, self.d
        self.far, self.low, self.far_low = (slice(d + k * n, d + (k + 1) * n) for k in range(3))
        self.e = simplices.lp.e
        self.depth, self.height = simplices.depth.squeeze(1), simplices.upper.squeeze(1)
        depth, of_z = torch.diag_embed(self.depth), simplices.K[:, :, d:]
        self.numbers = torch.cat((simplices.K, depth, of_z - depth), 2)
        self.transposed = self.numbers.mT.contiguous()
        # A vertex that is the same as zero, as of a neuron that is kept on a side, is left out.
        self.missing = torch.stack((0 * self.depth, self.height, self.depth), 2) <= 0
        self.missing[:, :, 0] = False

    def kind(self, column: Tensor) -> Tensor:
        """0, 1 and 2: far–zero, low–zero and far–low, of a neuron."""
        return torch.div((column - self.d).clamp(min=0), self.n, rounding_mode="floor")

    def neuron(self, column: Tensor) -> Tensor:
        """Of a neuron's column; of an input's, 0."""
        return (column - self.d).clamp(min=0) % self.n

    def first(
        self, at: Tensor, images: Tensor, c: Tensor, nu: Tensor, kind: Tensor, bound: Tensor
    ) -> Vertices:
        """The vertices of the `first_ties`, where M is triangular."""
        n, lp = self.n, self.simplices.lp
        height, depth, places = self.height[images], self.depth[images], _places(images)
        tied = torch.arange(self.d, self.d + n, device=c.device) + n * kind
        own = torch.where(kind == 1, depth, -height - depth * (kind == 2))
        inverse, through = torch.diag_embed(1 / own), height.masked_fill(kind == 1, 0.0)
        for start, stop in _blocks(lp)[1:]:
            below = lp.L[images, start:stop, :start] * through[:, None, :start]
            rows = torch.bmm(below, inverse[:, :start, :start])
            inverse[:, start:stop, :start] = rows / -own[:, start:stop].unsqueeze(2)
        costs = self.objective(c) + self.times(nu, self.numbers, images, places)
        return Vertices(
            at, images, places, c, nu, costs, tied, inverse, bound, torch.zeros_like(at)
        )

    def objective(self, c: Tensor) -> Tensor:
        of_z = c[:, self.far]
        return torch.cat((c, torch.zeros_like(of_z), of_z), 1)

    def times(self, rows: Tensor, matrices: Tensor, images: Tensor, places: Tensor) -> Tensor:
        """Each of the rows (R, ·) by the matrix of its input."""
        if len(matrices) == 1:
            return rows @ matrices[0]
        first, last = int(images[0]), int(images[-1])
        padded = rows.new_zeros(last - first + 1, int(places.max()) + 1, rows.shape[1])
        padded[images - first, places] = rows
        return torch.bmm(padded, matrices[first : last + 1])[images - first, places]


def first_ties(simplices: Simplices) -> tuple[Tensor, Tensor]:
    """ν and the kind of each neuron's one tie, (B, S, n), at the vertices that the coefficients ĉ
    suggest: ν on the upper face (far–low, 2), or at the slope 1 or 0 (far–zero, 0, or low–zero, 1).

    Where ĉ ≥ 0 the slope is that of the branch on which the neuron lies at the point that the
    vertex before suggests, and at first that of its further end. Neurons that a row does not see
    are feasible with that; twice, as once goes too far in deep networks.
    """
    low = simplices.upper <= simplices.depth
    nu, kind = _from_above(simplices, low)
    for _ in range(CORRECTIONS):
        b = on_far(simplices, nu).to(nu)
        on_face = torch.where(kind == 2, torch.inf, 0.0).to(nu)
        z, _ = simplices.push_forward(b, on_face)
        pre = simplices.e + b @ simplices.A_T + z @ simplices.lp.L.mT
        nu, kind = _from_above(simplices, pre < 0)
    return nu, kind


def on_far(simplices: Simplices, nu: Tensor) -> Tensor:
    """Whether each input lies at 1 where ν has it, (B, S, d)."""
    d = simplices.d
    return torch.baddbmm(simplices.far_cost[..., :d], nu, simplices.K[..., :d]) < 0


def _from_above(simplices: Simplices, low: Tensor) -> tuple[Tensor, Tensor]:
    """The same, layer by layer from above, given at which neurons the slope is 0 where ĉ ≥ 0."""
    lp, height, depth = simplices.lp, simplices.upper, simplices.depth
    coefficients = simplices.far_cost[..., simplices.d :].clone()
    nu = torch.zeros_like(coefficients)
    kind = torch.where((height > 0) & ((depth <= 0) | ~low), 0, 1).expand_as(nu).clone()
    for start, stop in reversed(_blocks(lp)):
        own, layer = coefficients[..., start:stop], slice(start, stop)
        up, down = height[..., layer], depth[..., layer]
        kind[..., layer].masked_fill_((own < 0) & (up > 0) & (down > 0), 2)
        own_kind = kind[..., layer]
        nu[..., layer] = torch.where(
            own_kind == 1, 0.0, own / torch.where(own_kind == 2, up + down, up)
        )
        if start:
            above = nu[..., layer] @ lp.L[:, layer, :start]
            coefficients[..., :start].addcmul_(above, height[..., :start])
    return nu, kind


def _blocks(lp: TriangleLP) -> list[tuple[int, int]]:
    """Where each layer's neurons begin and end, a budget's among them."""
    return list(pairwise([0, *lp.layers] if lp.layers[0] else lp.layers))


def _places(images: Tensor) -> Tensor:
    """The how manieth of its image each is, of ascending images."""
    count = torch.arange(len(images), device=images.device)
    begins = torch.cat((count[:1] == 0, images[1:] != images[:-1]))
    return count - torch.where(begins, count, 0).cummax(0).values
