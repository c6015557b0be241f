"""The Newton system of the interior point: T dν = r, one n × n positive definite matrix an LP.

T = A V_b Aᵀ + V₁₁ − L V₁₃ − (L V₁₃)ᵀ + L V₃₃ Lᵀ
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.network.memory import Numbers
from bounds.solvers.interior_point.simplices import Metric, Simplices
from bounds.solvers.interior_point.sparsity import Panels
from bounds.solvers.interior_point.triangle_lp import TriangleLP

#: Numbers in the scaled panels of one product: what stays in a processor's cache, or fills a GPU.
CACHE = Numbers(cpu=2**18, device=2**28)
#: What is added to the unit diagonal, in turn, when the factorisation breaks down; refinement makes
#: up for it.
JITTERS = (0.0, 1e-14, 1e-11, 1e-8)


class NewtonSystem:
    """T of every live LP, scaled to unit diagonal and factored.

    live: which of the (B, S) LPs to factor; the solution of the others is 0. panels: of each
    input; None: all in one batch, for small LPs of one row each.
    """

    def __init__(
        self, lp: TriangleLP, panels: list[Panels] | None, V: Metric, live: Tensor
    ) -> None:
        self.lp, self.V, self.live = lp, V, live
        T = self._in_one() if panels is None else self._by_panels(panels)
        T.diagonal(dim1=2, dim2=3).add_(V.V_11)
        T = T.flatten(0, 1) if bool(live.all()) else T[live]
        self.scale = T.diagonal(dim1=1, dim2=2).rsqrt()
        T.mul_(self.scale.unsqueeze(1)).mul_(self.scale.unsqueeze(2))
        self.factor = _cholesky(T)

    def _in_one(self) -> Tensor:
        """T without its diagonal V₁₁; what stands above the diagonal is not meant."""
        lp, V = self.lp, self.V
        T = (lp.AL * torch.cat((V.V_b, V.V_33), -1)) @ lp.AL.mT
        # L is strictly lower triangular: Lᵀ stays above the diagonal.
        return (T - lp.L * V.V_13).unsqueeze(1)

    def _by_panels(self, panels: list[Panels]) -> Tensor:
        """The same, without the products that are 0, and few of those above the diagonal."""
        lp, V = self.lp, self.V
        n, d = lp.e.shape[1], lp.c_b.shape[2]
        weights = torch.cat((V.V_b, V.V_33), -1)
        T = weights.new_zeros(*weights.shape[:2], n, n)
        at_once = CACHE.on(T)
        for AL, own_panels, weight, V_13, into in zip(
            lp.AL, panels, weights, V.V_13, T, strict=True
        ):
            for panel in own_panels:
                left = slice(panel.first, panel.rows.stop)
                for span in panel.spans:
                    # All LPs of an input share A and L: one product serves as many as fit.
                    own, below = AL[panel.rows, span], AL[left, span].mT
                    for some in _slices(len(weight), max(1, at_once // own.numel())):
                        rows = into[some, panel.rows]
                        rows[:, :, left] += (own * weight[some, None, span]) @ below
                        if span.start >= d:
                            on_z = slice(span.start - d, span.stop - d)
                            rows[:, :, on_z] -= own * V_13[some, None, on_z]
        return T

    def solve(self, r: Tensor, *, refine: bool) -> Tensor:
        """T⁻¹ r for r (B, S, n), with one step of iterative refinement on request."""
        x = self._back_substitute(r)
        return x + self._back_substitute(r - self._apply(x)) if refine else x

    def _back_substitute(self, r: Tensor) -> Tensor:
        scaled = (r[self.live] * self.scale).unsqueeze(-1)
        # torch.cholesky_solve copies the factor at every call; two triangular solves do not.
        half = torch.linalg.solve_triangular(self.factor, scaled, upper=False)
        solved = torch.linalg.solve_triangular(self.factor.mT, half, upper=True)
        x = torch.zeros_like(r)
        x[self.live] = solved.squeeze(-1) * self.scale
        return x

    def _apply(self, v: Tensor) -> Tensor:
        """T v, without T."""
        lp, V = self.lp, self.V
        on_b, on_z = v @ lp.A, v @ lp.L
        return (
            (V.V_b * on_b) @ lp.A.mT
            + V.V_11 * v
            - V.V_13 * on_z
            + (V.V_33 * on_z - V.V_13 * v) @ lp.L.mT
        )


@dataclass(frozen=True, eq=False)
class Direction:
    """The Newton step at one iterate (t, y, ν), for any target of t ∘ y."""

    simplices: Simplices
    metric: Metric
    system: NewtonSystem
    residual: Tensor
    t: Tensor
    y: Tensor

    def towards(self, target: Tensor, *, refine: bool) -> tuple[Tensor, Tensor, Tensor]:
        """(dν, dt, dy) for t ∘ y = target, the definitions, and weights that keep their sums.

        With r = target / y − t the complementarity reads dt = r − D ∘ dy. Eliminating dy and the
        simplices' own multipliers leaves dt = rebalance(r) + respond(dν), and the definitions then
        give T dν.
        """
        lp = self.simplices.lp
        r = target / self.y - self.t
        dt = self.simplices.rebalance(self.metric, r)
        b, pre, post = self.simplices.point(dt)
        missing = self.residual - pre + b @ lp.A.mT + post @ lp.L.mT
        dnu = self.system.solve(missing, refine=refine)
        dt = dt + self.simplices.respond(self.metric, dnu)
        return dnu, dt, (r - dt) / self.metric.D


def _slices(stop: int, step: int) -> list[slice]:
    return [slice(first, first + step) for first in range(0, stop, step)]


def _cholesky(T: Tensor) -> Tensor:
    """Cholesky factors; NaN for a matrix that no jitter makes positive definite."""
    factor, info = torch.linalg.cholesky_ex(T)
    for jitter in JITTERS[1:]:
        broken = info.nonzero().squeeze(1)
        if len(broken) == 0:
            return factor
        again = T[broken]
        again.diagonal(dim1=1, dim2=2).add_(jitter)
        factor[broken], info[broken] = torch.linalg.cholesky_ex(again)
    factor[info != 0] = torch.nan
    return factor
