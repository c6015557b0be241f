"""Where the matrices of an LP are 0, so that nothing is computed there.

Neurons stand layer by layer and, in a layer, position by position. A panel of a convolution's
neurons sees a strip of the input and of the layers below, and T
(`bounds.solvers.interior_point.newton`) couples it with what sees the same strip.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bounds.solvers.interior_point.triangle_lp import TriangleLP

#: Rows of T computed by one product at most: few enough to leave out most of the upper triangle,
#: enough for fast products.
PANEL = 64


@dataclass(frozen=True)
class Panel:
    """rows: of [A | L]. first: the first row that T couples them with. spans: the ranges of columns
    of A and of L outside which the rows are 0."""

    rows: slice
    first: int
    spans: tuple[slice, ...]


Panels = tuple[Panel, ...]


def panels_of(lp: TriangleLP) -> list[Panels]:
    """Of each input."""
    return [_panels(lp, AL != 0) for AL in lp.AL]


def _panels(lp: TriangleLP, nonzero: Tensor) -> Panels:
    """Of an input. nonzero: the pattern of its [A | L], (n, d + n). A layer's last rows, where they
    are 0, are in no panel."""
    d = lp.c_b.shape[2]
    rows = [slice(0, 1)] * lp.layers[0]
    for start, stop in zip(lp.layers, lp.layers[1:], strict=False):
        used = nonzero[start:stop].any(1).nonzero()
        end = start + int(used[-1]) + 1 if len(used) else start
        # Of about the same size: a panel of few rows takes nearly as long as a full one.
        size = -(-(end - start) // -(-(end - start) // PANEL)) if end > start else 1
        rows += [slice(k, min(k + size, end)) for k in range(start, end, size)]
    reads = nonzero.to(lp.e)
    found = []
    for panel in rows:
        used = nonzero[panel].any(0)
        # T is A V_b Aᵀ + L V₃₃ Lᵀ − L V₁₃ − … : common inputs or neurons, or one reads the other.
        coupled = (reads[: panel.stop] @ used.to(lp.e) > 0) | used[d : d + panel.stop]
        first = min(int(coupled.nonzero()[0]), panel.start) if bool(coupled.any()) else panel.start
        found.append(Panel(panel, first, _spans(used, d)))
    return tuple(found)


def _spans(used: Tensor, d: int) -> tuple[slice, ...]:
    """The ranges of columns of A and of L outside which nothing is used; used: (d + n,)."""
    spans = []
    for start, part in ((0, used[:d]), (d, used[d:])):
        where = part.nonzero()
        if len(where):
            spans.append(slice(start + int(where[0]), start + int(where[-1]) + 1))
    return tuple(spans)
