"""Every public name has an example in its docstring, which runs and says what it says."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import bounds
import lp_reference

PUBLIC = [(bounds, name) for name in bounds.__all__] + [(lp_reference, "solve")]


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_the_example_runs(
    package: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = getattr(package, name)
    monkeypatch.chdir(tmp_path)  # some write a model, to read it
    torch.manual_seed(0)
    scope = dict(vars(importlib.import_module(value.__module__)))
    found = doctest.DocTestFinder(recurse=False).find(value, name, globs=scope)
    assert sum(len(test.examples) for test in found) > 0, f"{name} has no example"
    for test in found:
        output: list[str] = []
        doctest.DocTestRunner().run(test, out=output.append)
        assert not output, "".join(output)
