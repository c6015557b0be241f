"""Verdicts on VNN-LIB: replayed exactly, and never against what is known of a property."""

from __future__ import annotations

import csv
import math
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lp_reference
from bounds import BoundsError, Certification, InvalidInputError, Network, certify_vnnlib
from bounds.certification.counterexample import Counterexample, OnnxRuntime
from bounds.vnnlib import Property, parse_vnnlib, read_vnnlib
from tests.networks import Dice
from tests.problems import Problem, points, problems
from tests.refusals import refused
from tests.vnnlib_texts import Formula, file

UNSAT, SAT, UNKNOWN = "unsat", "sat", "unknown"


def within(lower: Tensor, upper: Tensor) -> list[Formula]:
    """x in the box, whose ends are written with all their digits."""
    found: list[Formula] = []
    for comparison, ends in ((">=", lower), ("<=", upper)):
        for index, end in enumerate(ends.flatten().tolist()):
            found.append((comparison, ("X", index), f"{Decimal(end):f}"))
    return found


def at_most(row: Tensor, threshold: float) -> Formula:
    """⟨row, y⟩ ≤ threshold."""
    terms = [("*", repr(a), ("Y", i)) for i, a in enumerate(row.flatten().tolist())]
    return ("<=", ("+", *terms), repr(threshold))


def holds_in(property: Property, found: Certification) -> None:
    """Every "sat" has a counterexample in its case's box, and nothing else has one."""
    for case, verdict, counterexample in zip(
        property.cases, found.verdicts, found.counterexamples, strict=True
    ):
        assert (counterexample is not None) == (verdict == SAT)
        if counterexample is not None:
            assert case.contains(counterexample.x)
            assert case.violated_by(counterexample.y)


# -- against the exact minimum, and against samples

boxes = problems(norms=(math.inf,))


@settings(max_examples=settings().max_examples // 2)
@given(boxes, st.sampled_from([-0.1, -1e-4, 1e-4, 0.1]))
def test_one_row_against_the_exact_minimum(problem: Problem, by: float) -> None:
    relaxation = problem.relax(intermediate="interval")
    exact = lp_reference.solve(relaxation, milp=True)
    # The first row of each input is unsafe up to a little more, or less, than its minimum.
    cases = []
    for i in range(problem.batch):
        row, least = relaxation.C[i, 0], float(exact.value[i, 0] - relaxation.d[i, 0])
        if not row.any():  # an inequality without variables is refused
            row, least = torch.ones_like(row), math.inf * by
        box = within(problem.input_set.lower[i], problem.input_set.upper[i])
        if math.isfinite(least):
            cases.append(("and", *box, at_most(row, least + by * max(1, abs(least)))))
    if cases:
        property = parse_vnnlib(file([("or", *cases)], *sizes(problem.network)))
        found = certify_vnnlib(problem.network, property)
        holds_in(property, found)
        assert set(found.verdicts) <= ({SAT, UNKNOWN} if by > 0 else {UNSAT, UNKNOWN})


@settings(max_examples=settings().max_examples // 2)
@given(boxes, st.floats(-1, 1), st.floats(-1, 1))
def test_no_sample_contradicts_a_proof(problem: Problem, first: float, second: float) -> None:
    """Both rows of a conjunction, or the third: relative to what they are at some point."""
    network, box = problem.network, problem.input_set.convert(lambda tensor: tensor[:1])
    rows = Dice(problem.seed).normal(3, math.prod(network.output_shape))
    outputs = network(points(box, 200)[0]).flatten(1)
    least, least_too, third = (outputs @ rows.T).amin(0).tolist()
    both = ("and", at_most(rows[0], least + first), at_most(rows[1], least_too + second))
    unsafe = ("or", both, at_most(rows[2], third - abs(first)))
    property = parse_vnnlib(file([*within(box.lower, box.upper), unsafe], *sizes(network)))
    found = certify_vnnlib(network, property)
    holds_in(property, found)
    if found.verdict == UNSAT:
        assert not any(property.cases[0].violated_by(y) for y in outputs)


def sizes(network: Network) -> tuple[int, int]:
    return math.prod(network.input_shape), math.prod(network.output_shape)


# -- replays


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """y = relu(x₀ + x₁) − relu(x₁ − x₀), which on 0 ≤ x₁ ≤ x₀ is x₀ + x₁."""
    weights = {
        "W": [[1.0, 1.0], [-1.0, 1.0]],
        "V": [[1.0, -1.0]],
    }
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Gemm", ["x", "W"], ["a"], transB=1),
            onnx.helper.make_node("Relu", ["a"], ["b"]),
            onnx.helper.make_node("Gemm", ["b", "V"], ["y"], transB=1),
        ],
        "model",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1])],
        [
            onnx.numpy_helper.from_array(torch.tensor(value).numpy(), name)
            for name, value in weights.items()
        ],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def question(x0: tuple[str, str], x1: tuple[str, str], unsafe: tuple[str, str]) -> Property:
    """x₀ and x₁ between these numbers; unsafe: a comparison, and what y is compared with."""
    formulas = [(">=", ("X", 0), x0[0]), ("<=", ("X", 0), x0[1])]
    formulas += [(">=", ("X", 1), x1[0]), ("<=", ("X", 1), x1[1])]
    return parse_vnnlib(file([*formulas, (unsafe[0], ("Y", 0), unsafe[1])], 2, 1))


WIDE = (("1", "2"), ("0", "1"))  # y is in [1, 3]


def test_a_counterexample_is_replayed_by_onnx_runtime(model: Path) -> None:
    property = question(*WIDE, ("<=", "1.1"))
    found = certify_vnnlib(model, property)
    holds_in(property, found)
    [counterexample] = found.counterexamples
    assert found.verdict == SAT
    assert counterexample is not None
    assert counterexample.replayed_by == "onnxruntime"
    assert counterexample.x.dtype == torch.float32
    session = onnxruntime.InferenceSession(model)
    [[y]] = session.run(None, {"x": counterexample.x.reshape(1, 2).numpy()})
    assert y.tolist() == counterexample.y.tolist()


def test_ends_count_only_where_they_are_meant_to(model: Path) -> None:
    verdicts = {
        ("<=", "1"): SAT,  # attained at x = (1, 0)
        ("<", "1"): UNKNOWN,  # attained, but not less
        (">=", "3"): SAT,
        (">", "3"): UNKNOWN,
        ("<=", "0.999"): UNSAT,
        (">=", "3.001"): UNSAT,
        ("<=", "0.99999999999999999999"): UNKNOWN,  # less than 1, and not by a float64
    }
    for unsafe, verdict in verdicts.items():
        assert certify_vnnlib(model, question(*WIDE, unsafe)).verdict == verdict, unsafe
    open_end = parse_vnnlib(
        file(
            [
                *[(">", ("X", 0), "1"), ("<=", ("X", 0), "2")],
                *[(">=", ("X", 1), "0"), ("<=", ("X", 1), "1"), ("<=", ("Y", 0), "1.1")],
            ],
            2,
            1,
        )
    )
    found = certify_vnnlib(model, open_end)
    assert found.counterexamples[0] is not None
    assert found.counterexamples[0].x[0] > 1


def test_boxes_without_a_float32_are_replayed_by_bounds(model: Path) -> None:
    """No tolerance: the float32 that is nearest to 0.1 is not in [0.1, 0.1]."""
    for end in ("0.1", "0.100000000000000000001", "0.3000000001"):
        property = question(("1", "2"), (end, end), ("<=", "1.5"))
        found = certify_vnnlib(model, property)
        [counterexample] = found.counterexamples
        assert found.verdict == SAT
        assert counterexample is not None
        assert counterexample.replayed_by == "bounds"
        assert counterexample.x[1].item() == float(end)
        assert property.cases[0].box[0].contains(Fraction(counterexample.x[0].item()))
        assert counterexample.y.item() < 1.5
        safe = question(("1", "2"), (end, end), ("<=", "1.05"))
        assert certify_vnnlib(model, safe).verdict == UNSAT


def test_onnx_runtime_has_the_last_word(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "__call__", lambda self, x: torch.tensor([[9.0]]))
    assert certify_vnnlib(model, question(*WIDE, ("<=", "1.1"))).verdict == UNKNOWN
    monkeypatch.setattr(OnnxRuntime, "__call__", lambda self, x: torch.tensor([[math.nan]]))
    assert certify_vnnlib(model, question(*WIDE, ("<=", "1.1"))).verdict == UNKNOWN


def test_without_onnx_runtime_bounds_replay(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused(lambda: OnnxRuntime(model), BoundsError, "pip install 'relu-bounds[onnx]'")
    for network in (model, Network.from_onnx(model)):
        property = question(*WIDE, ("<=", "1.1"))
        found = certify_vnnlib(network, property)
        assert found.verdict == SAT
        assert found.counterexamples[0] is not None
        assert found.counterexamples[0].replayed_by == "bounds"
        # Where there is one, a number that float32 holds.
        x = found.counterexamples[0].x
        assert torch.equal(x, x.float().double())
        holds_in(property, found)


def test_a_file_that_onnx_runtime_refuses(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    refused(lambda: OnnxRuntime(tmp_path / "text.onnx"), BoundsError, "text.onnx", "onnx.checker")


def test_counterexamples_as_the_competition_writes_them() -> None:
    x = torch.tensor([[0.1, -1e-30]], dtype=torch.float32)
    text = Counterexample(x, torch.tensor([3.0]), "bounds").vnncomp()
    assert text == ("((X_0 0.10000000149011612)\n (X_1 -1.0000000031710769e-30)\n (Y_0 3.0))")
    for index, word in enumerate(text.replace(")", " ").split()[1:4:2]):
        assert torch.tensor(float(word)) == x[0, index]
        assert float(word) == x[0, index].double()


# -- cases


def test_each_case_has_its_own_verdict(model: Path) -> None:
    def part(low: str, high: str, unsafe: Formula) -> Formula:
        return ("and", (">=", ("X", 0), low), ("<=", ("X", 0), high), unsafe)

    x1: list[Formula] = [(">=", ("X", 1), "0"), ("<=", ("X", 1), "0.5")]
    low, high = ("<=", ("Y", 0), "0.5"), (">=", ("Y", 0), "9")
    found = certify_vnnlib(
        model, parse_vnnlib(file([*x1, ("or", part("1", "2", low), part("2", "3", high))], 2, 1))
    )
    assert found.verdicts == (UNSAT, UNSAT)
    torch.testing.assert_close(found.lower, torch.tensor([[0.5], [5.5]]).double())
    both = ("or", high, low)
    parts = [part("2", "3", high), part("1", "2", both), part("0.5", "0.6", low)]
    found = certify_vnnlib(model, parse_vnnlib(file([*x1, ("or", *parts)], 2, 1)))
    assert found.verdicts == (UNSAT, UNSAT, SAT)
    assert found.lower.isnan().tolist() == [[False, True], [False, False], [False, True]]
    assert found.verdict == SAT
    # What comes after a counterexample is left.
    parts = [part("0.5", "0.6", low), part("2", "3", high)]
    found = certify_vnnlib(model, parse_vnnlib(file([*x1, ("or", *parts)], 2, 1)))
    assert found.verdicts == (SAT, UNKNOWN)


def test_time_ends(model: Path) -> None:
    found = certify_vnnlib(model, question(*WIDE, ("<=", "0.5")), timeout=1e-9)
    assert found.verdicts == (UNKNOWN,)
    assert found.methods == ("none",)


def test_a_property_of_another_network(model: Path, tmp_path: Path) -> None:
    one = file([(">=", ("X", 0), "0"), ("<=", ("X", 0), "1"), ("<=", ("Y", 0), "0")], 1, 1)
    (tmp_path / "one.vnnlib").write_text(one)
    refused(
        lambda: certify_vnnlib(model, tmp_path / "one.vnnlib"),
        InvalidInputError,
        "one.vnnlib",
        "X_0 … X_0",
        "2 inputs",
    )
    two = file([*within(torch.zeros(2), torch.ones(2)), ("<=", ("Y", 1), "0")], 2, 2)
    refused(lambda: certify_vnnlib(model, parse_vnnlib(two)), InvalidInputError, "1 outputs")


def test_float32_grows_the_box_and_refuses_what_it_cannot_hold(model: Path) -> None:
    # 0.3 is between two float32; y is at least 0.3 + 0.1.
    tight = question(("0.3", "2"), ("0.1", "0.2"), ("<=", "0.4"))
    found = certify_vnnlib(model, tight, dtype=torch.float32)
    double = certify_vnnlib(model, tight)
    assert found.lower < double.lower <= 1e-15
    tenth = at_most(torch.tensor([0.1], dtype=torch.float64), 0)
    rows = parse_vnnlib(file([*within(torch.zeros(2), torch.ones(2)), tenth], 2, 1))
    refused(
        lambda: certify_vnnlib(model, rows, dtype=torch.float32),
        InvalidInputError,
        "torch.float32 does not hold",
        "torch.float64",
    )


# -- the competition


def instances(shared_data: Path, *, every: int) -> list[tuple[Path, Path, str]]:
    """Models, properties, and "sat" or "unsat" where that is known."""
    found = []
    for truth in sorted((shared_data / "vnncomp").glob("*/ground_truth.csv")):
        with truth.open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["verdict"] in (SAT, UNSAT)]
        found += [
            (truth.parent / row["onnx"], truth.parent / row["vnnlib"], row["verdict"])
            for row in rows[::every]
        ]
    return found


def agrees(instance: tuple[Path, Path, str], *, timeout: float) -> str:
    model, path, truth = instance
    property = read_vnnlib(path)
    found = certify_vnnlib(model, property, timeout=timeout)
    assert found.verdict in (truth, UNKNOWN), instance
    for case, counterexample in zip(property.cases, found.counterexamples, strict=True):
        if counterexample is not None and counterexample.replayed_by == "onnxruntime":
            assert case.contains(counterexample.x), instance
            assert case.violated_by(counterexample.y), instance
    return found.verdict


def test_no_verdict_contradicts_other_tools(shared_data: Path) -> None:
    sample = [i for i in instances(shared_data, every=15) if "cifar10" not in i[0].parts[-3]]
    verdicts = [agrees(instance, timeout=2) for instance in sample]
    assert min(verdicts.count(UNSAT), verdicts.count(SAT)) >= 6


@pytest.mark.slow
def test_no_verdict_contradicts_other_tools_anywhere(shared_data: Path) -> None:
    for instance in instances(shared_data, every=1):
        agrees(instance, timeout=10)


def test_small_instances_with_known_answers(shared_data: Path) -> None:
    folder = shared_data / "vnncomp" / "test"
    answers = {"nano": UNSAT, "tiny": UNSAT, "small": UNSAT, "sat": SAT, "unsat": UNSAT}
    for name, answer in answers.items():
        spec = f"test_{name}.vnnlib" if len(name) > 3 and name != "unsat" else "test_prop.vnnlib"
        assert certify_vnnlib(folder / f"test_{name}.onnx", folder / spec).verdict == answer
