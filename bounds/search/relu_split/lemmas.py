"""Refutations, and the lemmas that they use, of which a search knows whether they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bounds.search.relu_split.region import Findings, Lemma, Reasons, reasons
from bounds.search.relu_split.slope_bounding import SlopeNodes


class Lemmas:
    """known: by number, each with a larger one than what it uses. next: the number that the next
    that is found is given, whether or not it is ever needed."""

    def __init__(self, nodes: SlopeNodes) -> None:
        self._nodes = nodes
        self.known: dict[int, Lemma] = {}
        self.next = 0
        self._failed = set[int]()

    def go_on(self, known: Mapping[int, Lemma], following: int) -> None:
        """From those that hold already."""
        self.known, self.next = dict(known), following

    def holds(self, number: int) -> bool:
        return number not in self._failed

    @property
    def holding(self) -> dict[int, Lemma]:
        return {number: self.known[number] for number in sorted(self.known) if self.holds(number)}

    def learn(self, some: Iterable[tuple[Findings, Iterable[int]]]) -> None:
        """Look why these hold, that were found then or before, and whether they do: on the network
        itself, as all that they use does."""
        found, now = list[Reasons](), set[int]()
        for last, numbers in some:
            new = reasons(last, numbers, self._nodes.region, (now, self.known))
            now.update(number for each in new for number in each.numbers)
            found += new
        if not found:
            return
        holds = iter(self._nodes.hold(found))
        for each in found:
            lemmas = each.lemmas(self.known)
            for number, lemma in lemmas.items():
                if not next(holds) or not self._failed.isdisjoint(lemma.uses):
                    self._failed.add(number)
            self.known |= lemmas
