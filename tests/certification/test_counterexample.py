"""Counterexamples: each is confirmed, exactly, or it is none."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from pathlib import Path

import onnxruntime
import pytest
import torch

from bounds import BoundsError, InvalidInputError, certify_vnnlib, from_onnx
from bounds.certification.counterexample import Counterexample, OnnxRuntime
from bounds.read.vnnlib import parse_vnnlib
from tests.support.refusals import refused
from tests.support.vnnlib_texts import WIDE, at_most, file, holds_in, question, within, write_model

UNSAT, SAT, UNKNOWN = "unsat", "sat", "unknown"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


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
    for network in (model, from_onnx(model)):
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
