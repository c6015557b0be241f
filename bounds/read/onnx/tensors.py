"""The tensors of an ONNX graph while it is read, and what moves their numbers about.

An ONNX tensor has all its axes, the batch among them. What does not depend on the input is a numpy
array. What does is a `Variable`: a tensor of the network under construction that has the same
numbers in the same order, in whatever per-sample shape it was made. So a reshape costs nothing,
and where the batch stands, or whether there is one, need not be guessed.

A file whose input has a fixed shape is read as what it computes of one such input. Where the first
axis is open, that axis is the batch: its size is the placeholder `BATCH`, no operator may mix the
samples, and none may use the size as a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bounds.errors import BoundsError, ModelFileError
from bounds.network.affine import Shape
from bounds.network.build.builder import NetworkBuilder, Symbol
from bounds.read.export.archive import short
from bounds.read.onnx.file import MAX_AXES, OnnxFile

#: Stands for the size of an open batch axis: a prime larger than any size that is read, and whose
#: product with any fits into 64 bits.
BATCH = 2**34 - 41
FIXED_BATCH = "export the model with a batch of the fixed size 1"
#: How many numbers the operators may take and give for one sample, all together, beyond what the
#: builder counts: a few lines in a file can ask for any amount.
MAX_NUMBERS = 2**28
MAX_INTEGERS = 1024  # of a list such as a shape


class OneSample(Exception):
    """The graph has a shape for one sample alone, though its batch is declared open."""


@dataclass(frozen=True, eq=False)
class Variable:
    """A tensor that depends on the input: its numbers in row-major order, and its ONNX shape."""

    symbol: Symbol
    shape: Shape
    dtype: np.dtype


Tensor = Variable | np.ndarray
Axes = Sequence[int] | None


class Tensors:
    """What operators are made of: operations on arrays and Variables alike, and refusals.

    `outputs` is how many outputs the operator being read has, `opset` the version of its set.
    """

    def __init__(self, file: OnnxFile, build: NetworkBuilder, *, batched: bool) -> None:
        self.file, self.build, self.batched = file, build, batched
        self.outputs, self.opset = 1, 0
        self._numbers = MAX_NUMBERS

    # -- refusals

    def refuse(self, what: str, remedy: str) -> BoundsError:
        """The error for an operator that is not modelled; raise what it returns."""
        return self.build.refuse(what, remedy)

    def damaged(self, what: str) -> ModelFileError:
        """The error for an operator that is not valid ONNX; raise what it returns."""
        return self.file.refuse(f"its operator {self.build.at!r} {what}")

    def show(self, shape: Sequence[int]) -> str:
        """A shape for a message."""
        sizes = ["batch" if size == BATCH else str(size) for size in shape[:MAX_AXES]]
        return f"({', '.join(sizes)})"

    # -- variables

    def variable(self, symbol: Symbol, shape: Sequence[int], dtype: np.dtype) -> Variable:
        """A new tensor of the graph, once its shape is seen to be sane."""
        shape = tuple(shape)
        if len(shape) > MAX_AXES or 0 in shape:
            raise self.refuse(f"its result has shape {short(shape)}", "keep no axis of size 0")
        if self.batched and (shape[:1] != (BATCH,) or any(s % BATCH == 0 for s in shape[1:])):
            raise self.refuse("it mixes the samples of a batch whose size is open", FIXED_BATCH)
        self.spend(numbers=math.prod(symbol.shape))
        return Variable(symbol, shape, dtype)

    def spend(self, *, numbers: int) -> None:
        """Count what an operator needs, up to MAX_NUMBERS in all."""
        self._numbers -= numbers
        if self._numbers < 0:
            raise self.refuse(
                f"up to here the operators handle more than {MAX_NUMBERS} numbers a sample",
                "export a smaller model",
            )

    def like(self, symbol: Symbol, x: Variable) -> Variable:
        """A new tensor with the ONNX shape of x."""
        return self.variable(symbol, x.shape, x.dtype)

    def frame(self, x: Variable, axes: Iterable[int] = ()) -> tuple[Symbol, int]:
        """x as a sample that has these axes of the ONNX shape, and how many axes are missing in it.

        The first axis is missing where it is the batch, or has size 1 and is not asked for.
        """
        needed = 0 in axes
        self.require_samples_apart(x, axes)
        gone = int(self.batched or (x.shape[:1] == (1,) and len(x.shape) > 1 and not needed))
        self.spend(numbers=math.prod(x.symbol.shape))
        return self.build.reshape(x.symbol, x.shape[gone:] or (1,)), gone

    def require_samples_apart(self, x: Tensor, axes: Iterable[int]) -> None:
        """Refuse to work along these axes where the batch is among them."""
        if self.batched and isinstance(x, Variable) and 0 in axes:
            raise self.refuse(
                "it works along the batch axis, so a sample's output depends on the others",
                FIXED_BATCH,
            )

    def require_variable(self, x: Tensor) -> Variable:
        """The input of a layer, which has to depend on the network's."""
        if isinstance(x, np.ndarray):
            raise self.refuse("its input is a constant", "fold constants before you export")
        return x

    def images(self, x: Tensor) -> tuple[Variable, Symbol]:
        """The input of a layer over channels, and it as a sample (channels, *spatial)."""
        x = self.require_variable(x)
        symbol, gone = self.frame(x)
        if not gone:
            raise self.refuse(
                f"its input has shape {self.show(x.shape)}, where the first axis is no batch",
                "export the model with a first axis of size 1",
            )
        return x, symbol

    # -- what inputs and attributes say

    def axis(self, rank: int, axis: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < rank:
            raise self.damaged(f"names axis {axis} of {rank}")
        return axis % rank

    def axes(self, rank: int, axes: Iterable[int]) -> tuple[int, ...]:
        found = tuple(self.axis(rank, axis) for axis in axes)
        if len({*found}) < len(found):
            raise self.damaged(f"names one of the axes {short(found)} twice")
        return found

    def integers(self, value: Tensor, role: str) -> list[int]:
        """The integers of an input such as a shape, which has to be a constant."""
        if isinstance(value, Variable):
            raise self.refuse(f"its {role} depends on the input", "use a constant")
        if value.dtype.kind != "i" or value.ndim > 1 or value.size > MAX_INTEGERS:
            raise self.damaged(
                f"has {role} of type {value.dtype} and shape {value.shape}, expected up to "
                f"{MAX_INTEGERS} integers"
            )
        return [int(number) for number in value.reshape(-1)]

    def numbers(
        self, value: Tensor, x: Variable, role: str, computed_in: type[np.floating] | None = None
    ) -> np.ndarray:
        """A constant operand of x, of the same element type, or of that it was computed in."""
        if isinstance(value, Variable):
            raise self.refuse(
                f"its {role} depends on the input, so it is not affine", "use constant parameters"
            )
        if value.dtype != (computed_in or x.dtype):
            raise self.damaged(f"has a {role} of type {value.dtype} for a tensor of {x.dtype}")
        return value

    def number(self, value: Tensor, x: Tensor, role: str) -> float:
        """A constant operand of x that is one number."""
        if isinstance(value, Variable):
            raise self.refuse(f"its {role} depends on the input", "use a constant")
        if value.size != 1 or value.dtype != x.dtype:
            raise self.damaged(f"has a {role} of type {value.dtype} and shape {value.shape}")
        return float(value.item())

    def count(self, number: int) -> np.ndarray:
        """The numbers from 0 on, once there are seen to be few enough."""
        self.file.claim(number)
        return np.arange(number)

    def is_batch_size(self, value: Tensor | None) -> bool:
        """Whether the size of an open batch, or a multiple of it, is among these numbers."""
        if not self.batched or not isinstance(value, np.ndarray) or value.dtype != np.int64:
            return False
        return bool(((value != 0) & (value % BATCH == 0)).any())

    def parameter(self, array: np.ndarray) -> torch.Tensor:
        """An array for the builder, which makes its own copy."""
        return torch.from_numpy(np.ascontiguousarray(array))

    # -- operations

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        if self.batched and math.prod(x.shape) == BATCH * math.prod(shape):
            raise OneSample
        if math.prod(shape) != math.prod(x.shape) or any(size < 0 for size in shape):
            raise self.damaged(f"turns shape {self.show(x.shape)} into {self.show(shape)}")
        if isinstance(x, np.ndarray):
            return x.reshape(shape)
        return self.variable(x.symbol, shape, x.dtype)

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        if isinstance(x, np.ndarray):
            return x.transpose(axes)
        shape = [x.shape[axis] for axis in axes]
        moved = [axis for axis in axes if x.shape[axis] != 1]
        if moved == sorted(moved):  # the numbers stay in order
            return self.variable(x.symbol, shape, x.dtype)
        symbol, gone = self.frame(x, () if axes[0] == 0 else (0,))
        symbol = self.build.transpose(symbol, [axis - gone for axis in axes[gone:]])
        return self.variable(symbol, shape, x.dtype)

    def slice(self, x: Tensor, axis: int, start: int, stop: int, step: int) -> Tensor:
        """Entries along an axis as Python's slices count them."""
        if isinstance(x, np.ndarray):
            return x[(slice(None),) * axis + (slice(start, stop, step),)]
        entries = range(*slice(start, stop, step).indices(x.shape[axis]))
        if entries == range(x.shape[axis]):
            return x
        symbol, gone = self.frame(x, (axis,))
        symbol = self.build.slice(symbol, axis - gone, start, stop, step)
        shape = (*x.shape[:axis], len(entries), *x.shape[axis + 1 :])
        return self.variable(symbol, shape, x.dtype)

    def take(self, x: Tensor, axis: int, index: np.ndarray) -> Tensor:
        """Entries by their numbers along an axis, in whose place the axes of `index` come."""
        size = x.shape[axis]
        if index.dtype.kind != "i" or not bool(((-size <= index) & (index < size)).all()):
            raise self.damaged(
                f"takes entries by {index.dtype} numbers, some of which axis {axis} of shape "
                f"{self.show(x.shape)} has not"
            )
        shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
        if isinstance(x, np.ndarray):
            self.file.claim(math.prod(shape))
            return np.asarray(x.take(index, axis))
        symbol, gone = self.frame(x, (axis,))
        entries = self.parameter(index.reshape(-1) % size)
        return self.variable(self.build.gather(symbol, axis - gone, entries), shape, x.dtype)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        if len({part.dtype for part in parts}) > 1:
            raise self.damaged("joins tensors of several types")
        variables = [part for part in parts if isinstance(part, Variable)]
        if not variables:
            self.file.claim(sum(math.prod(part.shape) for part in parts))
            return np.concatenate([part for part in parts if isinstance(part, np.ndarray)], axis)
        if len(variables) < len(parts) and self.batched:
            raise OneSample
        shapes = [part.shape for part in parts]
        if len({(*shape[:axis], 0, *shape[axis + 1 :]) for shape in shapes}) > 1:
            shown = short(" and ".join(map(self.show, shapes)))
            raise self.damaged(f"joins tensors of shapes {shown} along axis {axis}")
        frames = [self.frame(part, (axis,)) for part in variables]
        # The builder pads each part to the whole.
        self.spend(numbers=len(parts) * sum(math.prod(symbol.shape) for symbol, _ in frames))
        total = sum(shape[axis] for shape in shapes)
        shape = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
        if len(variables) < len(parts):
            symbol = self._among_constants(parts, [symbol for symbol, _ in frames], axis, total)
        else:
            symbol = self.build.concat([symbol for symbol, _ in frames], axis - frames[0][1])
        return self.variable(symbol, shape, variables[0].dtype)

    def _among_constants(
        self, parts: Sequence[Tensor], symbols: Sequence[Symbol], axis: int, total: int
    ) -> Symbol:
        """The symbols, which stand for the variables among the parts, each padded to the whole, and
        the constants added where they come."""
        rank, start = len(parts[0].shape), 0
        constant = np.zeros(self._whole(parts[0].shape, axis, total), parts[0].dtype)
        terms, left = [], iter(symbols)
        for part in parts:
            stop = start + part.shape[axis]
            if isinstance(part, np.ndarray):
                constant[(slice(None),) * axis + (slice(start, stop),)] = part
            else:
                symbol = next(left)
                gone = rank - len(symbol.shape)
                before, after = [0] * len(symbol.shape), [0] * len(symbol.shape)
                before[axis - gone], after[axis - gone] = start, total - stop
                terms.append(self.build.pad(symbol, before, after))
            start = stop
        whole = self.build.total(terms)
        return self.build.shift(whole, self.parameter(constant.reshape(whole.shape)))

    def _whole(self, shape: Shape, axis: int, total: int) -> Shape:
        whole = (*shape[:axis], total, *shape[axis + 1 :])
        self.file.claim(math.prod(whole))
        return whole

    def pad(self, x: Tensor, axis: int, before: int, after: int, value: float) -> Tensor:
        """`value` before and after an axis; a negative number takes entries off."""
        if not before and not after:
            return x
        shape = list(x.shape)
        shape[axis] += before + after
        if isinstance(x, np.ndarray):
            self.file.claim(math.prod(shape))
            x = x[(slice(None),) * axis + (slice(max(-before, 0), x.shape[axis] + after),)]
            widths = [(0, 0)] * len(shape)
            widths[axis] = (max(before, 0), max(after, 0))
            return np.pad(x, widths, constant_values=value)
        symbol, gone = self.frame(x, (axis,))
        left, right = [0] * len(symbol.shape), [0] * len(symbol.shape)
        left[axis - gone], right[axis - gone] = before, after
        return self.variable(self.build.pad(symbol, left, right, value), shape, x.dtype)

    def broadcast(self, *shapes: Shape) -> Shape:
        """The shape that all of these broadcast to."""
        rank = max(map(len, shapes))
        aligned = zip(*[(1,) * (rank - len(shape)) + shape for shape in shapes], strict=True)
        sizes = [sorted({*column} - {1}) or [1] for column in aligned]
        if any(len(size) > 1 for size in sizes):
            shown = " and ".join(map(self.show, shapes))
            raise self.damaged(f"joins tensors of shapes {shown}, which do not broadcast")
        return tuple(size[0] for size in sizes)

    def expand(self, x: Tensor, shape: Shape) -> Tensor:
        """x broadcast to a shape that it fits."""
        if x.shape == shape:
            return x
        if isinstance(x, np.ndarray):
            if any(size and size % BATCH == 0 for size in shape):
                raise self.refuse("it repeats a constant once a sample", FIXED_BATCH)
            self.file.claim(math.prod(shape))
            return np.broadcast_to(x, shape)
        return self.repeat(x, shape)

    def repeat(self, x: Variable, shape: Shape) -> Variable:
        """`expand` of a Variable."""
        if x.shape == shape:
            return x
        x = self.variable(x.symbol, (1,) * (len(shape) - len(x.shape)) + x.shape, x.dtype)
        symbol, gone = self.frame(x, () if x.shape[:1] == shape[:1] else (0,))
        return self.variable(self.build.expand(symbol, shape[gone:]), shape, x.dtype)


def given(t: Tensors, value: Tensor | None, attribute: Axes, role: str) -> Axes:
    """What an attribute, or in later opsets an input, says; None where neither is there."""
    return attribute if value is None else t.integers(value, role)
