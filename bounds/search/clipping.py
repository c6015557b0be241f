"""Cutting off what cannot meet the disjunct, by the linear bounds of its rows.

Where a row is at least ⟨c, x⟩ + k on a box [l, u], and at least b ≤ 0 there in all, a point of the
box at which the row is at most 0 has, with c_j > 0,

    c_j (x_j − l_j)  ≤  −k − Σ_i min(c_i l_i, c_i u_i)  ≤  −b,   so   x_j ≤ l_j − b / c_j,

and with c_j < 0 likewise x_j ≥ u_j + b / |c_j|. As a disjunct is met only where all of its rows are
at most 0, each of them cuts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.rounding import down, smallest, up


def clip(
    lower: Tensor, upper: Tensor, bounds: Tensor, coefficients: Tensor
) -> tuple[Tensor, Tensor]:
    """Boxes that contain all points of [lower, upper] where every row is at most 0, over the
    reals; the lower end of an empty one may lie above its upper end.

    lower, upper: (count, *input_shape). bounds: b, (count, rows). coefficients: c, (count, rows,
    *input_shape). What is no number cuts nothing.
    """
    tiny = smallest(lower.dtype)
    shape = (*bounds.shape, *[1] * (lower.dim() - 1))
    room = up(tiny - bounds).reshape(shape)
    # Numbers below `tiny` may count as 0, and are not divided by.
    steep = torch.isfinite(room) & torch.isfinite(coefficients) & (coefficients.abs() > tiny)
    step = up(up(room / torch.where(steep, coefficients.abs(), 1.0)) + tiny)
    highest = up(up(lower.unsqueeze(1) + step) + 2 * tiny)
    lowest = down(down(upper.unsqueeze(1) - step) - 2 * tiny)
    highest = torch.where(steep & (coefficients > 0), highest, torch.inf).amin(1)
    lowest = torch.where(steep & (coefficients < 0), lowest, -torch.inf).amax(1)
    return torch.maximum(lower, lowest), torch.minimum(upper, highest)
