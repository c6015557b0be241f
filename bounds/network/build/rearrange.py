"""Layers that only move numbers: every output is one of the inputs, or padding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bounds.network.affine import Reshape, transposed
from bounds.network.build.base import LayerBuilder, Symbol
from bounds.network.graph import SumNode
from bounds.network.indexing import Select


class Rearrangements(LayerBuilder):
    """Reshapes, permutations, slices, repeats, concatenation and padding."""

    def reshape(self, x: Symbol, shape: Sequence[int]) -> Symbol:
        """The same numbers in another shape, in which one entry may be -1."""
        target, size = list(shape), math.prod(x.shape)
        if target.count(-1) == 1:
            known = math.prod(s for s in target if s != -1)
            target[target.index(-1)] = size // known if known else 0
        if math.prod(target) != size or min(target, default=0) < 1:
            raise self.misfit(x, f"something that reshapes to {tuple(shape)} a sample")
        if tuple(target) == x.shape:
            return x
        return self._affine(x, Reshape(x.shape, tuple(target)))

    def select(self, x: Symbol, index: Tensor) -> Symbol:
        """x.flatten()[index], in the shape of the index; what each output reads, from 0."""
        size = math.prod(x.shape)
        self.require_shape(index.shape)
        index = index.to(self.device, torch.int64).contiguous()
        if index.min() < 0 or index.max() >= size:
            read = f"{int(index.min())} to {int(index.max())}"
            raise self.misfit(x, f"a sample that has the places {read}")
        if index.numel() == size and torch.equal(index.flatten(), self.places(x).flatten()):
            return self.reshape(x, index.shape)
        return self._affine(x, Select(x.shape, tuple(index.shape), index))

    def transpose(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        """The axes in this order."""
        if sorted(axes) != list(range(len(x.shape))):
            raise self.misfit(x, f"a sample of the axes {tuple(axes)}")
        return self.select(x, self.places(x).permute(*axes))

    def slice(
        self, x: Symbol, axis: int, start: int | None, stop: int | None, step: int | None = None
    ) -> Symbol:
        """x[start:stop:step] along one axis, as in numpy, steps below 0 included."""
        if step == 0:
            raise self.refuse("it is a slice of step 0", "use a step that is not 0")
        self.require_shape(x.shape)
        chosen = np.arange(self.size(x, axis))[start:stop:step]
        return self.gather(x, axis, torch.from_numpy(chosen.copy()))

    def gather(self, x: Symbol, axis: int, index: Tensor) -> Symbol:
        """numpy.take: the entries `index` of one axis, in the index's shape."""
        size = self.size(x, axis)
        shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
        self.require_shape(shape)
        if index.min() < -size or index.max() >= size:
            read = f"{int(index.min())} to {int(index.max())}"
            raise self.misfit(x, f"entries {read} along axis {axis}, the batch not counted")
        index = index.to(self.device, torch.int64) % size
        return self.select(x, self.places(x).index_select(axis, index.flatten()).reshape(shape))

    def expand(self, x: Symbol, shape: Sequence[int]) -> Symbol:
        """Repeated to this shape, by the rules of broadcasting."""
        self.require_shape(shape)
        try:
            return self.select(x, self.places(x).expand(*shape))
        except RuntimeError as error:
            raise self.misfit(x, f"something that broadcasts to {tuple(shape)}") from error

    def concat(self, parts: Sequence[Symbol], axis: int) -> Symbol:
        """The parts one after the other along an axis: the sum of each padded to the whole."""
        total = sum(self.size(part, axis) for part in parts)
        if len({(*part.shape[:axis], *part.shape[axis + 1 :]) for part in parts}) != 1:
            others = ", ".join(str(part.shape) for part in parts[1:])
            raise self.misfit(parts[0], f"one that {others} differ from along axis {axis} alone")
        terms, start = [], 0
        for part in parts:
            before, after = [0] * len(part.shape), [0] * len(part.shape)
            before[axis], after[axis] = start, total - start - part.shape[axis]
            terms.append(self.pad(part, before, after))
            start += part.shape[axis]
        return self.total(terms)

    def pad(
        self, x: Symbol, before: Sequence[int], after: Sequence[int], value: float = 0.0
    ) -> Symbol:
        """`value` before and after each axis; a negative number takes entries off."""
        if not len(before) == len(after) == len(x.shape):
            raise self.misfit(x, f"{len(before)} axes, as its padding has")
        # What is put on may be all that is left where something is taken off.
        x = self._padded(x, [max(b, 0) for b in before], [max(a, 0) for a in after], value)
        for axis, (b, a) in enumerate(zip(before, after, strict=True)):
            if b < 0 or a < 0:
                x = self.slice(x, axis, max(-b, 0), max(x.shape[axis] + min(a, 0), 0))
        return x

    def _padded(
        self, x: Symbol, before: Sequence[int], after: Sequence[int], value: float
    ) -> Symbol:
        if not any(before) and not any(after):
            return x
        shape = tuple(b + n + a for b, n, a in zip(before, x.shape, after, strict=True))
        self.require_shape(shape)
        inside = tuple(slice(b, b + n) for b, n in zip(before, x.shape, strict=True))
        index = torch.arange(math.prod(shape), device=self.device).reshape(shape)[inside]
        bias = None
        if value != 0:
            bias = torch.full(shape, value, dtype=self.dtype, device=self.device)
            bias[inside] = 0
            bias = self.tensor(bias)
        return self._affine(x, transposed(Select(shape, x.shape, index.contiguous()), bias))

    def total(self, terms: Sequence[Symbol]) -> Symbol:
        """The sum of symbols of one shape."""
        if len(terms) == 1:
            return terms[0]
        return self._add(SumNode(self.at, terms[0].shape, tuple(term.index for term in terms)))

    def places(self, x: Symbol) -> Tensor:
        """The flat index of every number of the sample, in the sample's shape."""
        self.require_shape(x.shape)
        return torch.arange(math.prod(x.shape), device=self.device).reshape(x.shape)

    def size(self, x: Symbol, axis: int) -> int:
        """The length of an axis of the sample, which has to be there."""
        if not 0 <= axis < len(x.shape):
            raise self.misfit(x, f"an axis {axis}, counted from 0 and without the batch")
        return x.shape[axis]
