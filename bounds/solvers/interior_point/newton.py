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
#: Numbers in the scaled rows of one product of many LPs.
ROOM = 2**28
#: By which part of itself the diagonal is lifted, in turn, when the factorisation breaks down;
#: refinement makes up for it.
JITTERS = (0.0, 1e-14, 1e-11, 1e-8)
#: Where the host is not to know: next to nothing, and so many times more from step to step.
LEAST, MORE = 1e-17, 1e3


class NewtonSystem:
    """T of the LPs, factored. A dense factorisation is the same whatever diagonal scales T.

    panels: of each input; None: all in one batch. live: which of the (B, S) LPs to factor, where
    they may be picked, and breakdowns mended, by what is found; the solution of the others is 0.
    jitter: (B, S, 1), what the diagonals are lifted by instead, where the host is not to wait for
    anything: then `broken` says which LPs that was too little for, whose solution is 0.
    """

    def __init__(
        self,
        lp: TriangleLP,
        panels: list[Panels] | None,
        V: Metric,
        *,
        live: Tensor | None = None,
        jitter: Tensor | None = None,
    ) -> None:
        self.lp, self.V, self.live, self.broken = lp, V, live, None
        T = self._in_one() if panels is None else self._by_panels(panels)
        diagonal = T.diagonal(dim1=2, dim2=3).add_(V.V_11)
        if jitter is not None:
            diagonal.addcmul_(diagonal, jitter)
            self.factor, info = torch.linalg.cholesky_ex(T.flatten(0, 1))
            self.broken = (info != 0).view_as(jitter)
        else:
            if live is None or bool(live.all()):
                self.live = None
                T = T.flatten(0, 1)
            else:
                T = T[live]
            self.factor = _cholesky(T)
        self.factor_T = self.factor.mT

    def _in_one(self) -> Tensor:
        """T without its diagonal V₁₁; what stands above the diagonal is not meant."""
        lp, V = self.lp, self.V
        (batch, rows), (n, columns) = V.V.shape[:2], lp.AL.shape[1:]
        AL, AL_T, L, V_13 = lp.AL.unsqueeze(1), lp.AL.mT, lp.L.unsqueeze(1), V.V_13.unsqueeze(2)
        room = max(1, ROOM // max(1, n * columns))
        parts = []
        for images in _slices(batch, max(1, room // rows)):
            for some in _slices(rows, room):
                scaled = (AL[images] * V.V[images, some].unsqueeze(2)).flatten(1, 2)
                T = torch.bmm(scaled, AL_T[images]).unflatten(1, (-1, n))
                # L is strictly lower triangular: Lᵀ stays above the diagonal.
                T.addcmul_(L[images], V_13[images, some], value=-1)
                parts.append(T.flatten(0, 1))
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        return whole.view(batch, rows, n, n)

    def _by_panels(self, panels: list[Panels]) -> Tensor:
        """The same, without the products that are 0, and few of those above the diagonal."""
        lp, V = self.lp, self.V
        n, d = lp.e.shape[1], lp.c_b.shape[2]
        weights = V.V
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
        if refine:
            x = x + self._back_substitute(self._rest(r, x))
        return x if self.broken is None else x.masked_fill_(self.broken, 0.0)

    def _back_substitute(self, r: Tensor) -> Tensor:
        picked = (r.flatten(0, 1) if self.live is None else r[self.live]).unsqueeze(-1)
        # torch.cholesky_solve copies the factor at every call; two triangular solves do not.
        half = torch.linalg.solve_triangular(self.factor, picked, upper=False)
        solved = torch.linalg.solve_triangular(self.factor_T, half, upper=True)
        if self.live is None:
            return solved.view_as(r)
        x = torch.zeros_like(r)
        x[self.live] = solved.squeeze(-1)
        return x

    def _rest(self, r: Tensor, x: Tensor) -> Tensor:
        """r − T x, without T."""
        V, d = self.V, self.lp.c_b.shape[2]
        on = torch.bmm(x, self.lp.AL)
        weighted = V.V * on
        weighted[..., d:].addcmul_(V.V_13, x, value=-1)
        rest = torch.addcmul(r, V.V_11, x, value=-1)
        rest = torch.baddbmm(rest, weighted, self.lp.AL.mT, alpha=-1)
        return rest.addcmul_(V.V_13, on[..., d:])


@dataclass(frozen=True, eq=False)
class Direction:
    """The Newton step at one iterate (t, y, ν), for any target of t ∘ y."""

    simplices: Simplices
    metric: Metric
    system: NewtonSystem
    residual: Tensor

    def towards(self, pull: Tensor, *, refine: bool) -> tuple[Tensor, Tensor]:
        """dν, and dt and dy in one, for the definitions, weights that keep their sums, and t ∘ y =
        target, where pull = target / t − y.

        The complementarity reads dt = D ∘ (pull − dy). Eliminating dy and the simplices' own
        multipliers leaves what the vertices exchange when they are pulled so and their costs rise
        by those of dν, and the definitions then give T dν.
        """
        to_far, to_low = self.simplices.exchanged(self.metric, pull)
        missing = self.simplices.missing(self.residual, to_far, to_low)
        dnu = self.system.solve(missing, refine=refine)
        self.simplices.respond(self.metric, to_far, to_low, dnu)
        change = pull.new_empty(2, *pull.shape)
        dt = self.simplices.change(to_far, to_low, change[0])
        torch.addcdiv(pull, dt, self.metric.D, value=-1, out=change[1])
        return dnu, change


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
        again.diagonal(dim1=1, dim2=2).mul_(1 + jitter)
        factor[broken], info[broken] = torch.linalg.cholesky_ex(again)
    factor[info != 0] = torch.nan
    return factor
