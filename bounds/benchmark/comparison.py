"""Results beside another tool's: where they contradict each other, who is right?

A counterexample decides: it is read from the result file, replayed by ONNX Runtime, and compared
with the property exactly. Without one nothing does, and the contradiction stands.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bounds.benchmark.instances import Instance, existing
from bounds.benchmark.results import Result
from bounds.certification.queries import satisfied
from bounds.errors import BoundsError
from bounds.read.onnx.runtime import OnnxRuntime
from bounds.read.vnnlib.query_reader import is_query, query_of
from bounds.read.vnnlib.reader import property_of
from bounds.read.vnnlib.syntax import Source

#: How tools name the file of a counterexample, beside results.csv.
PATTERNS = ("{}_{}.counterexample", "{}_{}.counterexample.gz", "{}__{}.txt", "instances/{}__{}.txt")
_TENSOR = re.compile(r"([A-Za-z]\w*)\s+\w+\s+\[[\d,\s]*\]", re.ASCII)
_PAIR = re.compile(r"\(\s*X_(\d+)\s+([^\s()]+)\s*\)")


@dataclass(frozen=True)
class Contradiction:
    """judgement: whose counterexample holds or fails, in words."""

    ours: Result
    theirs: Result
    judgement: str


def compared(ours: Sequence[Result], theirs: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Those of the same instances, by the names of their files."""
    found = {result.key: result for result in theirs}
    return [(result, found[result.key]) for result in ours if result.key in found]


def contradictions(
    folder: Path,
    instances: Sequence[Instance],
    pairs: Sequence[tuple[Result, Result]],
    *,
    own: Path,
    other: Path,
) -> list[Contradiction]:
    """own, other: the folders that have the counterexamples of both."""
    by_key = {instance.key: instance for instance in instances}
    return [
        Contradiction(
            one, two, _judged(folder, by_key[one.key], own if one.verdict == "sat" else other)
        )
        for one, two in pairs
        if one.solved and two.solved and one.verdict != two.verdict
    ]


def _judged(folder: Path, instance: Instance, place: Path) -> str:
    names = [pattern.format(*instance.key) for pattern in PATTERNS]
    path = next((place / name for name in names if (place / name).exists()), None)
    if path is None:
        return "nobody's: there is no file with the counterexample"
    try:
        holds = replayed(folder, instance, path)
    except (BoundsError, OSError, ValueError) as error:
        return f"nobody's: the counterexample cannot be replayed ({error})"
    return "sat: the counterexample holds" if holds else "not sat: the counterexample does not hold"


def replayed(folder: Path, instance: Instance, path: Path) -> bool:
    """Whether the counterexample in a file is one, exactly, with what ONNX Runtime computes.

    Raises ValueError where the file has none.
    """
    source, model = Source.read(existing(folder, instance.query)), existing(folder, instance.model)
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    if is_query(source):
        return satisfied(query_of(source), model, _tensors(text))
    property = property_of(source)
    pairs = {int(index): float(value) for index, value in _PAIR.findall(text)}
    if sorted(pairs) != list(range(property.inputs)):
        raise ValueError(f"{path.name} has no value for some of the {property.inputs} inputs")
    runtime = OnnxRuntime(model)
    exact = torch.tensor([pairs[index] for index in range(property.inputs)], dtype=torch.float64)
    point = exact.to(runtime.dtype)
    y = runtime(point)
    return any(case.contains(point.double()) and case.violated_by(y) for case in property.cases)


def _tensors(text: str) -> dict[str, list[float]]:
    """An assignment as the VNN-LIB standard writes it: a line for each tensor, and its numbers."""
    found: dict[str, list[float]] = {}
    numbers: list[float] = []
    for line in text.split("\n")[1:]:
        match = _TENSOR.fullmatch(line.strip())
        if match:
            numbers = found.setdefault(match[1], [])
        elif line.strip():
            numbers.append(float(line))
    return found
