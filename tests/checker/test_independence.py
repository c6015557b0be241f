"""The checker shares no code with solver and search: what it imports, and what it calls."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest

import bounds
from bounds import checker
from bounds.network.affine import Affine
from bounds.network.graph import Network
from tests.checker.test_edits import NETWORKS, relaxation
from tests.support.certificates import reasons, save

#: The formats of the files, the readers of models and properties with the classes that hold what
#: they read, errors, and a HiGHS that prints nothing.
SHARED = {
    "bounds.arguments",
    "bounds.network.affine",
    "bounds.solution.certificate_file",
    "bounds.network.convolution",
    "bounds.errors",
    "bounds.highs",
    "bounds.network.indexing",
    "bounds.read.load",
    "bounds.network.graph",
    "bounds.network.sparse",
    "bounds.read.vnnlib",
    "bounds.read.vnnlib.property",
    "bounds.solution.proof_file",
}


def test_what_it_imports() -> None:
    assert checker.__file__ is not None
    found = set()
    for file in Path(checker.__file__).parent.glob("*.py"):
        for statement in ast.walk(ast.parse(file.read_text())):
            if isinstance(statement, ast.ImportFrom):
                found.add(str(statement.module))
            elif isinstance(statement, ast.Import):
                found |= {alias.name for alias in statement.names}
    ours = {name for name in found if name.startswith(("bounds", "lp_reference"))}
    assert {name for name in ours if not name.startswith("bounds.checker")} == SHARED


@pytest.mark.parametrize("name", NETWORKS)
def test_what_it_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Nothing that an operation or a network computes, as all of it raises here."""
    problem = relaxation(name, math.inf)
    save(tmp_path / "certificate", problem)
    x = (problem.input_set.lower + problem.input_set.upper) / 2
    labels = problem.network(x).argmax(1)
    proof = tmp_path / "proof"
    for method in ("no_split", "input_split"):
        found = bounds.certify(
            problem.network,
            x,
            labels,
            radius=0.02,
            method=method,
            proof=proof.with_suffix(f".{method}"),
        )
        assert found.proof is not None

    def raises(*_: object, **__: object) -> None:
        raise AssertionError("the checker calls what the solver computes with")

    kinds = [Affine, *Affine.__subclasses__()]
    methods = ("linear", "adjoint", "absolute", "forward", "convert", "offset", "elementwise")
    for kind in kinds:
        for method in methods:
            monkeypatch.setattr(kind, method, property(raises), raising=False)
    for method in ("evaluate", "backward", "__call__", "convert", "parameters"):
        monkeypatch.setattr(Network, method, raises)
    for exact in (False, True):
        check = bounds.check(tmp_path / "certificate", problem.network, exact=exact)
        assert check.accepted, reasons(check)
    for method in ("no_split", "input_split"):
        assert bounds.check_proof(proof.with_suffix(f".{method}"), problem.network).accepted
