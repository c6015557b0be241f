"""Counterexamples: points that were replayed, exactly within their input set.

A candidate that an attack found counts only once one of these two has confirmed it:

- "onnxruntime": the point, in the dtype that the model takes, lies in the box exactly, and what
  ONNX Runtime computes for it is unsafe. There is no tolerance.
- "bounds": bounds over the point prove that the network, as a function of real numbers, is unsafe
  there. This is for models that ONNX Runtime does not run (or where it is not installed), for
  balls, and for boxes that hold no number of the model's dtype: of [0.1, 0.1], the counterexample
  is 0.1 itself, and the proof is over a box of two neighbouring float64 around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bounds.intermediate.relax import relax
from bounds.network.graph import Network
from bounds.read.onnx.runtime import OnnxRuntime
from bounds.read.vnnlib.property import Case, Property
from bounds.relaxation.specification import Specification
from bounds.sets.box import Box
from bounds.solution.verdict import trusted
from bounds.solvers.solve import solve


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


def replay(
    case: Case, property: Property, network: Network, runtime: OnnxRuntime | None, x: Tensor
) -> Counterexample | None:
    """The counterexample of a VNN-LIB case that x, or the nearest point that may be one, is.

    network: in float64, on the CPU. runtime: the same model, where there is one.
    """
    x = x.detach().cpu().double().flatten()
    lower, upper = case.inner(torch.float32 if runtime is None else runtime.dtype)
    if runtime is not None and bool((lower <= upper).all()):
        point = x.to(runtime.dtype).clamp(lower, upper)
        y = runtime(point)
        if not (case.contains(point) and case.violated_by(y)):
            return None
        return Counterexample(
            point.reshape(network.input_shape), y.reshape(network.output_shape), "onnxruntime"
        )
    if not bool((lower <= upper).all()):
        lower, upper = case.inner(torch.float64)
    # Where no float lies in an interval, its two neighbours around the interval stand for it.
    held, (below, above) = lower <= upper, case.outer()
    point = x.to(lower.dtype).clamp(lower, upper).double()
    below, above = torch.where(held, point, below), torch.where(held, point, above)
    specification = property.specification(case.disjuncts, grown=False)
    if not proved_unsafe(network, below, above, specification, case.rows):
        return None
    shown = torch.where(
        held, point, torch.tensor([float(end.lower) for end in case.box], dtype=torch.float64)
    )
    shown = shown.reshape(network.input_shape)
    return Counterexample(shown, network(shown.unsqueeze(0))[0], "bounds")


def proved_unsafe(
    network: Network,
    lower: Tensor,
    upper: Tensor,
    specification: Specification,
    disjuncts: Sequence[Sequence[int]],
) -> bool:
    """Whether for some disjunct all rows are proved negative on the box, which may be a point.

    network, and what is given with it, are in float64.
    """
    box = Box(lower.reshape(network.input_shape), upper.reshape(network.input_shape))
    d = None if specification.d is None else -specification.d
    relaxation = relax(network, box, Specification(-specification.C, d))
    [bounds] = trusted(solve(relaxation, method="adaptive_slope")).tolist()
    return any(all(bounds[row] > 0 for row in disjunct) for disjunct in disjuncts)
