"""The condensed LP on a product of simplices: vertices, prices, exchanges and covariances.

Every variable is written by the weights of its vertices: b_j by those of {0, 1}, and (ẑ_i, z_i) by
those of (l, 0), (0, 0), (u, u). A vector over all vertices has length 2 d + 3 n: first those of
b = 0, then of b = 1, of (l, 0), of (0, 0), and of (u, u).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.dual.primal import FEASIBILITY
from bounds.solvers.interior_point.triangle_lp import TriangleLP


@dataclass(frozen=True, eq=False)
class Metric:
    """How weights move under vertex weights D: each pair of vertices exchanges D_v D_w / ΣD.

    share: D_v / ΣD, a number a vertex. z12, z13, z23: the pairs of a triangle. V_b: the only pair
    of an interval, and so the covariance of b. Those of (ẑ, z), V_11, V_13 and V_33, are sums of
    pairs: positive terms, no cancellation.
    """

    D: Tensor
    share: Tensor
    V_b: Tensor
    z12: Tensor
    z13: Tensor
    z23: Tensor
    V_11: Tensor
    V_13: Tensor
    V_33: Tensor


class Simplices:
    """Vertex algebra of one condensed LP; all vectors are (B, S, ·)."""

    def __init__(self, lp: TriangleLP) -> None:
        self.lp = lp
        self.n, self.d = lp.A.shape[1:]
        self.sizes = [self.d] * 2 + [self.n] * 3
        self.vertices = sum(self.sizes)
        self.lower, self.upper = lp.lower.unsqueeze(1), lp.upper.unsqueeze(1)
        self.e, self.zero = lp.e.unsqueeze(1), torch.zeros_like(lp.c_z)

    def blocks(self, vector: Tensor) -> tuple[Tensor, ...]:
        return torch.split(vector, self.sizes, dim=-1)

    def repeat(self, of_b: Tensor, of_z: Tensor) -> Tensor:
        """One number a simplex, repeated for each of its vertices."""
        return torch.cat((of_b, of_b, of_z, of_z, of_z), -1)

    def sums(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """The sum over the vertices of each simplex."""
        b0, b1, z1, z2, z3 = self.blocks(vector)
        return b0 + b1, z1 + z2 + z3

    def minima(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """The smallest entry of each simplex."""
        b0, b1, z1, z2, z3 = self.blocks(vector)
        return torch.minimum(b0, b1), torch.minimum(torch.minimum(z1, z2), z3)

    def price(self, nu: Tensor) -> tuple[Tensor, Tensor]:
        """Aᵀν and Lᵀν: what the definitions' multipliers ν add to the prices of b and of z."""
        return nu @ self.lp.A, nu @ self.lp.L

    def costs(self, price_b: Tensor, price_z: Tensor, nu: Tensor) -> Tensor:
        """The cost of each vertex: (0, c), and −ν l, 0, (ĉ − ν) u."""
        return torch.cat(
            (
                torch.zeros_like(price_b),
                price_b,
                -nu * self.lower,
                self.zero,
                (price_z - nu) * self.upper,
            ),
            -1,
        )

    def point(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """b, ẑ and z of the vertex weights t."""
        _, b, t1, _, t3 = self.blocks(t)
        z = t3 * self.upper
        return b, t1 * self.lower + z, z

    def residual(self, b: Tensor, pre: Tensor, post: Tensor) -> Tensor:
        """e + A b + L z − ẑ, which feasibility makes 0."""
        return self.e + b @ self.lp.A.mT + post @ self.lp.L.mT - pre

    def metric(self, D: Tensor) -> Metric:
        _, D_b, D_1, _, D_3 = self.blocks(D)
        share = D / self.repeat(*self.sums(D))
        share_0, _, _, share_2, share_3 = self.blocks(share)
        z12, z13, z23 = D_1 * share_2, D_1 * share_3, D_3 * share_2
        lower, upper = self.lower, self.upper
        width = upper - lower
        return Metric(
            D=D,
            share=share,
            V_b=D_b * share_0,
            z12=z12,
            z13=z13,
            z23=z23,
            V_11=z12 * lower**2 + z13 * width**2 + z23 * upper**2,
            V_13=z23 * upper**2 + z13 * (upper * width),
            V_33=(z23 + z13) * upper**2,
        )

    def rebalance(self, metric: Metric, r: Tensor) -> Tensor:
        """The change of t that r asks for, less what would change the sum of a simplex.

        It is written as what each pair of vertices exchanges: were the mean subtracted instead, a
        heavy vertex would lose to rounding all that it gives its light neighbours.
        """
        s0, s_b, s1, s2, s3 = self.blocks(metric.share)
        r0, r_b, r1, r2, r3 = self.blocks(r)
        return self._exchange(
            s0 * r_b - s_b * r0, s2 * r1 - s1 * r2, s3 * r1 - s1 * r3, s3 * r2 - s2 * r3
        )

    def respond(self, metric: Metric, nu: Tensor) -> Tensor:
        """The change of t when the multipliers rise by ν: away from the vertices that cost more."""
        price_b, price_z = self.price(nu)
        cost_1, cost_3 = -nu * self.lower, (price_z - nu) * self.upper
        return self._exchange(
            -metric.V_b * price_b,
            -metric.z12 * cost_1,
            metric.z13 * (cost_3 - cost_1),
            metric.z23 * cost_3,
        )

    def _exchange(self, b: Tensor, z12: Tensor, z13: Tensor, z23: Tensor) -> Tensor:
        """Weight given to b = 1 by b = 0, and to the first of each pair by the second."""
        return torch.cat((-b, b, z12 + z13, z23 - z12, -z13 - z23), -1)

    def dual_value(self, costs: Tensor, nu: Tensor) -> tuple[Tensor, Tensor]:
        """d(ν) from the vertex costs, and the sum of the magnitudes of its terms; both (B, S)."""
        lp = self.lp
        of_b, of_z = self.minima(costs)
        terms = self.e * nu
        value = lp.c_0 + terms.sum(-1) + of_b.sum(-1) + of_z.sum(-1)
        # The minima over a simplex with a vertex of cost 0 are never positive.
        return value, lp.c_0.abs() + terms.abs().sum(-1) - of_b.sum(-1) - of_z.sum(-1)

    def push_forward(self, b: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Each z clamped into its triangle, layer by layer above b; and the objective (B, S),
        infinite where the point leaves the side that a neuron is kept on."""
        lp, outside = self.lp, torch.zeros_like(self.lp.c_0, dtype=torch.bool)
        base = self.e + b @ lp.A.mT
        z = torch.zeros_like(post)
        for start, end in zip(lp.layers, lp.layers[1:], strict=False):
            pre = base[..., start:end] + z[..., :start] @ lp.L[:, start:end, :start].mT
            lower, upper = self.lower[..., start:end], self.upper[..., start:end]
            face = upper / (upper - lower) * (pre - lower)
            z[..., start:end] = torch.maximum(
                torch.minimum(post[..., start:end], face), pre.clamp(min=0)
            )
            kept = (lower == 0) | (upper == 0)
            slack = FEASIBILITY * torch.finfo(z.dtype).eps * (upper - lower)
            outside = outside | (kept & ((pre < lower - slack) | (pre > upper + slack))).any(-1)
        value = lp.c_0 + (lp.c_b * b).sum(-1) + (lp.c_z * z).sum(-1)
        return z, torch.where(outside, torch.inf, value)
