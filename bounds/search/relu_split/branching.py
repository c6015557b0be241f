"""Which neuron a node is split at.

The guess: how far the LP's point is above max(ẑ, 0), as a share of the triangle's height there,
times what the dual function loses to the neuron's triangle. What splits of a neuron have gained
before corrects it (pseudo-costs: Bénichou et al. 1971), and until that is known of a neuron, its
children are bounded if it is among the most promising (reliability branching: Achterberg, Koch &
Martin 2005).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bounds.search.relu_split.bounding import NodeBound, NodeLP

#: The neurons that are looked at more closely before one of them is chosen.
CANDIDATES = 3
#: The smallest share of the triangle's height that counts, and of the missing gain.
LEAST = 1e-6


class Record:
    """What splits have gained at each side of each neuron, and what was guessed."""

    def __init__(self, n: int) -> None:
        #: Gains, guesses and how many there are; (3, 2, n).
        self.numbers = np.zeros((3, 2, n))
        self._gain, self._guess, self._count = self.numbers

    def go_on(self, numbers: np.ndarray) -> None:
        self.numbers[:] = numbers

    def note(self, neuron: int, side: int, guess: float, gain: float) -> None:
        at = int(side > 0), neuron
        self._gain[at] += max(gain, 0.0)
        self._guess[at] += guess
        self._count[at] += 1

    def knows(self, neuron: int) -> bool:
        """Whether both sides were split before."""
        return bool(self._count[:, neuron].all())

    def expected(self, guess: np.ndarray) -> np.ndarray:
        """The gains of the sides ẑ ≤ 0 and ẑ ≥ 0 of every neuron, (2, n): sums of gains over sums
        of guesses, of one typical split of all neurons besides its own."""
        total = self._guess.sum()
        if total == 0:
            return np.stack([guess, guess])
        mean, typical = self._gain.sum() / total, total / self._count.sum()
        corrected: np.ndarray = guess * (self._gain + mean * typical) / (self._guess + typical)
        return corrected


def guesses(lp: NodeLP, bound: NodeBound, free: np.ndarray) -> np.ndarray:
    """Of every neuron: 0 where it is not free, or where the LP's point lies on its ReLU."""
    assert bound.evidence is not None
    z, pre = bound.vertex.z, lp.pre_activations(bound.vertex)
    above = np.minimum(z - pre.clip(min=0.0), z)
    height = -lp.lower * lp.upper / (lp.upper - lp.lower)
    share = np.where(free & (height > 0), above / np.where(height > 0, height, 1.0), 0.0)
    share = np.where(share > LEAST, share.clip(max=1.0), 0.0)
    loss = -bound.evidence.costs.min(0).clip(max=0.0)
    # Neurons without a multiplier on their upper face come last.
    guess: np.ndarray = np.nan_to_num(share * (loss + LEAST * loss.max(initial=0.0)))
    return guess if guess.any() else share


def choose(
    guess: np.ndarray, record: Record, missing: float, trial: Callable[[int], np.ndarray | None]
) -> tuple[int, int] | None:
    """The neuron whose sides both promise much (the product of their gains, none of which counts
    more than what is `missing`), and the side that promises less.

    trial: bounds the children of a neuron, for the gains of both sides; None where one of them is
    refuted at once, which settles the matter, so that this is None, too.
    """

    def score(gains: np.ndarray) -> np.ndarray:
        product: np.ndarray = gains.clip(LEAST * missing, missing).prod(0)
        return product

    expected = record.expected(guess)
    scores = np.where(guess > 0, score(expected), -1.0)
    best, highest = -1, -1.0
    for neuron in np.argsort(-scores, kind="stable")[:CANDIDATES].tolist():
        if scores[neuron] < 0:
            break
        gains = expected[:, neuron]
        if not record.knows(neuron):
            tried = trial(neuron)
            if tried is None:
                return None
            gains = tried
            expected[:, neuron] = gains
        if float(score(gains)) > highest:
            best, highest = neuron, float(score(gains))
    low, high = expected[:, best]
    return best, 1 if high <= low else -1
