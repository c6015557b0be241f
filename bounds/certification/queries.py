"""Verdicts for queries in VNN-LIB 2.0, and for properties in version 1 in the same words."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from bounds.arguments import all_finite, shown
from bounds.certification.choice import Method
from bounds.certification.conjunctions import with_sums
from bounds.certification.counterexample import Counterexample, Runtime, runtime_of
from bounds.certification.decision import Watch
from bounds.certification.properties import certify_property
from bounds.certification.run import Run
from bounds.dual.primal import evaluation_errors
from bounds.errors import InvalidInputError
from bounds.intermediate.relax import relax
from bounds.network.compose import side_by_side
from bounds.read.load import load
from bounds.read.vnnlib.property import Interval, Property, outward
from bounds.read.vnnlib.query import Declared, Query
from bounds.read.vnnlib.query_cases import Cases, cases_of
from bounds.read.vnnlib.query_models import Model, read_models
from bounds.read.vnnlib.query_reader import is_query, query_of
from bounds.read.vnnlib.reader import property_of
from bounds.read.vnnlib.syntax import Source
from bounds.relaxation.specification import Specification
from bounds.sets.box import Box

Path = str | os.PathLike[str]
#: What a proof over numbers of a type has to survive: see `bounds.solution.deployment`.
DEPLOYED = {"float32": torch.float32, "float64": torch.float64, "real": None}


@dataclass(frozen=True, eq=False)
class Answer:
    """verdict: "sat" (a satisfying assignment was found and replayed), "unsat" (proved: there is
    none), "unknown", or "timed-out". assignment: of "sat", each tensor that is declared and its
    numbers, in the order of declaration. reason: of the others, in words, where one is known.
    version: of the language that the query is in.

    >>> Answer("unsat").lines()
    []
    """

    verdict: Literal["sat", "unsat", "unknown", "timed-out"]
    assignment: tuple[tuple[Declared, Tensor], ...] = ()
    reason: str = ""
    version: int = 2

    def lines(self) -> list[str]:
        """The assignment as the standard writes it, in digits that give every float back."""
        found = []
        for tensor, values in self.assignment:
            found.append(f"{tensor.name} {tensor.element} [{','.join(map(str, tensor.shape))}]")
            for value in values.flatten().tolist():
                found.append(str(int(value)) if "int" in tensor.element else repr(value))
        return found


def vnncomp(answer: Answer) -> str:
    """The answer as the competition has it in the file of an instance: of version 1 with an
    assignment of its own form, of version 2 with that of the standard."""
    lines = answer.lines()
    if answer.version == 1:
        pairs = [f"({tensor.name} {value.item()!r})" for tensor, value in answer.assignment]
        lines = ["(" + "\n ".join(pairs) + ")"] if pairs else []
    verdict = "timeout" if answer.verdict == "timed-out" else answer.verdict
    return "\n".join([verdict, *lines, ""])


@torch.inference_mode(False)
def verify(
    query: Path | Query,
    networks: Mapping[str, Path] | Path,
    *,
    timeout: float | None = None,
    seed: int = 0,
    method: Method = "auto",
    watch: Watch | None = None,
) -> Answer:
    """Whether a query in VNN-LIB can be satisfied.

    A query over float32 or float64 is about what the models compute in that type: proofs hold for
    sums in any order (see `deployment_margin`), and an assignment is replayed by ONNX Runtime. A
    query over real is about the models as functions of real numbers.

    Args:
        query: the path of a .vnnlib file of version 1 or 2, gzipped or not, or what `read_query`
            returns.
        networks: the .onnx file of each network that the query declares and that is not equal to
            another, by their names; or one file, where there is only one such network.
        timeout, seed, method, watch: as for `certify_vnnlib`.

    Raises:
        InvalidInputError: a query that cannot be read or is not linear; models that are missing,
            too many, or of other inputs or outputs than it declares; a timeout of 0 or less.
        ModelFileError, UnsupportedLayerError: what `from_onnx` refuses.

    >>> from onnx import TensorProto, helper, save
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "", [x], [y])
    >>> opset = helper.make_opsetid("", 17)
    >>> save(helper.make_model(graph, opset_imports=[opset], ir_version=8), "relu.onnx")
    >>> with open("query.vnnlib", "w") as file:
    ...     _ = file.write('''(vnnlib-version <2.0>)
    ... (declare-network f (declare-input X float32 [1,1]) (declare-output Y float32 [1,1]))
    ... (assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0) (< Y[0,0] -0.5)))''')
    >>> verify("query.vnnlib", {"f": "relu.onnx"}).verdict
    'unsat'
    """
    if not isinstance(networks, (str, os.PathLike, Mapping)):
        raise InvalidInputError(
            f"verify got {shown(networks)} for the networks, expected their files by name, such as "
            "{'f': 'model.onnx'}, or one path."
        )
    start = partial(
        Run,
        "verify",
        timeout=timeout,
        seed=seed,
        dtype=torch.float64,
        method=method,
        watch=watch,
        proof=None,
    )
    if isinstance(query, Query):
        return _Verification(query, start(deployed=DEPLOYED[query.element])).answer(networks)
    run = start(deployed=None)
    source = Source.read(query)
    if not is_query(source):
        return _first_version(run, property_of(source), networks)
    return _Verification(query_of(source), run).answer(networks)


def _first_version(run: Run, property: Property, networks: Mapping[str, Path] | Path) -> Answer:
    paths = list(networks.values()) if isinstance(networks, Mapping) else [networks]
    if len(paths) != 1:
        raise InvalidInputError(
            f"VNN-LIB {property.name!r} is of version 1 and about one network, got "
            f"{len(paths)}: give one, as NAME=MODEL.onnx."
        )
    [path] = paths
    network = load(path, dtype=torch.float64).detach()
    property.require_fit(network.input_shape, network.output_shape)
    found = certify_property(
        run, network, property, runtime=runtime_of(path, network), dtype=torch.float64
    )
    counterexample = next((c for c in found.counterexamples if c is not None), None)
    if counterexample is None:
        return _without(run, found.verdict)
    inputs, outputs = counterexample.x.flatten(), counterexample.y.flatten()
    declared = [(Declared(f"X_{i}", "input", "real", ()), x) for i, x in enumerate(inputs)]
    declared += [(Declared(f"Y_{i}", "output", "real", ()), y) for i, y in enumerate(outputs)]
    return Answer("sat", tuple(declared), version=1)


def satisfied(query: Query, networks: Path, inputs: Mapping[str, Sequence[float]]) -> bool:
    """Whether a query holds for these inputs, by the names of their tensors, with what ONNX Runtime
    computes for them; networks: the file of the only one that stands for itself.

    Raises InvalidInputError where an input is missing or has another size, or a model no runtime.
    """
    numbers = [Fraction(0)] * sum(tensor.size for tensor in query.tensors)

    def put(tensors: Sequence[Declared], values: Sequence[float]) -> None:
        for place, value in zip(query.places(tensors), values, strict=True):
            numbers[place] = Fraction(value)

    models = read_models(query, _by_name(query, networks))
    for declaration, model in zip(query.networks, models, strict=True):
        values: list[float] = []
        for tensor in declaration.inputs:
            found = inputs.get(tensor.name, ())
            if len(found) != tensor.size:
                raise InvalidInputError(
                    f"{tensor.name} has {len(found)} numbers, expected {tensor.size}: give all."
                )
            values += found
        if model.runtime is None:
            raise InvalidInputError("ONNX Runtime does not run the model: pip install onnxruntime.")
        point = torch.tensor(values, dtype=torch.float64).to(model.runtime.dtype)
        computed = model.runtime(point).double().flatten()
        if not all_finite(computed):
            return False
        put(declaration.inputs, point.tolist())
        put(declaration.hidden + declaration.outputs, computed.tolist())
    return query.holds(numbers)


def _by_name(query: Query, path: Path) -> dict[str, Path]:
    """The file of a query that has one network that stands for itself."""
    own = [network.name for network in query.networks if network.equal_to is None]
    return dict.fromkeys(own[:1], path)


def _without(run: Run, verdict: str, reason: str = "") -> Answer:
    """An answer without an assignment."""
    if verdict == "unsat":
        return Answer("unsat")
    return Answer("timed-out" if run.timed_out else "unknown", reason=reason)


class _Verification:
    def __init__(self, query: Query, run: Run) -> None:
        self.query, self.run = query, run
        run.deployed = DEPLOYED[query.element]

    def answer(self, networks: Mapping[str, Path] | Path) -> Answer:
        query = self.query
        if not isinstance(networks, Mapping):
            networks = _by_name(query, networks)
        models = read_models(query, networks)
        cases = cases_of(query, partial(self._sizes, models))
        property = cases.property
        if not property.cases:
            return Answer("unsat")
        places = self._places(cases.member)
        parts = [model.network.detach() for model in models]
        network = side_by_side(parts, places, property.inputs, with_input=cases.mixed)
        property = with_sums(network, property)
        runtime = _together(models, places, mixed=cases.mixed)
        found = certify_property(
            self.run,
            network,
            property,
            runtime=lambda: runtime,
            dtype=torch.float64,
            accept=lambda found: self._satisfied(cases, found),
        )
        counterexample = next((c for c in found.counterexamples if c is not None), None)
        if counterexample is not None:
            return Answer("sat", self._assignment(cases, counterexample))
        if not cases.bounded:
            reason = "an input has no bounds, and no counterexample was found in a part of them"
            return _without(self.run, "unknown", reason)
        return _without(self.run, found.verdict)

    def _sizes(
        self, models: Sequence[Model], hull: Sequence[Interval], member: Sequence[int]
    ) -> list[float]:
        """The largest size of each number that the networks compute for inputs of the hull, however
        that is rounded."""
        networks = [model.network.detach() for model in models]
        network = side_by_side(networks, self._places(member), len(hull))
        box = Box(*(end.unsqueeze(0) for end in outward(hull)))
        row = torch.zeros(1, *network.output_shape, dtype=torch.float64)
        try:
            relaxation = relax(network, box, Specification(row), intermediate="interval")
            ranges, dtype = relaxation.ranges(), self.run.deployed or torch.float64
            errors = evaluation_errors(network, ranges, relaxation.relu_bounds, dtype)
            return (ranges[-1].magnitude + 2 * errors[-1]).flatten().tolist()
        except InvalidInputError:  # it overflows
            return [math.inf] * row.numel()

    def _places(self, member: Sequence[int]) -> list[Tensor]:
        """For each network, which numbers of the property's input its inputs are."""
        sizes = [sum(tensor.size for tensor in network.inputs) for network in self.query.networks]
        return list(torch.tensor(member, dtype=torch.int64).split(sizes))

    def _numbers(self, cases: Cases, found: Counterexample) -> list[Fraction]:
        """Those of all tensors, by place."""
        x, y = found.x.double().flatten().tolist(), found.y.double().flatten().tolist()
        numbers = [Fraction(0)] * sum(tensor.size for tensor in self.query.tensors)
        for place, member in zip(self.query.inputs, cases.member, strict=True):
            numbers[place] = Fraction(x[member])
        for place, number in zip(self.query.others, y, strict=False):  # the inputs come after them
            numbers[place] = Fraction(number)
        return numbers

    def _satisfied(self, cases: Cases, found: Counterexample) -> bool:
        if found.replayed_by == "bounds":  # proved over the reals, and these numbers are rounded
            return self.query.element == "real"
        return self.query.holds(self._numbers(cases, found))

    def _assignment(
        self, cases: Cases, found: Counterexample
    ) -> tuple[tuple[Declared, Tensor], ...]:
        numbers = [float(number) for number in self._numbers(cases, found)]
        pairs = []
        for tensor in self.query.tensors:
            start = self.query.starts[tensor.name]
            values = torch.tensor(numbers[start : start + tensor.size], dtype=torch.float64)
            pairs.append((tensor, values.reshape(tensor.shape)))
        return tuple(pairs)


class _Together:
    """Several models on parts of one input; see `side_by_side`."""

    def __init__(self, runtimes: Sequence[Runtime], places: Sequence[Tensor], mixed: bool) -> None:
        self._runtimes, self._places, self._mixed = runtimes, places, mixed
        self.dtype = min((r.dtype for r in runtimes), key=lambda dtype: dtype.itemsize)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.flatten()
        pairs = zip(self._runtimes, self._places, strict=True)
        parts = [runtime(x[index]).double().flatten() for runtime, index in pairs]
        return torch.cat(parts + [x.double()] * self._mixed)


def _together(
    models: Sequence[Model], places: Sequence[Tensor], *, mixed: bool
) -> _Together | None:
    """None where a model has no runtime."""
    runtimes = [model.runtime for model in models if model.runtime is not None]
    return _Together(runtimes, places, mixed) if len(runtimes) == len(models) else None
