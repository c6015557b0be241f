"""What an evaluation returns: what became of each image at each radius."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bounds.errors import InvalidInputError

#: "wrong": the image itself is answered wrongly. "attacked": a counterexample was replayed.
#: "proved": no point of the set is answered wrongly. "open": none of these was found.
Status = Literal["wrong", "attacked", "proved", "open"]
#: Kinds of proofs, from cheap to dear: one pass, LP optima, branch and bound.
Kind = Literal["fast", "lp", "search"]
KINDS: dict[Kind, str] = {"fast": "one pass", "lp": "LP", "search": "search"}
KIND: dict[str, Kind] = {
    "adaptive_slope": "fast",
    "interior_point": "lp",
    "simplex": "lp",
    "pdhg": "lp",
    "input_split": "search",
    "relu_split": "search",
}


@dataclass(frozen=True)
class Result:
    """What became of one image at one radius.

    image: its position in the data. radius: its position among the evaluation's radii. method:
    where the status comes from, as in `Certification.methods`, or "clean", or what was tried last.
    at: the position of the radius that it was found at; another one where a proof at a larger
    radius or a counterexample at a smaller one decides this one too. lower: the smallest lower
    bound of a margin that is proved at `at`, if there is one. seconds: what finding it took; 0
    where it follows from another. domains, left, worst, ended: of a search, as in `Search`.
    replayed_by: what confirmed the counterexample.
    """

    image: int
    radius: int
    status: Status
    method: str
    at: int
    lower: float | None = None
    seconds: float = 0.0
    domains: int | None = None
    left: int | None = None
    worst: float | None = None
    ended: str | None = None
    replayed_by: str | None = None


@dataclass(frozen=True)
class Image:
    """An input, by its position, and the network's answer to it."""

    image: int
    name: str
    label: int
    answer: int


@dataclass(frozen=True)
class Row:
    """How many images of one radius ended how. proved: by kind of proof. missing: not done."""

    radius: str
    wrong: int
    attacked: int
    proved: dict[Kind, int]
    open: int
    missing: int

    @property
    def certified(self) -> int:
        return sum(self.proved.values())


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What became of each image at each radius.

    radii: in rising order, as they were written. images: those that were asked for, with the
    network's answers. results: of what was done, by image and radius. lost: images over which
    processes were lost, again and again; they have no results, and the same call tries them again.
    warning: what is suspicious about the data, or None.

    >>> import torch, bounds
    >>> x, y = torch.eye(2), torch.arange(2)
    >>> found = bounds.evaluate(torch.nn.Identity(), x, y, radii=[0.1, 0.6])
    >>> found.right, [(row.radius, row.certified, row.attacked) for row in found.rows]
    (2, [('0.1', 2, 0), ('0.6', 0, 2)])
    """

    radii: tuple[str, ...]
    images: tuple[Image, ...]
    results: tuple[Result, ...]
    lost: tuple[int, ...]
    warning: str | None

    @property
    def right(self) -> int:
        """How many images themselves are answered rightly."""
        return sum(image.answer == image.label for image in self.images)

    @property
    def rows(self) -> tuple[Row, ...]:
        """One a radius."""
        return rows_of(self.radii, len(self.images), self.results)


def rows_of(radii: Sequence[str], inputs: int, results: Iterable[Result]) -> tuple[Row, ...]:
    found: list[list[Result]] = [[] for _ in radii]
    for result in results:
        found[result.radius].append(result)

    def row(radius: str, of: list[Result]) -> Row:
        count = dict.fromkeys(("wrong", "attacked", "open"), 0)
        proved: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        for result in of:
            if result.status == "proved":
                proved[KIND[result.method]] += 1
            else:
                count[result.status] += 1
        return Row(radius, proved=proved, missing=inputs - len(of), **count)

    return tuple(map(row, radii, found))


def shard_of(call: str, shard: tuple[int, int] | None, inputs: int) -> range:
    """The images of part I of N, counted from 1: every N-th. Radii are not divided.

    Raises InvalidInputError for parts that are none, or have no image.
    """
    if shard is None:
        return range(inputs)
    pair = isinstance(shard, tuple) and [type(number) for number in shard] == [int, int]
    if not pair or not 1 <= shard[0] <= shard[1] or shard[0] > inputs:
        raise InvalidInputError(
            f"{call}(shard) got {str(shard)[:80]} for {inputs} inputs, expected (I, N) with I from "
            "1 to N, and no more parts than inputs."
        )
    return range(shard[0] - 1, inputs, shard[1])
