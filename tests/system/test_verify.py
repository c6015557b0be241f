"""`bounds verify` and `bounds supports`: the command line of the VNN-LIB standard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bounds
from bounds.cli.standard_options import CAPABILITIES
from tests.conftest import CHECKOUT, Run
from tests.support.queries import network, query, write

DECLARED = network(
    "f",
    *("input X float32 [1,2]", 'hidden H float32 [1,2] "h"', "output Y float32 [1,1]"),
)
BOX = [(c, ("X", 0, i), e) for i in (0, 1) for c, e in ((">=", "0.25"), ("<=", "0.5"))]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [("Relu", "x", "h"), ("MatMul", "h w", "y")]
    return write(tmp_path / "m.onnx", nodes, {"x": [1, 2]}, {"y": [1, 1]}, w=[[1.0], [1.0]])


@pytest.fixture
def sat(tmp_path: Path) -> Path:
    path = tmp_path / "sat.vnnlib"
    path.write_text(query(DECLARED, *BOX, (">=", ("Y", 0, 0), "1.0")))
    return path


def test_the_verdict_is_the_first_line_and_the_assignment_follows(
    run: Run, model: Path, sat: Path
) -> None:
    status, out, err = run("verify", str(sat), "--network", f"f={model}", "--timeout", "60")
    assert (status, err) == (0, "")
    assert (
        out == "sat\nX float32 [1,2]\n0.5\n0.5\nH float32 [1,2]\n0.5\n0.5\nY float32 [1,1]\n1.0\n"
    )


def test_unsat_unknown_and_timed_out_stand_alone(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "q.vnnlib"
    for bound, verdict in (("1.001", "unsat"), ("1.0000001", "unknown")):
        path.write_text(query(DECLARED, *BOX, (">", ("Y", 0, 0), bound)))
        arguments = ("verify", str(path), "--network", f"f={model}", "--method", "no_split")
        assert run(*arguments)[:2] == (0, f"{verdict}\n")
    monkeypatch.setattr("bounds.certification.run.Run.timed_out", True)
    assert run(*arguments)[:2] == (0, "timed-out\n")


def test_what_never_looks_at_the_time_ends_as_timed_out(sat: Path, model: Path) -> None:
    code = (
        "import sys, threading, bounds.cli.verify as command\n"
        "command.verify = lambda *_, **__: threading.Event().wait()\n"
        "command.GRACE = 0.0\n"
        "from bounds.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["verify", str(sat), "--network", f"f={model}", "--timeout", "0.1"]
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=True, cwd=CHECKOUT,
    )  # fmt: skip
    assert (finished.stdout, finished.stderr) == ("timed-out\n", "")


def test_assignments_as_tensors(run: Run, model: Path, sat: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    out = run(
        *("verify", str(sat), "--network", f"f={model}"), "--serialise-assignments", str(folder)
    )
    assert out == (0, "sat\n", "")
    assert sorted(path.name for path in folder.iterdir()) == ["H.pb", "X.pb", "Y.pb"]
    for name, shape in (("X", (1, 2)), ("H", (1, 2)), ("Y", (1, 1))):
        tensor = onnx.TensorProto.FromString((folder / f"{name}.pb").read_bytes())
        array = numpy_helper.to_array(tensor)
        assert (array.dtype, array.shape, tensor.name) == (np.float32, shape, name)


def test_errors_are_one_line_and_no_verdict(run: Run, model: Path, sat: Path) -> None:
    half = sat.with_name("half.vnnlib")
    half.write_text(sat.read_text().replace("float32", "float16"))
    double = sat.with_name("double.vnnlib")
    double.write_text(sat.read_text().replace("float32", "float64"))
    for arguments, fragment in (
        ((str(sat),), "no model for ['f']"),
        ((str(sat), "--network", f"g={model}"), "a model for ['g']"),
        ((str(sat), "--network", f"f={model}", "--network", f"f={model}"), "has 'f' twice"),
        ((str(sat), "--network", "=x"), "not of the form NAME=MODEL.onnx"),
        ((str(sat), "--network", f"f={model}", "--timeout", "0"), "timeout"),
        ((str(sat), "--network", f"f={model}", "--timeout", "nan"), "timeout"),
        ((str(half), "--network", f"f={model}"), "no proof here covers the type"),
        ((str(double), "--network", f"f={model}"), "of type float32, where X is declared float64"),
        (("missing.vnnlib", "--network", f"f={model}"), "No such file"),
    ):
        status, out, err = run("verify", *arguments)
        assert (status, out) == (2, ""), arguments
        assert err.startswith("bounds verify: ")
        assert err.count("\n") == 1
        assert fragment in err


def test_version_1_is_answered_in_the_same_form(run: Run, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.vnnlib"
    declared = "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0"))
    box = "(assert (>= X_0 0))(assert (<= X_0 0.5))(assert (>= X_1 0.5))(assert (<= X_1 0.5))"
    path.write_text(f"{declared}{box}(assert (>= Y_0 1))")
    status, out, _ = run("verify", str(path), "--network", f"any={model}")
    lines = ["sat", "X_0 real []", "0.5", "X_1 real []", "0.5", "Y_0 real []", "1.0"]
    assert (status, out.splitlines()) == (0, lines)


def test_capabilities(run: Run) -> None:
    answers = {name: run("supports", f"--{name}") for name in CAPABILITIES}
    assert all(status == 0 and err == "" for status, _, err in answers.values())
    lines = {name: out.splitlines() for name, (_, out, _) in answers.items()}
    assert lines["onnx-element-types"] == ["float32", "float64", "real"]
    assert lines["vnnlib-versions"] == ["1.0", "2.0"]
    assert lines["onnx-opset-versions"][0] == "7"
    assert {"Relu", "Conv", "Gemm", "Concat", "Shape"} <= {*lines["onnx-operators"]}
    # Read of constants alone, or not at all.
    assert not {"Mul", "Div", "Cast", "Softmax", "Where", "Sigmoid"} & {*lines["onnx-operators"]}
    assert lines["arithmetic-complexity-theories"] == ["BND", "OUTC", "LIN"]
    assert run("supports")[0] == 2
    assert run("--name")[:2] == (0, "bounds\n")
    assert run("--version")[:2] == (0, f"{bounds.__version__}\n")


def test_inputs_may_be_gzipped(run: Run, model: Path, sat: Path, tmp_path: Path) -> None:
    import gzip

    paths = []
    for path in (model, sat):
        paths.append(tmp_path / f"{path.name}.gz")
        paths[-1].write_bytes(gzip.compress(path.read_bytes()))
    status, out, _ = run("verify", str(paths[1]), "--network", f"f={paths[0]}")
    assert (status, out.splitlines()[0]) == (0, "sat")
