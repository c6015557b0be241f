"""The Newton system of the interior point: T dν = r, one n × n positive definite matrix an LP.

T = A V_b Aᵀ + V₁₁ − L V₁₃ − (L V₁₃)ᵀ + L V₃₃ Lᵀ
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.condense import CondensedLP
from bounds.simplices import Metric

#: Rows of T computed by one product: few enough to leave out most of the upper triangle, enough for
#: fast products.
PANEL = 64
#: Numbers of [A | L] scaled at a time: what stays in the cache.
CACHE = 2**21
#: What is added to the unit diagonal, in turn, when the factorisation breaks down; refinement makes
#: up for it.
JITTERS = (0.0, 1e-14, 1e-11, 1e-8)

#: Rows of [A | L] and, of each set, the columns that are not 0 there.
Panels = list[tuple[slice, tuple[slice, ...]]]


class NewtonSystem:
    """T of every live LP, scaled to unit diagonal and factored.

    live: the (input, row) indices of the LPs to factor; the solution of the others is 0. panels:
    those of the LP.
    """

    def __init__(
        self, lp: CondensedLP, panels: Panels, V: Metric, live: tuple[Tensor, Tensor]
    ) -> None:
        self.lp, self.panels, self.V, self.live = lp, panels, V, live
        T = self._assemble()
        self.scale = T.diagonal(dim1=1, dim2=2).rsqrt()
        T.mul_(self.scale.unsqueeze(1)).mul_(self.scale.unsqueeze(2))
        self.factor = _cholesky(T)

    def _assemble(self) -> Tensor:
        """The lower triangles of T for the live LPs; what stands above them is not meant."""
        lp, V, (image, row) = self.lp, self.V, self.live
        AL, n = lp.AL, lp.e.shape[1]
        root = torch.cat((V.V_b, V.V_33), -1).sqrt()
        T = AL.new_zeros(len(image), n, n)
        step = max(1, CACHE // max(1, n * AL.shape[2]))
        for part in range(0, len(image), step):
            some = slice(part, part + step)
            R = AL[image[some]] * root[image[some], row[some]].unsqueeze(1)
            for rows, spans in self.panels:
                for span in spans:
                    T[some, rows, : rows.stop] += R[:, rows, span] @ R[:, : rows.stop, span].mT
            # L is strictly lower triangular, so its transpose does not reach the lower triangle.
            T[some] -= lp.L[image[some]] * V.V_13[image[some], row[some]].unsqueeze(1)
        T.diagonal(dim1=1, dim2=2).add_(V.V_11[image, row])
        return T

    def solve(self, r: Tensor, *, refine: bool) -> Tensor:
        """T⁻¹ r for r (B, S, n), with one step of iterative refinement on request."""
        x = self._back_substitute(r)
        return x + self._back_substitute(r - self._apply(x)) if refine else x

    def _back_substitute(self, r: Tensor) -> Tensor:
        scaled = (r[self.live] * self.scale).unsqueeze(-1)
        x = torch.zeros_like(r)
        x[self.live] = torch.cholesky_solve(scaled, self.factor).squeeze(-1) * self.scale
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
