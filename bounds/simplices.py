"""The condensed LP on a product of simplices: vertices, prices, slacks and (co)variances.

Every variable is written by the weights of its vertices: b_j by those of {0, 1}, and (ẑ_i, z_i) by
those of (l, 0), (0, 0), (u, u). A vector over all vertices has length 2 d + 3 n, laid out as [b = 0
| b = 1 | (l,0) | (0,0) | (u,u)].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.condense import CondensedLP


@dataclass(frozen=True, eq=False)
class Covariances:
    """Of b (V_b) and of (ẑ, z) (V₁₁, V₁₃, V₃₃) under vertex weights D, not normalised: sums of
    positive terms.

    mean_b, mean_pre and mean_post are the D-weighted means of b, ẑ and z; total_b and total_z the
    sums of D.
    """

    V_b: Tensor
    V_11: Tensor
    V_13: Tensor
    V_33: Tensor
    mean_b: Tensor
    mean_pre: Tensor
    mean_post: Tensor
    total_b: Tensor
    total_z: Tensor


class Simplices:
    """Vertex algebra of one condensed LP; all vectors are (B, S, ·)."""

    def __init__(self, lp: CondensedLP) -> None:
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
        """Aᵀν and Lᵀν: what the multipliers ν of the definitions add to the prices of b and of
        z."""
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

    def covariances(self, D: Tensor) -> Covariances:
        D0, Db, D1, D2, D3 = self.blocks(D)
        total_b, total_z = D0 + Db, D1 + D2 + D3
        share1, share3, mean_b = D1 / total_z, D3 / total_z, Db / total_b
        D12, D13, D23 = share1 * D2, share1 * D3, share3 * D2
        lower, upper = self.lower, self.upper
        width = upper - lower
        return Covariances(
            V_b=D0 * mean_b,
            V_11=D12 * lower**2 + D13 * width**2 + D23 * upper**2,
            V_13=D23 * upper**2 + D13 * (upper * width),
            V_33=(D23 + D13) * upper**2,
            mean_b=mean_b,
            mean_pre=share1 * lower + share3 * upper,
            mean_post=share3 * upper,
            total_b=total_b,
            total_z=total_z,
        )

    def dual_value(self, costs: Tensor, nu: Tensor) -> tuple[Tensor, Tensor]:
        """d(ν) from the vertex costs, and the sum of the magnitudes of its terms; both (B, S)."""
        lp = self.lp
        of_b, of_z = self.minima(costs)
        terms = self.e * nu
        value = lp.c_0 + terms.sum(-1) + of_b.sum(-1) + of_z.sum(-1)
        # The minima over a simplex with a vertex of cost 0 are never positive.
        return value, lp.c_0.abs() + terms.abs().sum(-1) - of_b.sum(-1) - of_z.sum(-1)

    def push_forward(self, b: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """z clamped layer by layer into its triangle above b, and the objective (B, S) of that
        feasible point."""
        lp = self.lp
        base = self.e + b @ lp.A.mT
        z = torch.zeros_like(post)
        for start, end in zip(lp.layers, lp.layers[1:], strict=False):
            pre = base[..., start:end] + z[..., :start] @ lp.L[:, start:end, :start].mT
            lower, upper = self.lower[..., start:end], self.upper[..., start:end]
            face = upper / (upper - lower) * (pre - lower)
            z[..., start:end] = torch.maximum(
                torch.minimum(post[..., start:end], face), pre.clamp(min=0)
            )
        return z, lp.c_0 + (lp.c_b * b).sum(-1) + (lp.c_z * z).sum(-1)
