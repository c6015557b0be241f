"""`certify` on data sets: whose label is whose, the caller's own numbers, counterexamples."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import bounds
from bounds import InvalidInputError, certify
from bounds.certification import decide
from tests.support.rational import evaluate, fractions, linear
from tests.support.refusals import refused

UNSAT, SAT = "unsat", "sat"


def rows() -> tuple[nn.Sequential, Tensor]:
    """A model that answers 0 at the first input, and 1 at the second."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[0].weight[0, 0] = 1.0
        model[2].weight[0, 0] = 10.0
        model[2].bias[1] = 1.0
    return model, torch.tensor([[1.0, 0, 0, 0], [0.0, 0, 0, 0]])


# -- labels


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize(
    "y",
    [
        *(0, np.int64(0), torch.tensor(0), np.array([0, 0]), [0, 0]),
        *(torch.zeros(2, dtype=d) for d in (torch.int64, torch.int32, torch.int8, torch.uint8)),
    ],
    ids=repr,
)
def test_a_number_is_the_label_of_every_input(network: bool, y: Any) -> None:
    model, x = rows()
    found = certify(bounds.from_torch(model, (4,)) if network else model, x, y, radius=1e-3)
    assert found.verdicts == (UNSAT, SAT)
    assert found.lower.shape == (2, 2)
    error = bounds.robust_loss(model, x, y, radius=1e-3, reduction="none").error
    assert error.tolist() == [False, True]
    for points in (bounds.fgs(model, x, y, radius=1e-3), bounds.pgd(model, x, y, radius=1e-3)):
        assert points.shape == x.shape


WRONG_LABELS: list[Any] = [
    *(torch.zeros(2, 1).long(), torch.zeros(1, 2).long(), torch.tensor([0]), torch.zeros(3).long()),
    *(torch.zeros(4, 1).long(), "0", None, 0.0, True, torch.zeros(2), 3, -1, 2**70, [[0, 0]], []),
    *(torch.tensor([0, 3]), torch.zeros(2, dtype=torch.long, device="meta"), object()),
]


@pytest.mark.parametrize("y", WRONG_LABELS)
def test_other_labels_are_refused(y: Any) -> None:
    model, x = rows()
    calls: dict[str, Any] = {
        "certify": certify,
        "robust_loss": bounds.robust_loss,
        "fgs": bounds.fgs,
        "pgd": bounds.pgd,
    }
    for name, call in calls.items():
        for read in (model, bounds.from_torch(model, (4,))):
            with pytest.raises(InvalidInputError, match=rf"^{name}\W") as caught:
                call(read, x, y, radius=1e-3)
            assert "\n" not in str(caught.value)


def test_one_input_without_a_batch() -> None:
    """Where the model says what one input is; a module does not."""
    model, x = rows()
    assert certify(bounds.from_torch(model, (4,)), x[0], 0, radius=1e-3).verdicts == (UNSAT,)
    with pytest.raises(InvalidInputError, match=r"without|x\[None\]"):
        certify(model, x[0], 0, radius=1e-3)
    images = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten(), nn.Linear(4, 2))
    assert len(certify(images, torch.rand(1, 1, 3, 3), 0, radius=0.1).verdicts) == 1


# -- the caller's own numbers


def near_one(dtype: torch.dtype) -> nn.Sequential:
    """(2⁻³¹ − (x − 1), 0 x)."""
    return nn.Sequential(linear([[-1.0], [0.0]], [1.0 + 2.0**-31, 0.0], dtype))


@pytest.mark.parametrize("norm", [math.inf, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_are_not_rounded(norm: float, dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0 + 2.0**-30]], dtype=torch.float64)
    model = near_one(torch.float64)
    assert model(x).argmax(1).item() == 1
    found = certify(model, x, 0, radius=0.0, norm=norm, dtype=dtype)
    assert found.verdict != UNSAT
    [counterexample] = found.counterexamples
    assert counterexample is not None
    assert torch.equal(counterexample.x, x[0])


def test_rows_are_not_rounded() -> None:
    net = bounds.from_torch(nn.Identity(), (2,), dtype=torch.float32)
    ball = bounds.Ball(torch.full((1, 2), 2.0**24), radius=0.0)
    C = torch.tensor([[1.0, -(1 + 2.0**-26)]], dtype=torch.float64)
    d = torch.tensor([0.1], dtype=torch.float64)
    with pytest.raises(InvalidInputError, match=r"torch.float32 does not hold.*float64"):
        bounds.relax(net, ball, bounds.Specification(C, d))
    relaxation = bounds.relax(net, ball, bounds.Specification(C.round(), d))
    assert Fraction(relaxation.d.item()) <= Fraction(0.1)
    double = bounds.Ball(ball.x.double(), radius=0.0)
    exact = bounds.relax(net.to(torch.float64), double, bounds.Specification(C, d))
    # 0.1 − 2²⁴ 2⁻²⁶
    assert bounds.solve(exact).lower.item() == pytest.approx(-0.15, rel=1e-6)


# -- counterexamples


@pytest.mark.parametrize("norm", [math.inf, 1, 2])
@pytest.mark.parametrize("data", [torch.float32, torch.float64])
@pytest.mark.parametrize("own", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counterexamples_are_exact(
    norm: float,
    data: torch.dtype,
    own: torch.dtype,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They lie in the ball and the box of the caller, and the model over the rationals answers them
    wrongly; all in rational numbers."""

    def hasty(relaxation: bounds.Relaxation, **options: Any) -> bounds.Solution:
        limit = {"iteration_limit": 1} if options["method"] == "exact" else {}
        return bounds.solve(relaxation, **options, **limit)

    monkeypatch.setattr(decide, "solve", hasty)
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).to(own)
    nn.init.normal_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    x, radius = (
        # Near the first or the second, by the dtype, outputs tie, and a search tries many points.
        torch.rand(6, 4, dtype=torch.float64)[[1, 2, 3, 5]].to(data),
        {math.inf: 0.3, 2: 0.5, 1: 0.9}[norm],
    )
    y = model(x.to(own)).argmax(1)
    found = certify(
        model, x, y, radius=radius, norm=norm, lower=0.0, upper=np.float32(0.9), dtype=dtype,
    )  # fmt: skip
    count = 0
    for index, counterexample in enumerate(found.counterexamples):
        if counterexample is None:
            continue
        count += 1
        assert counterexample.x.dtype in (own, torch.float64)
        p, centre = fractions(counterexample.x), fractions(x[index])
        assert all(0 <= value <= Fraction(float(np.float32(0.9))) for value in p)
        away = [abs(a - b) for a, b in zip(p, centre, strict=True)]
        if norm == math.inf:
            assert max(away) <= Fraction(radius)
        else:
            assert sum(a ** int(norm) for a in away) <= Fraction(radius) ** int(norm)
        logits = evaluate(model, p)
        assert max(logits) > logits[int(y[index])]
    assert count


def test_those_of_onnx_files_are_replayed_by_onnx_runtime(tmp_path: Path) -> None:
    """In float32, whatever the inputs are in."""
    weight = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], dtype=np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "net",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "model.onnx"
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    x = torch.tensor([[0.7, 0.1], [0.3, 0.1]], dtype=torch.float64)
    found = certify(path, x, 0, radius=0.2)
    assert found.verdicts == (UNSAT, SAT)
    counterexample = found.counterexamples[1]
    assert counterexample is not None
    assert counterexample.replayed_by == "onnxruntime"
    assert counterexample.x.dtype == torch.float32
    away = zip(fractions(counterexample.x), fractions(x[1]), strict=True)
    assert all(abs(a - b) <= Fraction(0.2) for a, b in away)
    [[logits]] = onnxruntime.InferenceSession(path).run(
        None, {"x": counterexample.x.unsqueeze(0).numpy()}
    )
    assert logits.argmax() != 0
    assert logits.tolist() == counterexample.y.tolist()


# -- inside inference mode


def test_inference_mode() -> None:
    with torch.inference_mode():
        model, x = rows()
        for read in (model, bounds.from_torch(model, (4,))):
            assert certify(read, x, 0, radius=1e-3).verdicts == (UNSAT, SAT)
            assert bounds.pgd(read, x, 0, radius=0.1).shape == x.shape
            assert bounds.fgs(read, x, 0, radius=0.1).shape == x.shape


def test_outputs_with_several_axes_have_no_classes() -> None:
    """One input of shape (2, 4) for a model of inputs (4,): two answers, and not one of six."""
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.rand(1, 2, 4)
    calls: list[Callable[[], object]] = [
        lambda: bounds.certify(model, x, 0, radius=0.01),
        lambda: bounds.robust_loss(model, x, torch.tensor([0]), radius=0.01),
        lambda: bounds.pgd(model, x, torch.tensor([0]), radius=0.01),
        lambda: bounds.fgs(model, x, torch.tensor([0]), radius=0.01),
    ]
    for call in calls:
        refused(call, InvalidInputError, "(2, 3)", "one axis of classes")


# -- what is no margin


def test_a_single_logit_answers_by_its_sign() -> None:
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(-1.0)
    x = torch.tensor([[0.875], [0.875], [0.25], [0.25]])
    found = certify(model, x, [1, 0, 0, 1], radius=0.125)
    assert found.verdicts == (UNSAT, SAT, UNSAT, SAT)
    # The logit is 2 x − 1: at least 1/2 on the first ball, at most −1/4 on the third.
    assert found.lower[0].item() == pytest.approx(0.5, abs=1e-9)
    assert found.lower[2].item() == pytest.approx(0.25, abs=1e-9)
    point = found.counterexamples[1]
    assert point is not None
    assert point.y.item() > 0
    assert certify(model, x[:1], 1, radius=0.5).verdict == SAT
    refused(lambda: certify(model, x, 2, radius=0.1), InvalidInputError, "expected 0 … 1")


def test_rows_are_what_has_to_be_positive_of_a_regression() -> None:
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -1.0]]))
    x = torch.zeros(2, 2)
    # |y| ≤ 0.2 on the ball of radius 0.1.
    within = bounds.Specification(torch.tensor([[1.0], [-1.0]]), torch.tensor([0.25, 0.25]))
    found = certify(model, x, rows=within, radius=0.1)
    assert found.verdicts == (UNSAT, UNSAT)
    assert found.lower.tolist() == [[pytest.approx(0.05, abs=1e-6)] * 2] * 2
    d = torch.tensor([[0.25, 0.25], [0.25, 0.125]])
    own = bounds.Specification(torch.tensor([[[1.0], [-1.0]]]).expand(2, 2, 1), d)
    found = certify(model, x, rows=own, radius=0.1)
    assert found.verdicts == (UNSAT, SAT)
    point = found.counterexamples[1]
    assert point is not None
    first, second = (Fraction(value) for value in point.x.tolist())
    assert Fraction(1, 8) - (first - second) < 0
    refused(lambda: certify(model, x, radius=0.1), InvalidInputError, "neither y and rows")
    refused(
        lambda: certify(model, x, 0, rows=own, radius=0.1), InvalidInputError, "both y and rows"
    )
    refused(lambda: certify(model, x, rows=0, radius=0.1), InvalidInputError, "a Specification")
