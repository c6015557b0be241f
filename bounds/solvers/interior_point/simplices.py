"""The condensed LP on a product of simplices: vertices, prices, exchanges and covariances.

Every variable is written by the weights of its vertices: b_j by those of {0, 1}, and (ẑ_i, z_i) by
those of (l, 0), (0, 0), (u, u). A vector over all vertices has length 2 d + 3 n, in blocks:

    zero (d + n)  of b = 0 and of (0, 0), which cost nothing,
    far  (d + n)  of b = 1 and of (u, u), where all that other neurons read comes from,
    low  (n)      of (l, 0).

With t the weights, [b; z] = height ∘ t_far for height = (1, u), and the definitions read

    e + K t_far − l ∘ t_low = 0,    K = (A | L − I) diag(height).
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

    pairs: of zero and far, (B, S, d + n). of_low: of low with zero and with far, (B, S, 2, n);
    deep: −l times that.
    V: the covariance of (b, z), (B, S, d + n), and V_13 and V_11 those of ẑ with z and with itself:
    sums of pairs, positive terms, no cancellation.
    """

    D: Tensor
    pairs: Tensor
    of_low: Tensor
    deep: Tensor
    V: Tensor
    V_13: Tensor
    V_11: Tensor


@dataclass(frozen=True, eq=False)
class _Layer:
    """What pushing a point through one layer's neurons needs: its place, the rows of L on what is
    below, transposed, and the face, slope · ẑ + shift."""

    place: slice
    below: Tensor
    slope: Tensor
    shift: Tensor


class Simplices:
    """Vertex algebra of one condensed LP; all vectors are (B, S, ·)."""

    def __init__(self, lp: TriangleLP, *, kept: bool | None = None) -> None:
        """kept: whether a neuron may be kept on a side, where that is known."""
        self.lp = lp
        self.n, self.d = lp.A.shape[1:]
        self.sizes = [self.d + self.n, self.d + self.n, self.n]
        self.vertices = sum(self.sizes)
        self.lower, self.upper = lp.lower.unsqueeze(1), lp.upper.unsqueeze(1)
        self.depth, self.e = -self.lower, lp.e.unsqueeze(1)
        ones = self.upper.new_ones(len(lp.e), 1, self.d)
        self.height = torch.cat((ones, self.upper), -1)
        K = lp.AL.clone()
        K[:, :, self.d :].diagonal(dim1=1, dim2=2).sub_(1)
        self.K = K.mul_(self.height)
        self.K_T, self.A_T = self.K.mT, lp.A.mT
        self.c = torch.cat((lp.c_b, lp.c_z), -1)
        self.far_cost, self.c_rows = self.c * self.height, self.c.flatten(0, 1).unsqueeze(1)
        self.c_0, self.c_0_size = lp.c_0.unsqueeze(-1), lp.c_0.abs().unsqueeze(-1)
        self.c_0_rows = lp.c_0.reshape(-1, 1, 1)
        self.e_column = lp.e.unsqueeze(2)
        self.e_size = self.e_column.abs()
        self.ones = torch.ones_like(self.height).mT
        # The covariances of a neuron in units of its pairs.
        self.height_2 = self.height**2
        self.upper_2, self.lower_2 = self.upper**2, self.lower**2
        self.cross = self.depth * self.upper
        self.low_far = self.lower_2 + self.cross
        self.layers = self._layers()
        at_zero = ((lp.lower == 0) | (lp.upper == 0)).unsqueeze(1)
        self.kept = at_zero if (bool(at_zero.any()) if kept is None else kept) else None

    def _layers(self) -> list[_Layer]:
        slope = self.upper / (self.upper - self.lower)
        shift, layers = self.depth * slope, []
        for start, end in zip(self.lp.layers, self.lp.layers[1:], strict=False):
            place, below = slice(start, end), self.lp.L[:, start:end, :start].mT
            layers.append(_Layer(place, below, slope[..., place], shift[..., place]))
        return layers

    def blocks(self, vector: Tensor) -> tuple[Tensor, ...]:
        """zero, far and low."""
        return torch.split(vector, self.sizes, dim=-1)

    def _beside(self, vector: Tensor) -> Tensor:
        """Beside low: zero and far of the neurons, (B, S, 2, n)."""
        both = vector[..., : 2 * self.sizes[0]].unflatten(-1, (2, self.sizes[0]))
        return both[..., self.d :]

    def costs(self, nu: Tensor) -> tuple[Tensor, Tensor]:
        """The costs of far and of low at ν: (c, (ĉ − ν) u) and −ν l."""
        return torch.baddbmm(self.far_cost, nu, self.K), nu * self.depth

    def minima(self, costs: tuple[Tensor, Tensor]) -> Tensor:
        """The smallest cost of each simplex; never positive, as zero costs nothing."""
        far, low = costs
        least = far.clamp(max=0)
        of_z = least[..., self.d :]
        torch.minimum(of_z, low, out=of_z)
        return least

    def point(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """b and z of the vertex weights t."""
        far = self.blocks(t)[1]
        return far[..., : self.d], far[..., self.d :] * self.upper

    def residual(self, t: Tensor) -> Tensor:
        """e + A b + L z − ẑ, which feasibility makes 0."""
        _, far, low = self.blocks(t)
        return self._defined(self.e, far, low)

    def _defined(self, rest: Tensor, far: Tensor, low: Tensor) -> Tensor:
        return torch.baddbmm(rest, far, self.K_T).addcmul_(low, self.depth)

    def metric(self, D: Tensor) -> Metric:
        zero, far, low = self.blocks(D)
        total = zero + far
        of_z = total[..., self.d :].add_(low)
        pairs = zero / total * far
        of_low = self._beside(D) * (low / of_z).unsqueeze(-2)
        with_zero, with_far = of_low.unbind(-2)
        V = pairs * self.height_2
        V_33 = V[..., self.d :]
        V_33.addcmul_(with_far, self.upper_2)
        V_13 = torch.addcmul(V_33, with_far, self.cross)
        V_11 = torch.addcmul(V_13, with_far, self.low_far).addcmul_(with_zero, self.lower_2)
        return Metric(D, pairs, of_low, of_low * self.depth.unsqueeze(-2), V, V_13, V_11)

    def exchanged(self, metric: Metric, pull: Tensor) -> tuple[Tensor, Tensor]:
        """What each pair of vertices gives each other where they are pulled by different amounts:
        zero to far, and the two others to low.

        It is written so because, were the mean subtracted instead, a heavy vertex would lose to
        rounding all that it gives its light neighbours.
        """
        zero, far, low = self.blocks(pull)
        to_low = low.unsqueeze(-2) - self._beside(pull)
        return (far - zero).mul_(metric.pairs), to_low.mul_(metric.of_low)

    def missing(self, rest: Tensor, to_far: Tensor, to_low: Tensor) -> Tensor:
        """What the definitions are off by where they were off by `rest`, after an exchange."""
        rest = self._defined(rest, to_far, to_low.sum(-2))
        return rest.baddbmm_(to_low[..., 1, :], self.K_T[:, self.d :], alpha=-1)

    def respond(self, metric: Metric, to_far: Tensor, to_low: Tensor, nu: Tensor) -> None:
        """Add to an exchange what it is when the multipliers rise by ν: away from what costs
        more."""
        far = torch.bmm(nu, self.K)
        to_far.addcmul_(metric.pairs, far, value=-1)
        to_low.addcmul_(metric.deep, nu.unsqueeze(-2), value=-1)
        to_low[..., 1, :].addcmul_(metric.of_low[..., 1, :], far[..., self.d :])

    def change(self, to_far: Tensor, to_low: Tensor, into: Tensor) -> Tensor:
        """The change of t by an exchange; every simplex keeps its sum."""
        torch.cat((-to_far, to_far, to_low.sum(-2)), -1, out=into)
        self._beside(into).sub_(to_low)
        return into

    def dual_value(self, costs: tuple[Tensor, Tensor], nu: Tensor) -> tuple[Tensor, Tensor]:
        """d(ν) from the vertex costs, and the sum of the magnitudes of its terms; both (B, S)."""
        least = self.minima(costs)
        value = torch.baddbmm(self.c_0, nu, self.e_column).baddbmm_(least, self.ones)
        sizes = torch.baddbmm(self.c_0_size, nu.abs(), self.e_size)
        return value.squeeze(-1), sizes.baddbmm_(least, self.ones, alpha=-1).squeeze(-1)

    def push_forward(self, b: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Each z clamped into its triangle, layer by layer above b; and the objective (B, S),
        infinite where the point leaves the side that a neuron is kept on."""
        pre = torch.baddbmm(self.e, b, self.A_T)
        x = torch.zeros_like(self.c) if self.lp.layers[0] else torch.empty_like(self.c)
        x[..., : self.d], z = b, x[..., self.d :]
        for layer in self.layers:
            own = pre[..., layer.place]
            if layer.place.start:
                own.baddbmm_(z[..., : layer.place.start], layer.below)
            face = torch.addcmul(layer.shift, layer.slope, own)
            torch.clamp(post[..., layer.place], own.clamp(min=0), face, out=z[..., layer.place])
        value = torch.baddbmm(self.c_0_rows, self.c_rows, x.flatten(0, 1).unsqueeze(2))
        value = value.view_as(self.lp.c_0)
        return z, value if self.kept is None else self._where_kept(pre, value, self.kept)

    def _where_kept(self, pre: Tensor, value: Tensor, kept: Tensor) -> Tensor:
        slack = FEASIBILITY * torch.finfo(pre.dtype).eps * (self.upper - self.lower)
        leaves = (pre < self.lower - slack) | (pre > self.upper + slack)
        leaves[..., : self.lp.layers[0]] = False  # a budget is none
        return value.masked_fill((leaves & kept).any(-1), torch.inf)
