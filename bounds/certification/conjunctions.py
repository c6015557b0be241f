"""Rows that follow from all rows of a disjunct together: where none of these can be excluded alone,
a sum of them may be.

Outputs are in a disjunct where every row Σ a y ≤ b holds; then Σ λ_k (a_k y − b_k) ≤ 0 for all
λ ≥ 0, which is one more row, whatever λ is. The best λ for linear bounds of the rows, one backward
pass each, is the optimum of a small LP. So an inequality between inputs, which is a row like any
other, counts in every proof that needs it: by LP duality, λ is its multiplier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from bounds.dual.dual import backward_pass
from bounds.dual.fixed_slope import adaptive
from bounds.errors import InvalidInputError
from bounds.intermediate.relax import relax
from bounds.network.graph import Network
from bounds.read.vnnlib.property import Case, Disjunct, Property, Row

#: Disjuncts of all cases, and rows times inputs of one: beyond, sums cost more than they save.
MAX_DISJUNCTS, MAX_ENTRIES = 64, 2**18
#: Multipliers are whole numbers of these parts, so that sums of rows stay numbers of float64.
PARTS = 2**12


def with_sums(network: Network, property: Property) -> Property:
    """The same property, with a row more in each disjunct that has use for one.

    network: in float64.
    """
    if sum(len(case.disjuncts) for case in property.cases) > MAX_DISJUNCTS:
        return property
    network = network.detach()
    return replace(property, cases=tuple(_case(network, property, c) for c in property.cases))


def _case(network: Network, property: Property, case: Case) -> Case:
    if all(len(disjunct) < 2 for disjunct in case.disjuncts):
        return case
    box = property.box([case], network.input_shape, torch.float64)
    rows = property.specification(case.disjuncts, grown=True)
    try:
        relaxation = relax(network, box, rows, slope="adaptive")
    except InvalidInputError:  # it overflows
        return case
    last = len(network.nodes) - 1
    point = backward_pass(network, relaxation.relu_bounds, last, relaxation.C, adaptive)
    at_input = point.at_input[0].flatten(1)
    rest = point.value(box, relaxation.relu_bounds) - box.minimum(point.at_input) + relaxation.d
    ends = box.lower.flatten(), box.upper.flatten()
    return replace(
        case,
        disjuncts=tuple(
            (*disjunct, *_sums(disjunct, at_input[list(lines)], rest[0, list(lines)], *ends))
            for disjunct, lines in zip(case.disjuncts, case.rows, strict=True)
        ),
    )


def _sums(
    disjunct: Disjunct, slopes: Tensor, ends: Tensor, lower: Tensor, upper: Tensor
) -> list[Row]:
    """slopes, ends: of linear functions of the inputs that are below the rows, (rows, inputs) and
    (rows,)."""
    if len(disjunct) < 2 or slopes.numel() > MAX_ENTRIES:
        return []
    weights = _weights(*(tensor.numpy() for tensor in (slopes, ends, lower, upper)))
    shares = [Fraction(round(weight * PARTS), PARTS) for weight in weights]
    if sum(share > 0 for share in shares) < 2:
        return []
    coefficients: dict[int, Fraction] = {}
    for share, line in zip(shares, disjunct, strict=True):
        for index, factor in line.coefficients:
            coefficients[index] = coefficients.get(index, Fraction(0)) + share * factor
    pairs = tuple((index, factor) for index, factor in sorted(coefficients.items()) if factor)
    if any(Fraction(float(factor)) != factor for _, factor in pairs):
        return []
    bounds = (share * line.bound for share, line in zip(shares, disjunct, strict=True))
    return [Row(pairs, sum(bounds, Fraction(0)))]


def _weights(
    slopes: np.ndarray, ends: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> Sequence[float]:
    """max over λ ≥ 0, Σ λ = 1 of the minimum over the box of Σ λ_k (slopes_k x + ends_k)."""
    from scipy import sparse
    from scipy.optimize import linprog

    moving = upper > lower
    fixed = slopes[:, ~moving] @ lower[~moving] + ends
    slopes, lower, upper = slopes[:, moving], lower[moving], upper[moving]
    count, inputs = slopes.shape
    # t_j ≤ g_j l_j and t_j ≤ g_j u_j for g = Σ λ_k slopes_k.
    identity = sparse.identity(inputs)
    sides = [sparse.hstack([-(slopes * end).T, identity]) for end in (lower, upper)]
    found = linprog(
        np.concatenate([-fixed, -np.ones(inputs)]),
        A_ub=sparse.vstack(sides) if inputs else None,
        b_ub=np.zeros(2 * inputs) if inputs else None,
        A_eq=np.concatenate([np.ones(count), np.zeros(inputs)])[None],
        b_eq=[1.0],
        bounds=[(0, None)] * count + [(None, None)] * inputs,
        method="highs",
        options={"time_limit": 5.0},
    )
    return [0.0] * count if found.x is None else found.x[:count].tolist()
