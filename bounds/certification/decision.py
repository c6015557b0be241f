"""What became of an input set, and what a decision asks of its caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from bounds.certification.counterexample import Counterexample
from bounds.search.search import Search
from bounds.solution.verdict import Verdict

#: Given an input's position in the batch and a point: the counterexample there, if it is one.
Replay = Callable[[int, Tensor], Counterexample | None]

#: Given an input's position in the batch: how far the search of its set is.
Watch = Callable[[int, Search], None]


@dataclass(eq=False)
class Decision:
    """What became of one input set.

    lower: the largest lower bound of each row that is proved on the whole set; −inf where none is.
    method: where the verdict comes from, or what was tried last. chosen: what follows the attack,
    and why. search: how that ended, where it was one.
    """

    lower: list[float]
    verdict: Verdict = "unknown"
    method: str = "none"
    counterexample: Counterexample | None = None
    chosen: str = ""
    search: Search | None = None
