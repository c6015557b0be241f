"""What follows one pass and an attack: the LP optimum of the whole set, or a search of its parts.

Boxes of inputs are complete where few inputs move: a box of n coordinates has to be cut about n
times before all of its sides are half as long. Phases of ReLUs are complete for any network and any
set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bounds.errors import InvalidInputError
from bounds.relaxation.relaxation import Relaxation
from bounds.sets.box import Box

#: "auto": by the rules below. "no_split": LP optima. "input_split": a search of boxes, however many
#: inputs move. "relu_split": a search of phases.
Method = Literal["auto", "no_split", "input_split", "relu_split"]

#: The most inputs that may move for "auto" to split them.
FEW = 30
#: The most unstable neurons that "auto" splits where no time limit ends it: their bounds alone may
#: take hours.
MANY = 3000


@dataclass(frozen=True)
class Choice:
    """search: of which parts the set is searched, if any. reason: what it is and why, for the
    user."""

    search: Literal["input_split", "relu_split"] | None
    reason: str


def chosen(relaxation: Relaxation, method: Method, *, limited: bool) -> list[Choice]:
    """For each input. limited: whether there is a limit on time.

    Raises InvalidInputError where a search is asked for that the set does not allow.
    """
    input_set, batch = relaxation.input_set, len(relaxation.input_set)
    box = isinstance(input_set, Box)
    if method == "input_split" and not box:
        raise InvalidInputError(
            "method='input_split' got a ball whose norm is not inf, expected a box of inputs: use "
            "norm=inf, or method='no_split'."
        )
    match method:
        case "no_split":
            return [Choice(None, "no_split (as was asked for)")] * batch
        case "input_split" | "relu_split":
            return [Choice(method, f"{method} (as was asked for)")] * batch
    moving = (input_set.upper > input_set.lower).flatten(1).sum(1).tolist()
    return [
        _by_rule(count if box else None, unstable, limited)
        for count, unstable in zip(moving, relaxation.unstable, strict=True)
    ]


def _by_rule(moving: int | None, unstable: int, limited: bool) -> Choice:
    """moving: inputs of a box; None for other sets."""
    if moving is not None and moving <= FEW:
        return Choice("input_split", f"input_split (moving inputs: {moving}, at most {FEW})")
    if unstable > MANY and not limited:
        reason = f"unstable neurons: {unstable}, more than {MANY}, and no limit on time"
        return Choice(None, f"no_split ({reason})")
    inputs = "no box of inputs" if moving is None else f"moving inputs: {moving}, more than {FEW}"
    return Choice("relu_split", f"relu_split ({inputs}; unstable neurons: {unstable})")
