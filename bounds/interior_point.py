"""The LP optimum by a Mehrotra predictor–corrector on a product of simplices.

Every variable of the condensed LP is written by the weights of its vertices: b_j by those of {0, 1}, (ẑ_i, z_i) by those
of (l, 0), (0, 0), (u, u). All inequalities become "weights ≥ 0 and sum to 1", and the n definitions ẑ = A b + L z + e
are all that links the variables, so the Newton system reduces to one n × n positive definite matrix an LP:

    T = A V_b Aᵀ + V₁₁ − L V₁₃ − (L V₁₃)ᵀ + L V₃₃ Lᵀ,

where the diagonal V are (co)variances of the vertices under the weights D = t / y. They are sums of positive terms, so
nothing cancels as the iterates approach a vertex; the textbook form, with slacks such as z − ẑ, breaks down there.

Notation: t the vertex weights, y their dual slacks, ν the multipliers of the definitions, μ = ⟨t, y⟩ / count. The dual
equations hold at every iterate, so each ν gives a valid bound (`bounds.dual`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.condense import CondensedLP
from bounds.solution import Status, relative_gap

#: The fraction of the way to the boundary that a step may go.
STEP = 0.995
#: Iterations without progress of the gap after which an LP counts as broken down.
PATIENCE = 12
#: Rows of T assembled at a time: small enough to skip half of a symmetric product, large enough for fast ones.
PANEL = 192


@dataclass(eq=False)
class _Iterate:
    """B inputs × S rows; `t` and `y` are (B, S, 2 d + 3 n): b's two vertices, then the triangles' three."""

    t: Tensor
    y: Tensor
    nu: Tensor
