"""What follows one pass and an attack: the LP optimum of the whole set, or a search of its parts.

Searches need sets that are boxes, and pay where few inputs move: a box of n coordinates has to be
cut about n times before all of its sides are half as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bounds.errors import InvalidInputError
from bounds.sets.box import Box, InputSet

#: "auto": by the rule below. "no_split": LP optima. "input_split": a search, however many inputs.
Method = Literal["auto", "no_split", "input_split"]

#: The most inputs that may move for "auto" to split them.
FEW = 30


@dataclass(frozen=True)
class Choice:
    """split: whether the set is searched. reason: what it is and why, for the user."""

    split: bool
    reason: str


def chosen(input_set: InputSet, method: Method) -> list[Choice]:
    """For each input.

    Raises InvalidInputError where splits are asked for and the set is no box.
    """
    moving = (input_set.upper > input_set.lower).flatten(1).sum(1).tolist()
    if method == "no_split":
        return [Choice(False, "no_split (as was asked for)")] * len(moving)
    if not isinstance(input_set, Box):
        if method == "input_split":
            raise InvalidInputError(
                "method='input_split' got a ball whose norm is not inf, expected a box of inputs: "
                "use norm=inf, or method='no_split'."
            )
        return [Choice(False, "no_split (the set is no box)")] * len(moving)
    if method == "input_split":
        return [Choice(True, "input_split (as was asked for)")] * len(moving)
    return [
        Choice(True, f"input_split (moving inputs: {count}, at most {FEW})")
        if count <= FEW
        else Choice(False, f"no_split (moving inputs: {count}, more than {FEW})")
        for count in moving
    ]
