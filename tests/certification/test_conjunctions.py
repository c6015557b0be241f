"""Sums of rows: proofs that none of the rows gives alone, and that no sum can make wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bounds
from bounds.certification.conjunctions import with_sums
from bounds.certification.properties import certify_vnnlib
from bounds.certification.queries import verify
from bounds.read.vnnlib.property import Case, Interval, Property, Row
from tests.support.queries import network, query, write


def test_a_sum_excludes_what_no_row_does() -> None:
    # y = x: y_0 ≥ 1/2 and y_0 + y_1 ≤ 0 and y_1 ≥ 0 exclude each other together alone.
    same = bounds.from_torch(nn.Identity(), (2,), dtype=torch.float64)
    one = Fraction(1)
    rows = (
        Row(((0, -one),), Fraction(-1, 2)),
        Row(((0, one), (1, one)), Fraction(0)),
        Row(((1, -one),), Fraction(0)),
    )
    box = (Interval(-one, one),) * 2
    property = Property("text", 2, 2, (Case(box, (rows,)),))
    assert certify_vnnlib(same, property, method="no_split").verdict == "unknown"
    summed = with_sums(same, property)
    assert summed.cases[0].disjuncts[0][:3] == rows
    found = certify_vnnlib(same, summed, method="no_split")
    assert found.verdict == "unsat"
    # λ = 1/3 each makes it 1/6 at least, which is the best there is.
    assert found.lower[0, 3].item() == pytest.approx(1 / 6, abs=1e-3)


@given(seed=st.integers(0, 2**16), rows=st.integers(2, 5))
def test_a_sum_follows_from_its_rows(seed: int, rows: int) -> None:
    dice = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    read = bounds.from_torch(model, (3,), dtype=torch.float64)

    def row() -> Row:
        factors = dice.integers(-3, 4, 3)
        pairs = tuple((i, Fraction(int(n))) for i, n in enumerate(factors) if n)
        return Row(pairs or ((0, Fraction(1)),), Fraction(int(dice.integers(-2, 3))))

    disjunct = tuple(row() for _ in range(rows))
    box = (Interval(Fraction(-1), Fraction(1)),) * 3
    [case] = with_sums(read, Property("text", 3, 3, (Case(box, (disjunct,)),))).cases
    for line in case.disjuncts[0][rows:]:
        for y in dice.normal(size=(300, 3)) * 3:
            exact = [Fraction(value) for value in y.tolist()]
            if all(each.holds(exact) for each in disjunct):
                assert line.holds(exact)


def test_many_inputs_bound_each_other(tmp_path: Path) -> None:
    """Of 40 inputs in [0, 1] whose sum is at most 1, a sum of ReLUs is at most 1, and without that
    40: no search of boxes would get there."""
    size = 40
    path = write(
        tmp_path / "sum.onnx",
        [("Relu", "x", "h"), ("MatMul", "h w", "y")],
        {"x": [1, size]},
        {"y": [1, 1]},
        w=np.ones((size, 1), np.float32),
    )
    declared = network("f", f"input X float32 [1,{size}]", "output Y float32 [1,1]")
    box = [(c, ("X", 0, i), e) for i in range(size) for c, e in ((">=", "0.0"), ("<=", "1.0"))]
    total = ("<=", ("+", *(("X", 0, i) for i in range(size))), "1.0")
    for threshold, verdict in (("1.01", "unsat"), ("0.5", "sat")):
        spec = tmp_path / "query.vnnlib"
        spec.write_text(query(declared, *box, total, (">=", ("Y", 0, 0), threshold)))
        assert verify(spec, path).verdict == verdict
    free = tmp_path / "free.vnnlib"
    free.write_text(query(declared, *box, (">=", ("Y", 0, 0), "1.01")))
    assert verify(free, path).verdict == "sat"
