"""What follows one pass and an attack: the LP optimum of the whole set, or a search of its parts.

Boxes of inputs are complete where few inputs move: a box of n coordinates has to be cut about n
times before all of its sides are half as long. Phases of ReLUs are complete for any network; each
node is an LP on the unstable neurons, of which there must not be too many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bounds.errors import InvalidInputError
from bounds.relaxation.relaxation import Relaxation
from bounds.sets.box import Box
from bounds.solvers.cost import matrices_fit

#: "auto": by the rules below. "no_split": LP optima. "input_split": a search of boxes, however many
#: inputs move. "relu_split": a search of phases, however many neurons are unstable.
Method = Literal["auto", "no_split", "input_split", "relu_split"]

#: The most inputs that may move for "auto" to split them.
FEW = 30
#: The most unstable neurons that "auto" splits: an LP of more takes seconds.
MANY = 3000


@dataclass(frozen=True)
class Choice:
    """search: of which parts the set is searched, if any. reason: what it is and why, for the
    user."""

    search: Literal["input_split", "relu_split"] | None
    reason: str


def chosen(relaxation: Relaxation, method: Method) -> list[Choice]:
    """For each input.

    Raises InvalidInputError where a search is asked for that the set does not allow.
    """
    input_set, batch = relaxation.input_set, len(relaxation.input_set)
    box = isinstance(input_set, Box)
    if method == "input_split" and not box:
        raise InvalidInputError(
            "method='input_split' got a ball whose norm is not inf, expected a box of inputs: use "
            "norm=inf, or method='no_split'."
        )
    linear = matrices_fit(relaxation, None)
    if method == "relu_split" and not linear:
        raise InvalidInputError(
            "method='relu_split' got a ball of norm 2, or more unstable neurons than memory has "
            "room for in an LP, expected LPs: use norm=inf or norm=1, a smaller radius, or "
            "method='no_split'."
        )
    match method:
        case "no_split":
            return [Choice(None, "no_split (as was asked for)")] * batch
        case "input_split" | "relu_split":
            return [Choice(method, f"{method} (as was asked for)")] * batch
    moving = (input_set.upper > input_set.lower).flatten(1).sum(1).tolist()
    choices = []
    for count, unstable in zip(moving, relaxation.unstable, strict=True):
        if box and count <= FEW:
            choices.append(
                Choice("input_split", f"input_split (moving inputs: {count}, at most {FEW})")
            )
        elif linear and unstable <= MANY:
            reason = f"moving inputs: {count}, unstable neurons: {unstable}, at most {MANY}"
            choices.append(Choice("relu_split", f"relu_split ({reason})"))
        elif linear:
            choices.append(
                Choice(None, f"no_split (unstable neurons: {unstable}, more than {MANY})")
            )
        else:
            choices.append(Choice(None, "no_split (no LP that a search could go on from)"))
    return choices
