"""Counterexamples: points that were replayed, exactly within their input set.

A candidate that an attack found counts only once one of these two has confirmed it:

- "onnxruntime": what ONNX Runtime computes for the point, in the dtype that the model takes, is
  unsafe.
- "bounds": bounds over the point prove that the network, as a function of real numbers, is unsafe
  there. This is for models that ONNX Runtime does not run (or where it is not installed), and for
  sets that hold no such number of the model's dtype: of the box [0.1, 0.1], the counterexample is
  0.1 itself, and the proof is over a box of two neighbouring float64 around it.

There is no tolerance: the point lies in the box or the ball as the caller wrote its numbers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

import torch
from torch import Tensor

from bounds.errors import BoundsError
from bounds.intermediate.relax import relax
from bounds.network.graph import Network
from bounds.read.onnx.runtime import OnnxRuntime
from bounds.read.vnnlib.property import Case, Property
from bounds.relaxation.specification import Specification
from bounds.sets.box import Box
from bounds.solution.verdict import trusted
from bounds.solvers.solve import solve


class Runtime(Protocol):
    """What evaluates a model: an `OnnxRuntime`, or several."""

    @property
    def dtype(self) -> torch.dtype:
        """What it takes points in."""

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs for one input."""


@dataclass(frozen=True, eq=False)
class Counterexample:
    """x: (*input_shape). y: the unsafe outputs, (*output_shape). replayed_by: what confirmed it."""

    x: Tensor
    y: Tensor
    replayed_by: Literal["onnxruntime", "bounds"]

    def vnncomp(self) -> str:
        """The assignment in the competition's format, in digits that give every float back."""
        pairs = [
            f"({letter}_{index} {value!r})"
            for letter, tensor in (("X", self.x), ("Y", self.y))
            for index, value in enumerate(tensor.flatten().tolist())
        ]
        return "(" + "\n ".join(pairs) + ")"


class Judge:
    """The one place where a point becomes a counterexample.

    It counts only where it lies in the set that the caller wrote, as rational numbers, and its
    outputs were found unsafe: by ONNX Runtime, which has the last word on the points that it was
    given, or else by bounds.

    contains: whether a point lies in that set, exactly. violated_by: whether outputs are unsafe,
    exactly. network: in float64, on the CPU. specification, disjuncts: the unsafe outputs as rows;
    see `proved_unsafe`. runtime: the same model, where there is one.
    """

    def __init__(
        self,
        network: Network,
        specification: Specification,
        disjuncts: Sequence[Sequence[int]],
        *,
        contains: Callable[[Tensor], bool],
        violated_by: Callable[[Tensor], bool],
        runtime: Runtime | None = None,
    ) -> None:
        self.runtime = runtime
        self._network, self._specification, self._disjuncts = network, specification, disjuncts
        self._contains, self._violated_by = contains, violated_by

    def admit(
        self, points: Callable[[torch.dtype], Iterable[Tensor]], *dtypes: torch.dtype
    ) -> Counterexample | None:
        """The first counterexample among candidates, of which `points` makes some in a dtype; in
        the dtype of the runtime, and where the set holds none of those, in these, one by one."""
        if self.runtime is not None:
            for point in filter(self._contains, points(self.runtime.dtype)):
                return self._replayed(point)
        for dtype in dict.fromkeys(dtypes):
            for point in filter(self._contains, points(dtype)):
                found = self.admit_interval(point, point, point)
                if found is not None:
                    return found
        return None

    def _replayed(self, point: Tensor) -> Counterexample | None:
        assert self.runtime is not None
        point = point.reshape(self._network.input_shape)
        y = self.runtime(point)
        if not self._violated_by(y):
            return None
        return Counterexample(point, y.reshape(self._network.output_shape), "onnxruntime")

    def admit_interval(self, lower: Tensor, upper: Tensor, shown: Tensor) -> Counterexample | None:
        """Where all points from lower to upper are unsafe, one of them, which `shown` stands for
        and the caller's set contains, is a counterexample."""
        shape = self._network.input_shape
        box = Box(lower.double().reshape(shape), upper.double().reshape(shape))
        if not proved_unsafe(self._network, box, self._specification, self._disjuncts):
            return None
        x = shown.reshape(shape)
        return Counterexample(x, self._network(x.double().unsqueeze(0))[0], "bounds")


def replay(
    case: Case, property: Property, network: Network, runtime: Runtime | None, x: Tensor
) -> Counterexample | None:
    """The counterexample of a VNN-LIB case that x, or the nearest point that may be one, is.

    network: in float64, on the CPU. runtime: the same model, where there is one.
    """
    x = x.detach().cpu().double().flatten()
    specification = property.specification(case.disjuncts, grown=False)
    judge = Judge(
        network,
        specification,
        case.rows,
        contains=case.contains,
        violated_by=case.violated_by,
        runtime=runtime,
    )

    def clamped(dtype: torch.dtype) -> list[Tensor]:
        lower, upper = case.inner(dtype)
        point = x.to(dtype).clamp(lower, upper)
        return [point if runtime else point.double()] if bool((lower <= upper).all()) else []

    own = torch.float32 if runtime is None else runtime.dtype
    if clamped(own) or clamped(torch.float64):
        return judge.admit(clamped, own, torch.float64)
    # Where no float lies in an interval, its two neighbours around the interval stand for it.
    lower, upper = case.inner(torch.float64)
    held, (below, above) = lower <= upper, case.outer()
    point = x.clamp(lower, upper)
    below, above = torch.where(held, point, below), torch.where(held, point, above)
    ends = torch.tensor([float(end.lower) for end in case.box], dtype=torch.float64)
    return judge.admit_interval(below, above, torch.where(held, point, ends))


def proved_unsafe(
    network: Network,
    box: Box,
    specification: Specification,
    disjuncts: Sequence[Sequence[int]],
) -> bool:
    """Whether for some disjunct all rows are proved negative on the box, which may be a point.

    network, and what is given with it, are in float64.
    """
    d = None if specification.d is None else -specification.d
    relaxation = relax(network, box, Specification(-specification.C, d))
    [bounds] = trusted(solve(relaxation, method="adaptive_slope")).tolist()
    return any(all(bounds[row] > 0 for row in disjunct) for disjunct in disjuncts)


def runtime_of(
    model: object, network: Network, output: str | None = None
) -> Callable[[], OnnxRuntime | None]:
    """ONNX Runtime for a model, started when it is first asked for; None where it cannot be.

    network: what was read of it, which may have left out inputs that its output does not need.
    output: of several the one that is asked for.
    """
    endings = (".onnx", ".onnx.gz")

    @cache
    def start() -> OnnxRuntime | None:
        if not isinstance(model, (str, os.PathLike)) or not os.fsdecode(model).endswith(endings):
            return None
        try:
            runtime = OnnxRuntime(model, outputs=None if output is None else [output])
        except BoundsError:  # not installed, or it does not run this file
            return None
        return runtime if runtime.size == math.prod(network.input_shape) else None

    return start
