"""ONNX models of several inputs and outputs, and constants that are joined to what is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bounds import InvalidInputError, ModelFileError, certify_vnnlib, from_onnx, load
from bounds.read.vnnlib import parse_vnnlib
from tests.conftest import Run
from tests.support.queries import run as replay
from tests.support.queries import write
from tests.support.refusals import refused


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """u = relu(a − 2 b) and v = a + b, of a (1, 2) and b (1, 2, 1)."""
    return write(
        tmp_path / "model.onnx",
        [
            *[("Flatten", "b", "f"), ("Mul", "f c", "g"), ("Sub", "a g", "h")],
            *[("Relu", "h", "u"), ("Add", "a f", "v")],
        ],
        {"a": [1, 2], "b": [1, 2, 1]},
        {"u": [1, 2], "v": [1, 2]},
        c=[2.0],
    )


def test_inputs_come_one_after_another_and_the_output_is_chosen(model: Path) -> None:
    x = torch.tensor([[3.0, 1.0, 1.0, -2.0]])
    expected = replay(model, a=x[:, :2].numpy(), b=x[:, 2:].numpy())
    for name in ("u", "v"):
        network = from_onnx(model, output=name)
        assert network.input_shape == (4,)
        assert network(x).tolist() == expected[name].tolist()
        assert load(model, output=name)(x).tolist() == expected[name].tolist()
    refused(lambda: from_onnx(model), ModelFileError, "2 outputs ['u', 'v']", "output=")
    refused(lambda: from_onnx(model, output="w"), ModelFileError, "no output 'w'", "['u', 'v']")
    refused(lambda: load("model.pt2", output="u"), InvalidInputError, "output='u'")


def test_an_open_batch_is_that_of_all_inputs(tmp_path: Path) -> None:
    nodes = [("Sub", "a b", "y")]
    open_ = write(tmp_path / "open.onnx", nodes, {"a": ["N", 2], "b": ["N", 2]}, {"y": ["N", 2]})
    half = write(tmp_path / "half.onnx", nodes, {"a": ["N", 2], "b": [1, 2]}, {"y": ["N", 2]})
    for path in (open_, half):
        network = from_onnx(path)
        assert network(torch.tensor([[5.0, 7.0, 1.0, 2.0]])).tolist() == [[4.0, 5.0]]


def test_a_property_of_a_model_with_several_inputs(run: Run, model: Path, tmp_path: Path) -> None:
    declared = [f"X_{i}" for i in range(4)] + ["Y_0", "Y_1"]
    text = "".join(f"(declare-const {name} Real)" for name in declared)
    for i in range(4):
        text += f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))"
    # v_0 = X_0 + X_2 is at most 2, u_0 = relu(X_0 − 2 X_2) at most 1.
    for name, threshold, verdict in (("v", 2, "sat"), ("u", 1.5, "unsat"), ("u", 1, "sat")):
        unsafe = text + f"(assert (>= Y_0 {threshold}))"
        found = certify_vnnlib(model, parse_vnnlib(unsafe), output=name)
        assert found.verdict == verdict
        if verdict == "sat":
            [counterexample] = found.counterexamples
            assert counterexample is not None
            x = counterexample.x.numpy()
            assert replay(model, a=x[:2], b=x[2:])[name][0, 0] >= threshold
            assert counterexample.replayed_by == "onnxruntime"
        path = tmp_path / "spec.vnnlib"
        path.write_text(unsafe)
        status = run("certify", str(model), "--vnnlib", str(path), "--output", name)[0]
        assert status == (verdict == "sat")


def test_an_input_that_nothing_reads_is_no_input(tmp_path: Path) -> None:
    path = write(
        tmp_path / "spare.onnx", [("Relu", "x", "y")], {"x": [1, 1], "spare": [1, 3]}, {"y": [1, 1]}
    )
    assert from_onnx(path).input_shape == (1,)
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 0))(assert (<= X_0 1))"
    found = certify_vnnlib(path, parse_vnnlib(f"{text}(assert (>= Y_0 0.5))"))
    [counterexample] = found.counterexamples
    assert counterexample is not None
    assert counterexample.replayed_by == "bounds"  # the runtime asks for the other input, too


def test_constants_are_joined_where_they_come(tmp_path: Path) -> None:
    first, last = np.float32([[1.0, 2.0]]), np.float32([[3.0]])
    for shape in ([1, 2], ["N", 2]):
        path = write(
            tmp_path / "joined.onnx",
            [("Concat", "p x q x", "y")],
            {"x": shape},
            {"y": ["M", 7]},
            p=first,
            q=last,
        )
        import onnx

        proto = onnx.load(path)
        proto.graph.node[0].attribute.append(onnx.helper.make_attribute("axis", 1))
        onnx.save(proto, path)
        x = np.float32([[-1.5, 4.0]])
        expected = replay(tmp_path / "joined.onnx", x=x) if shape[0] == 1 else None
        got = from_onnx(path)(torch.from_numpy(x)).tolist()
        assert got == [[1.0, 2.0, -1.5, 4.0, 3.0, -1.5, 4.0]]
        assert expected is None or got == expected["y"].tolist()
