"""Radii as they are written: 0.01, 2/255, exactly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from bounds.arguments import is_real, shown
from bounds.errors import InvalidInputError

#: A decimal number, or a fraction of two; of so few digits that it is read at once.
WRITTEN = re.compile(r"\d{0,20}\.?\d{0,40}(e-?\d{1,3})?(/\d{1,20})?", re.ASCII | re.IGNORECASE)


def fractions_of(call: str, radii: Sequence[object]) -> dict[Fraction, str]:
    """Each radius in rising order, with how it was written: text, or numbers, taken exactly.

    Raises InvalidInputError for what is no finite number of at least 0, and for one given twice.
    """
    if isinstance(radii, str) or not isinstance(radii, Sequence) or not radii:
        raise InvalidInputError(
            f"{call}(radii) got {shown(radii)}, expected a list of radii, such as ['2/255', 0.01]."
        )
    found: dict[Fraction, str] = {}
    for radius in radii:
        value = _fraction(call, radius)
        if value in found:
            raise InvalidInputError(
                f"{call}(radii) has {shown(radius)} twice: leave one of them out."
            )
        found[value] = str(radius)
    return dict(sorted(found.items()))


def _fraction(call: str, radius: object) -> Fraction:
    try:
        if isinstance(radius, str) and WRITTEN.fullmatch(radius):
            above, _, below = radius.partition("/")
            value = Fraction(above) / Fraction(below or 1)
            float(value)
            return value
        if is_real(radius):
            value = Fraction(*radius.as_integer_ratio())  # type: ignore[attr-defined]
            if value >= 0 and float(value) >= 0:
                return value
    except (ArithmeticError, ValueError, AttributeError):
        pass
    raise InvalidInputError(
        f"{call}(radii) got {shown(radius)}, expected a number of at least 0, such as 0.01 or "
        "'2/255'."
    )
