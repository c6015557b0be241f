"""Refutations in the columns of a proof's file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bounds.relaxation.relaxation import Relaxation
from bounds.search.relu_tree import Refutation
from bounds.search.visible import narrow


def ends_of(whole: Relaxation) -> np.ndarray:
    """Where the neurons of each ReLU begin and end, among all."""
    sizes = [neurons.lower[0].numel() for neurons in whole.relu_bounds]
    return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)


def refutation_columns(
    refutations: Sequence[Refutation],
    numbers: Sequence[int],
    whole: Relaxation,
    rows: Sequence[int],
    listed: np.ndarray,
) -> Iterator[tuple[str, np.ndarray]]:
    """Names of tensors, and what comes next in each, of those refutations that have these numbers
    and use no others. whole, rows: the relaxation of the case, and the disjunct's. listed: the
    neurons that have a ν."""
    first = ends_of(whole)
    chosen = [refutations[number] for number in numbers]
    place = {number: place for place, number in enumerate(numbers)}
    for one, flat in zip(chosen, narrow(whole, rows, chosen, earlier=refutations), strict=True):
        yield "refutation.phases", _ints([len(one.phases)])
        yield (
            "phase.literal",
            _ints([2 * (first[k] + i) + (sign > 0) for (k, i), sign in one.phases.items()]),
        )
        yield "refutation.weights", one.weights.double().numpy()
        yield "refutation.bytes", np.array([flat.itemsize], dtype=np.uint8)
        present = flat[listed] != 0
        yield "multipliers.present", np.packbits(present)
        yield f"multipliers.f{8 * flat.itemsize}", flat[listed][present]
        bound = 0
        if one.bound is not None:
            k, i = one.bound.neuron
            bound = 1 + 2 * (first[k] + i) + (one.bound.side < 0)
            yield "refutation.end", np.array([one.bound.end])
        yield "refutation.bound", _ints([bound])
        yield "refutation.uses", _ints([len(one.uses)])
        yield "use.refutation", _ints([place[position] for position in one.uses])


def _ints(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)
