"""Instances of VNN-COMP whose answers are known, and whether anything of ours contradicts them.

The answers are those of `ground_truth.csv`: two tools or more agree and none objects, or a
counterexample replays in ONNX Runtime. `counterexamples.npz` has such points, in float32, which may
lie a rounding outside of the box that the property states in decimals.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

import bounds
from benchmarks.support import command
from bounds.certification import Certification
from bounds.certification.counterexample import OnnxRuntime
from bounds.read.vnnlib import Case, Property, read_vnnlib

#: The competition's suite of small instances comes without a table.
SMALL = {
    ("test_nano.onnx", "test_nano.vnnlib"): "unsat",
    ("test_tiny.onnx", "test_tiny.vnnlib"): "unsat",
    ("test_small.onnx", "test_small.vnnlib"): "unsat",
    ("test_sat.onnx", "test_prop.vnnlib"): "sat",
    ("test_unsat.onnx", "test_prop.vnnlib"): "unsat",
}
#: How far outside of a box a known counterexample may lie, relative to its largest number.
OUTSIDE = 1e-6
#: What the evaluation of a network may be off by, relative to its largest output: ours in float64,
#: ONNX Runtime's in float32.
ROUNDING, FLOAT32_ROUNDING = 1e-9, 1e-4
METHODS = ("fixed_slope", "adaptive_slope", "exact")


@dataclass(frozen=True, eq=False)
class Instance:
    """truth: "unsat", "sat", or "" where it is not known. point: a counterexample, where known."""

    suite: str
    model: Path
    property: Path
    truth: str
    point: Tensor | None = None

    @property
    def name(self) -> str:
        return f"{self.suite}: {self.model.name} {self.property.name}"


def suites(data: Path) -> list[str]:
    return sorted(folder.name for folder in (data / "vnncomp").iterdir() if folder.is_dir())


def suite_options(parser: argparse.ArgumentParser, console: Console) -> argparse.Namespace:
    """What was asked for, with --suite; ends the program where there is none of that name."""
    parser.add_argument("--suite", nargs="+", metavar="NAME", default=["acasxu"])
    options = command.options_of(parser, console)
    known = suites(options.data)
    unknown = [name for name in options.suite if name not in known]
    if unknown:
        parser.error(f"no suite {', '.join(unknown)}; there are {known}")
    return options


def instances(data: Path, suite: str) -> list[Instance]:
    """All instances of a suite, in the order of its table."""
    folder = data / "vnncomp" / suite
    if suite == "test":
        return [
            Instance(suite, folder / model, folder / property, truth)
            for (model, property), truth in SMALL.items()
        ]
    points: dict[str, Tensor] = {}
    if (folder / "counterexamples.npz").exists():
        with np.load(folder / "counterexamples.npz") as archive:
            points = {name: torch.from_numpy(archive[name]) for name in archive.files}
    with (folder / "ground_truth.csv").open() as stream:
        return [
            Instance(
                suite,
                folder / row["onnx"],
                folder / row["vnnlib"],
                row["verdict"] if row["verdict"] in ("sat", "unsat") else "",
                points.get(f"{row['onnx']}|{row['vnnlib']}"),
            )
            for row in csv.DictReader(stream)
        ]


def check(instance: Instance, *, timeout: float) -> dict[str, Any]:
    """Certify the instance; the record has what we found and every contradiction, in words."""
    start = time.perf_counter()
    stated = read_vnnlib(instance.property)
    found = bounds.certify_vnnlib(instance.model, stated, timeout=timeout)
    seconds = time.perf_counter() - start
    contradictions = list(_against_replay(instance, stated, found))
    if instance.truth and found.verdict not in (instance.truth, "unknown"):
        contradictions.append(f"we say {found.verdict}, the competition {instance.truth}")
    record: dict[str, Any] = {
        "truth": instance.truth,
        "verdict": found.verdict,
        "seconds": round(seconds, 3),
    }
    if instance.point is not None:
        if found.verdict == "unsat":
            contradictions.append("we say unsat, but a counterexample is known")
        record["compared"] = 0
        for index, case in enumerate(stated.cases):
            above = _AtPoint.within(instance, stated, case)
            if above is not None:
                contradictions += above.contradicted_by("certify_vnnlib", found.lower[index])
                contradictions += above.contradicted_by_methods(timeout)
                record["compared"] += 1
    return {**record, "contradictions": contradictions}


def _against_replay(instance: Instance, stated: Property, found: Certification) -> Iterator[str]:
    """Our counterexamples once more, in a session of their own."""
    for case, point in zip(stated.cases, found.counterexamples, strict=True):
        if point is None:
            continue
        if point.replayed_by == "onnxruntime":
            y = OnnxRuntime(instance.model)(point.x)
            if not case.contains(point.x):
                yield "our counterexample lies outside of its box"
        else:  # ONNX Runtime has no such point: the box holds no number of the model's dtype
            network = bounds.from_onnx(instance.model, dtype=torch.float64)
            y = network(point.x.unsqueeze(0))[0]
        if not case.violated_by(y):
            yield f"our counterexample, replayed by {point.replayed_by}, does not replay again"


@dataclass(frozen=True, eq=False)
class _AtPoint:
    """What the rows of one case are worth at a known counterexample.

    x: in the case's box, (*input_shape). values: of the rows, by who evaluates, with the error that
    this may have.
    """

    stated: Property
    case: Case
    network: bounds.Network
    x: Tensor
    values: dict[str, tuple[Tensor, Tensor]]

    @staticmethod
    def within(instance: Instance, stated: Property, case: Case) -> _AtPoint | None:
        """None where the counterexample lies outside of the case's box."""
        assert instance.point is not None
        point = instance.point.double().flatten()
        x = point.clamp(*case.outer())
        if (x - point).abs().max() > OUTSIDE * point.abs().max().clamp(min=1):
            return None
        network = bounds.from_onnx(instance.model, dtype=torch.float64)
        x = x.reshape(network.input_shape)
        rows = stated.specification(case.disjuncts, grown=True)
        assert rows.d is not None
        values = {}
        for who, y, rounding in (
            ("our network", network(x.unsqueeze(0)), ROUNDING),
            ("ONNX Runtime", OnnxRuntime(instance.model)(x).double(), FLOAT32_ROUNDING),
        ):
            y = y.flatten()
            size = rows.C.flatten(1).abs() @ y.abs().clamp(min=1) + rows.d.abs()
            values[who] = (rows.C.flatten(1) @ y + rows.d, rounding * size)
        return _AtPoint(stated, case, network, x, values)

    def contradicted_by(self, method: str, lower: Tensor) -> Iterator[str]:
        """Lower bounds of the case's rows, NaN after the last, that are above what they are."""
        for who, (value, slack) in self.values.items():
            above = (lower[: len(value)] - value).double()
            if bool((above > slack).any()):
                yield f"{method}'s lower bound is {float(above.max()):.3g} above {who}'s value"

    def contradicted_by_methods(self, timeout: float) -> Iterator[str]:
        """The same of every method's bounds, and of the bounds of the ReLUs' inputs."""
        shape = self.network.input_shape
        box = self.stated.box([self.case], shape, torch.float64)
        rows = self.stated.specification(self.case.disjuncts, grown=True)
        relaxation = bounds.relax(self.network, box, rows)
        found: list[Tensor] = []

        def keep(position: int, value: Tensor) -> Tensor:
            found.append(value[0])
            return value.clamp(min=0)

        self.network.evaluate(self.x.unsqueeze(0), keep)
        for k, (neurons, value) in enumerate(zip(relaxation.relu_bounds, found, strict=True)):
            slack = ROUNDING * value.abs().max().clamp(min=1)
            beyond = torch.maximum(neurons.lower[0] - value, value - neurons.upper[0]).max()
            if bool(beyond > slack):
                yield f"an input of ReLU {k} is {float(beyond):.3g} beyond its bounds"
        for method in METHODS:
            limit = {"time_limit": timeout} if method == "exact" else {}
            solution = bounds.solve(relaxation, method=method, **limit)  # type: ignore[arg-type]
            yield from self.contradicted_by(method, solution.lower[0])
