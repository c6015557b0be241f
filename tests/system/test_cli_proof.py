"""`bounds certify --proof` and `bounds check` of what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import bounds
from bounds.cli import check as command
from tests.conftest import Run
from tests.support.proofs import edit
from tests.support.vnnlib_texts import file, write_model

#: Of `write_model`'s network on 0 ≤ x₁ ≤ x₀ ≤ 1: y = x₀ + x₁ ≤ 2.
UNSAFE = {"unsat": "2.5", "sat": "1.5"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def specs(tmp_path: Path) -> dict[str, Path]:
    box = [(">=", ("X", k), "0") for k in range(2)] + [("<=", ("X", k), "1") for k in range(2)]
    for name, least in UNSAFE.items():
        text = file([*box, (">=", ("Y", 0), least)], inputs=2, outputs=1)
        (tmp_path / f"{name}.vnnlib").write_text(text)
    return {name: tmp_path / f"{name}.vnnlib" for name in UNSAFE}


def test_a_property(run: Run, model: Path, specs: dict[str, Path], tmp_path: Path) -> None:
    proof, numbers = tmp_path / "proof", tmp_path / "out.json"
    given = ("certify", model, "--vnnlib", specs["unsat"], "--proof", proof)
    status, out, _ = run(*given, "--method", "input_split", "--json", numbers)
    assert status == 0
    written = json.loads(numbers.read_text())["proof"]
    assert written["bytes"] == proof.stat().st_size
    line = f"proof: {proof}, {written['bytes']} bytes, leaves: {written['leaves']}"
    assert line in out.splitlines()

    status, out, err = run("check", proof, model, "--vnnlib", specs["unsat"], "--json", numbers)
    assert (status, err) == (0, "")
    leaves = "1 leaf" if written["leaves"] == 1 else f"{written['leaves']} leaves"
    assert out.endswith(f"PROVED: '{specs['unsat']}' holds (unsat); 1 case, {leaves}.\n")
    record = json.loads(numbers.read_text())
    assert (record["accepted"], record["vnnlib"]) == (True, str(specs["unsat"]))
    assert record["statement"]["of"] == "property"
    [case] = record["cases"]
    assert (case["case"], case["proved"], case["label"]) == (0, True, None)
    assert (case["lower"], case["upper"]) == ([0, 0], [1, 1])
    assert case["disjuncts"] == [[[[-1.0], 2.5]]]

    status, out, _ = run("check", proof, model)
    assert status == 0
    assert out.endswith("--vnnlib SPEC says whether it is SPEC.\n")

    status, out, _ = run("check", proof, model, "--exact", "--vnnlib", specs["sat"])
    assert status == 1
    assert "rejected: disjunct 0 of case 0 has a row in the file that no inequality" in out
    assert "REJECTED: 1 claim does not follow." in out

    edited = edit(proof, lambda statement, arrays: arrays["row.d"].__isub__(1), sealed=False)
    status, out, _ = run("check", edited, model)
    assert status == 1
    assert "the file was edited or damaged" in out


def test_nothing_to_prove(run: Run, model: Path, specs: dict[str, Path], tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    status, out, _ = run("certify", model, "--vnnlib", specs["sat"], "--proof", proof)
    assert status == 1
    assert "no proof is written: the verdict is sat." in out.splitlines()
    assert not proof.exists()


def test_a_data_set(run: Run, tmp_path: Path) -> None:
    """Two of three images, of which the file says what they are."""
    proof = tmp_path / "proof"
    status, out, _ = run("certify", "digits_robust", "--proof", proof)
    assert status == 1
    assert f"proof: {proof}, {proof.stat().st_size} bytes, leaves: 18" in out.splitlines()
    status, out, _ = run("check", proof, "digits_robust")
    assert status == 0
    assert [text.split() for text in out.splitlines() if "another class than" in text] == [
        [*f"{k} proved 64 of 64 move, by 0.2 at most another class than {label} 9".split()]
        for k, label in ((0, 6), (1, 5))
    ]
    assert out.endswith("PROVED: what the file states; 2 cases, 18 leaves.\n")
    status, out, _ = run("check", proof, "digits_standard")
    assert status == 1
    assert "rejected: the proof is of another network" in out


def test_what_cannot_be_used(run: Run, model: Path, specs: dict[str, Path], tmp_path: Path) -> None:
    proof, certificate = tmp_path / "proof", tmp_path / "certificate"
    run("certify", model, "--vnnlib", specs["unsat"], "--proof", proof)
    network = bounds.load(model, dtype=torch.float32)
    ball = bounds.Ball(torch.zeros(1, 2), radius=0.1)
    rows = bounds.Specification(torch.ones(1, 1))
    bounds.solve(bounds.relax(network, ball, rows)).certificate.save(certificate)
    cases = {
        "trusted": (("check", proof, model, "--trust-bounds"), "a proof has no l and u to trust"),
        "a certificate": (
            ("check", certificate, model, "--vnnlib", specs["unsat"]),
            "--vnnlib goes with a proof",
        ),
        "precision": (("check", proof, model, "--precision", 1), "precision=1"),
        "folder": (
            ("certify", model, "--vnnlib", specs["unsat"], "--proof", tmp_path),
            "cannot write",
        ),
        "norm": (
            ("certify", "digits_robust", "--norm", 1, "--proof", tmp_path / "x"),
            "use norm=inf",
        ),
    }
    for name, (arguments, words) in cases.items():
        status, out, err = run(*arguments)
        assert (status, out) == (2, ""), name
        assert err.count("\n") == 1, (name, err)
        assert words in err, (name, err)


def test_ctrl_c(run: Run, model: Path, specs: dict[str, Path], tmp_path: Path,
                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    proof = tmp_path / "proof"
    run("certify", model, "--vnnlib", specs["unsat"], "--proof", proof)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "check_proof", interrupted)
    status, _, err = run("check", proof, model)
    assert status == 130
    assert err.endswith("bounds check: interrupted, nothing was written.\n")
