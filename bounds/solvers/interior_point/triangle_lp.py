"""LPs over a unit box and triangles, which the interior point and the simplex method work on.

    ẑ = A b + L z + e,    0 ≤ b ≤ 1,    (ẑ_i, z_i) in the triangle of l_i and u_i,
    objective = c_b · b + c_z · z + c_0,

with L strictly lower block-triangular.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class TriangleLP:
    """The LPs of B inputs with S rows each.

    AL: [A | L], (B, n, d + n). e, lower, upper: (B, n). c_b: (B, S, d). c_z: (B, S, n).
    c_0 and scale, that of `Relaxation.scale`: (B, S). layers: the start of each layer's block, and
    n; the first is 1 where a budget for b comes before, else 0.
    """

    AL: Tensor
    e: Tensor
    lower: Tensor
    upper: Tensor
    c_b: Tensor
    c_z: Tensor
    c_0: Tensor
    scale: Tensor
    layers: tuple[int, ...]

    @property
    def A(self) -> Tensor:
        """(B, n, d)"""
        return self.AL[:, :, : self.c_b.shape[2]]

    @property
    def L(self) -> Tensor:
        """(B, n, n), strictly lower block-triangular."""
        return self.AL[:, :, self.c_b.shape[2] :]

    def take(self, images: Tensor, rows: Tensor) -> TriangleLP:
        """The LPs of these inputs (B',) and, of each, these rows (B', S')."""
        at = images.unsqueeze(1)
        whole = len(images) == len(self.e)

        def pick(tensor: Tensor) -> Tensor:
            return tensor if whole else tensor[images]

        return TriangleLP(
            AL=pick(self.AL),
            e=pick(self.e),
            lower=pick(self.lower),
            upper=pick(self.upper),
            c_b=self.c_b[at, rows],
            c_z=self.c_z[at, rows],
            c_0=self.c_0[at, rows],
            scale=self.scale[at, rows],
            layers=self.layers,
        )

    def within_budget(self, b: Tensor) -> Tensor:
        """b (B, S, d), shortened where it exceeds the budget."""
        if self.layers[0] == 0:
            return b
        spent = (b @ self.A[:, :1].mT) / -self.lower[:, :1].unsqueeze(1)
        return b / spent.clamp(min=1)
