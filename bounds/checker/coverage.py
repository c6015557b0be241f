"""Whether what a file proves is what a property of VNN-LIB asks: in exact rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from bounds.checker.evidence import Rejected
from bounds.checker.forest import Cases
from bounds.read.vnnlib.property import Case, Disjunct, Property


def require_covered(cases: Cases, property: Property) -> None:
    """Raises Rejected unless the file has every case of the property, with a box that contains the
    case's, and every disjunct of it, with rows that are at most 0 wherever all of its own hold."""
    position = {number: at for at, number in enumerate(cases.number.tolist())}
    for number, case in enumerate(property.cases):
        if number not in position:
            raise Rejected(f"the property has a case {number}, and the file does not")
        _require_case(cases, position[number], number, case)


def _require_case(cases: Cases, at: int, number: int, case: Case) -> None:
    ends = cases.lower[at].tolist(), cases.upper[at].tolist()
    for j, (interval, low, high) in enumerate(zip(case.box, *ends, strict=True)):
        if not (Fraction(low) <= interval.lower and interval.upper <= Fraction(high)):
            raise Rejected(
                f"case {number} of the property lets input {j} lie in [{float(interval.lower)!r}, "
                f"{float(interval.upper)!r}], and the file's box has [{low!r}, {high!r}]"
            )
    first, end = int(cases.disjuncts[at]), int(cases.disjuncts[at + 1])
    if end - first != len(case.disjuncts):
        raise Rejected(
            f"case {number} of the property has {len(case.disjuncts)} disjuncts, and the file has "
            f"{end - first}"
        )
    for k, disjunct in enumerate(case.disjuncts):
        for row in range(int(cases.rows[first + k]), int(cases.rows[first + k + 1])):
            if not _implied(cases.C[row], Fraction(float(cases.d[row])), disjunct):
                raise Rejected(
                    f"disjunct {k} of case {number} has a row in the file that no inequality of "
                    "the property implies"
                )


def _implied(C: np.ndarray, d: Fraction, disjunct: Disjunct) -> bool:
    """Whether ⟨C, y⟩ + d ≤ 0 follows from a row Σ a y ≤ b, in the plainest way: C = a, d ≤ −b."""
    own = {int(output): Fraction(float(C[output])) for output in np.flatnonzero(C)}
    return any(
        own == {output: a for output, a in row.coefficients if a != 0} and d <= -row.bound
        for row in disjunct
    )
