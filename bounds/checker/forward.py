"""l and u of every ReLU on many boxes, carried forward from the input, for files that say so.

On a box with middle m and half-widths r, let x_j = m_j + r_j t_j. Every number z of the network
lies between two linear functions of t on [-1, 1]ⁿ,

    M(t) − R(t)  ≤  z  ≤  M(t) + R(t),

each of 1 + n numbers, of which the first is the constant. An affine node takes M to W M + b and R
to |W| R. For a ReLU with l ≤ ẑ ≤ u, where l < 0 < u, let s be a multiple of 2⁻²⁰, at least
u / (u − l) and at most 1 (that next above it by 0.3 of these), α = 1 if u > −(1 + 2⁻³⁰) l and else
0, and t₀ = max(−s l, (1 − s) u). Then

    α ẑ  ≤  max(ẑ, 0)  ≤  s ẑ + t₀   on [l, u],

and with p = (s + α) / 2 and q = (s − α) / 2, which are exact, M becomes p M + q R + t₀ / 2, and R
becomes q M + p R + t₀ / 2. What is computed of either is off by γ times the sizes of its terms, and
all of that is added to the constant of R: t is no larger than 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bounds.checker.floats import FLOOR, TIE, gamma, up
from bounds.checker.passes import VALUES, Passes
from bounds.network.graph import AffineNode, ReluNode, SumNode

GRID, MORE = 2.0**-20, 0.3


@dataclass(frozen=True, eq=False)
class Planes:
    """M and R: (boxes, 1 + n, numbers)."""

    middle: np.ndarray
    spread: np.ndarray

    @property
    def size(self) -> np.ndarray:
        """Σ |M| + Σ |R|; (boxes, numbers)."""
        return np.asarray(np.abs(self.middle).sum(1) + np.abs(self.spread).sum(1))

    def wider(self, off: np.ndarray) -> Planes:
        """By what was rounded away, (boxes, numbers), and what underflowed."""
        self.spread[:, 0] += off + FLOOR
        return self


@dataclass(frozen=True, eq=False)
class Ends:
    """l and u of one ReLU's input; (boxes, numbers)."""

    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True, eq=False)
class Carried:
    """faces: of every ReLU."""

    faces: Sequence[Ends]


def carried(
    passes: Passes, lower: np.ndarray, upper: np.ndarray, signs: np.ndarray, some: np.ndarray
) -> Carried:
    """Of those boxes [lower, upper], (boxes, inputs), that a mask has; signs: of ReLU inputs, as
    `Batch` has them. Infinite for others, and where nothing can be said."""
    shapes = [(len(lower), size) for size in passes.sizes]
    found = [Ends(np.full(shape, -np.inf), np.full(shape, np.inf)) for shape in shapes]
    planes = 2 * (1 + lower.shape[1]) * sum(passes.graph.sizes)
    together = max(1, VALUES // planes)
    every = np.flatnonzero(some)
    for first in range(0, len(every), together):
        part = every[first : first + together]
        ends = _carried(passes, lower[part], upper[part], signs[part])
        for whole, own in zip(found, ends, strict=True):
            whole.lower[part], whole.upper[part] = own.lower, own.upper
    return Carried(found)


def _carried(passes: Passes, lower: np.ndarray, upper: np.ndarray, signs: np.ndarray) -> list[Ends]:
    planes: list[Planes] = []
    faces: list[Ends] = []
    offset = 0
    with np.errstate(all="ignore"):
        for index, node in enumerate(passes.nodes):
            if isinstance(node, AffineNode):
                planes.append(_affine(passes, index, planes[node.parents[0]]))
            elif isinstance(node, SumNode):
                terms = [planes[parent] for parent in node.parents]
                off = gamma(len(terms)) * np.sum([each.size for each in terms], 0)
                middle, spread = (
                    np.sum([getattr(each, name) for each in terms], 0)
                    for name in ("middle", "spread")
                )
                planes.append(Planes(middle, spread).wider(off))
            elif isinstance(node, ReluNode):
                before, size = planes[node.parents[0]], passes.graph.sizes[index]
                own = signs[:, offset : offset + size]
                offset += size
                faces.append(_ends(before, own))
                planes.append(_relu(before, faces[-1]))
            else:
                planes.append(_inputs(lower, upper))
    return faces


def _inputs(lower: np.ndarray, upper: np.ndarray) -> Planes:
    """Of boxes that are no smaller, as far as rounding makes a difference."""
    middle = lower / 2 + upper / 2
    reach = np.maximum(upper - middle, middle - lower)
    reach = np.where(upper > lower, up(reach), reach)
    slopes = np.zeros((len(lower), *2 * lower.shape[1:]))
    each = np.arange(lower.shape[1])
    slopes[:, each, each] = reach
    whole = np.concatenate((middle[:, None], slopes[:, (reach > 0).any(0)]), 1)
    return Planes(whole, np.zeros_like(whole))


def _affine(passes: Passes, index: int, before: Planes) -> Planes:
    matrix, bias = passes.matrix[index], passes.bias[index]
    boxes, count, numbers = before.middle.shape
    middle = matrix.forward(before.middle.reshape(-1, numbers)).reshape(boxes, count, -1).copy()
    sizes = (before.size + FLOOR)[:, None]
    rows = np.concatenate((before.spread, sizes), 1).reshape(-1, numbers)
    spread = passes.absolute[index].forward(rows).reshape(boxes, count + 1, -1)
    spread, products = spread[:, :count].copy(), spread[:, count]
    shift = 0.0 if bias is None else np.abs(bias)
    if bias is not None:
        middle[:, 0] += bias
    return Planes(middle, spread).wider(gamma(matrix.terms[0]) * (products + shift))


def _relu(before: Planes, ends: Ends) -> Planes:
    lower, upper = ends.lower, ends.upper
    unstable, active = (lower < 0) & (upper > 0), (lower >= 0).astype(float)
    chord = np.minimum(np.ceil(upper / (upper - lower) / GRID + MORE) * GRID, 1.0)
    slope = np.where(unstable, chord, active)
    alpha = np.where(unstable, (upper > -TIE * lower).astype(float), active)
    above = np.where(unstable, up(np.maximum(-slope * lower, (1 - slope) * upper)), 0.0)
    p, q = ((slope + alpha) / 2)[:, None], ((slope - alpha) / 2)[:, None]
    middle = p * before.middle + q * before.spread
    spread = q * before.middle + p * before.spread
    middle[:, 0] += above / 2
    spread[:, 0] += above / 2
    off = gamma(2) * (before.size + above)
    return Planes(middle, spread).wider(np.where(unstable, off, 0.0))


def _ends(planes: Planes, signs: np.ndarray) -> Ends:
    """The least of M − R and the largest of M + R, no looser than the signs."""
    least, most = planes.middle - planes.spread, planes.middle + planes.spread
    off = gamma(3 * least.shape[1]) * planes.size + FLOOR
    lower = least[:, 0] - np.abs(least[:, 1:]).sum(1) - off
    upper = most[:, 0] + np.abs(most[:, 1:]).sum(1) + off
    numbers = np.isfinite(lower) & np.isfinite(upper)
    lower = np.where(numbers, lower, -np.inf)
    upper = np.where(numbers, upper, np.inf)
    return Ends(
        np.where(signs > 0, np.maximum(lower, 0), lower),
        np.where(signs < 0, np.minimum(upper, 0), upper),
    )
