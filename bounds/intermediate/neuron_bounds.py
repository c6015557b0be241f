"""Bounds by passes of their own: l ≤ ẑ ≤ u of single neurons, and lower bounds of rows.

Thousands of neurons, each with a pass through the layers below (`bounds.dual.one_pass`), in parts
that fit, of which gradients keep little (`bounds.dual.recomputed`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from bounds.deadline import NEVER, Deadline
from bounds.dual.descent import numbers_at_a_time, numbers_at_input, numbers_of_neuron
from bounds.dual.fixed_slope import Faces
from bounds.dual.one_pass import OnePass
from bounds.dual.recomputed import Part, recomputed
from bounds.network.affine import Convert
from bounds.network.graph import Network, ReluNode
from bounds.network.memory import numbers_at_once, pass_numbers
from bounds.relaxation.ranges import Range
from bounds.relaxation.relaxation import Relaxation
from bounds.relaxation.triangle import ReluBounds
from bounds.sets.box import InputSet
from bounds.sets.norm_ball import NormBall

#: Numbers that the bounds of a row over a norm ball hold at a time, for each coordinate.
NORM_COPIES = 16


def neuron_bounds(
    network: Network,
    input_set: InputSet,
    below: Sequence[ReluBounds],
    ranges: Sequence[Range],
    start: int,
    wanted: Tensor,
    *,
    slope: str,
    max_memory: int | None,
    deadline: Deadline = NEVER,
) -> ReluBounds:
    """The bounds of those neurons of node `start` that are wanted, infinite for the others, and for
    those that are not reached in time. A neuron that is dead, by an upper bound from a pass of its
    own, gets no lower one: nothing depends on it.

    wanted: (batch, *shape), of bools. below, ranges: of the ReLUs and nodes below. slope: "fixed"
    or "adaptive".
    """
    scene = _Scene(network, input_set, tuple(Faces.of(neurons, slope) for neurons in below))
    numbers = numbers_of_neuron(network, start)
    kept = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in scene.tensors)
    held = numbers if kept else min(numbers, numbers_at_a_time(network, start))
    # A norm makes many copies of its rows, and takes whole ones where it is not around its centre.
    copies = 0
    if isinstance(input_set, NormBall):
        seen = numbers_at_input(network, start) if input_set.centred else input_set.lower[0].numel()
        copies = NORM_COPIES * seen
    rows = numbers_at_once(input_set.lower, max_memory) // max(1, held + copies)
    # Without a ReLU below there is no slope to choose, and one pass gives both sides.
    bent = any(isinstance(network.nodes[index], ReluNode) for index in network.behind(start))
    odd = slope == "fixed" or not bent

    def passes(tensors: Sequence[Tensor], wanted: Tensor, first: bool) -> Iterator[Part]:
        flat = wanted.flatten(1)
        found = flat.nonzero()[:, 1]
        counts = flat.sum(1)
        begins = counts.cumsum(0) - counts
        # Inputs with about as many neurons share a pass: each has as many rows as the largest.
        counts, images = counts.sort(descending=True, stable=True)
        sort = partial(torch.index_select, dim=0, index=images)
        begins, ordered = sort(begins), scene.of(tensors).sorted(sort)
        sorted_ranges = [each.convert(sort) for each in ranges[: start + 1]]
        one = OnePass(*ordered.parts, sorted_ranges, start, odd=odd)
        for some, part in _parts(counts.tolist(), rows):
            if first and deadline.passed:
                return
            row = torch.arange(part.start, part.stop, device=flat.device)
            own = row < counts[some].unsqueeze(1)
            # Inputs with fewer neurons fill up with their last one.
            row = row.minimum(counts[some].unsqueeze(1) - 1)
            neurons = found[begins[some].unsqueeze(1) + row]
            if odd:
                lower, upper = one.neurons(some, neurons, 1.0)
            else:
                lower, upper = _both_sides(one, some, neurons)
            places = flat.shape[1] * images[some].unsqueeze(1) + neurons
            yield places[own], lower[own], upper[own]

    return ReluBounds(*recomputed(passes, scene.tensors, wanted, numbers))


def _both_sides(one: OnePass, images: slice, neurons: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers below and above, by a pass each; none below neurons that are dead."""
    upper = -one.neurons(images, neurons, -1.0)[0]
    alive = ~(upper <= 0)
    count = int(alive.sum(1).max())
    if count == 0:
        return torch.full_like(upper, -math.inf), upper
    # Inputs with fewer fill up with others.
    chosen = torch.argsort(alive, dim=1, descending=True, stable=True)[:, :count]
    found = one.neurons(images, neurons.gather(1, chosen), 1.0)[0]
    lower = torch.full_like(upper, -math.inf).scatter(1, chosen, found)
    return torch.where(alive, lower, -math.inf), upper


def row_bounds(relaxation: Relaxation) -> Tensor:
    """The lower bounds that `solve(relaxation, method="fixed_slope")` gives, up to how their
    rounding is bounded, and nothing else; (batch, rows)."""
    network, C, d = relaxation.network, relaxation.C, relaxation.d
    faces = tuple(Faces.of(neurons, "fixed") for neurons in relaxation.relu_bounds)
    scene, ranges = _Scene(network, relaxation.input_set, faces), relaxation.ranges()
    last, numbers = len(network.nodes) - 1, pass_numbers(network)
    together = max(1, numbers_at_once(C, None) // (numbers * C.shape[1]))
    places = torch.arange(d.numel(), device=d.device).reshape(d.shape)

    def passes(tensors: Sequence[Tensor], wanted: Tensor, _: bool) -> Iterator[Part]:
        one = OnePass(*scene.of(tensors).parts, ranges, last, odd=True)
        for first in range(0, len(C), together):
            some = slice(first, first + together)
            lower, upper = one.rows(some, C[some], d[some])
            yield places[some].flatten(), lower.flatten(), upper.flatten()

    every = torch.ones_like(d, dtype=torch.bool)
    return recomputed(passes, scene.tensors, every, numbers, all_matter=True)[0]


@dataclass(frozen=True, eq=False)
class _Scene:
    """All that passes depend on and gradients flow to."""

    network: Network
    input_set: InputSet
    faces: tuple[Faces, ...]

    @property
    def parts(self) -> tuple[Network, InputSet, tuple[Faces, ...]]:
        return self.network, self.input_set, self.faces

    @property
    def tensors(self) -> list[Tensor]:
        found: list[Tensor] = []

        def note(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self._converted(note)
        return found

    def of(self, tensors: Sequence[Tensor]) -> _Scene:
        """The same with other tensors, in the same order."""
        others = iter(tensors)
        return self._converted(lambda _: next(others))

    def sorted(self, sort: Convert) -> _Scene:
        """The same with the inputs in another order."""
        faces = tuple(each.convert(sort) for each in self.faces)
        return _Scene(self.network, self.input_set.convert(sort), faces)

    def _converted(self, convert: Convert) -> _Scene:
        return replace(self.sorted(convert), network=self.network.convert(convert))


def _parts(counts: list[int], rows: int) -> Iterator[tuple[slice, range]]:
    """Inputs, whose numbers of neurons fall, and which of their neurons a pass of so many rows
    takes."""
    image = 0
    while image < len(counts) and counts[image] > 0:
        count = counts[image]
        together = max(1, rows // count)
        share = -(-count // -(-count // max(1, rows)))
        for first in range(0, count, share):
            yield slice(image, image + together), range(first, min(count, first + share))
        image += together
