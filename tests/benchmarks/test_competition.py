"""The benchmarks of searches and proofs run, and go on from what they have."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks.competition import proofs, searches
from benchmarks.competition.instances import instances


def run(
    script: ModuleType, file: Path, monkeypatch: pytest.MonkeyPatch, *options: str
) -> dict[str, Any]:
    threads = torch.get_num_threads()
    given = ["--suite", "test", "--json", str(file), *options]
    monkeypatch.setattr("sys.argv", [str(script.__file__), *given])
    try:
        assert script.main() == 0
    finally:
        torch.set_num_threads(threads)
    entries: dict[str, Any] = json.loads(file.read_text())["suites"]["test"]
    return entries


def test_searches_and_proofs_of_a_suite(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOUNDS_DATA", str(shared_data))
    truths = {instance.name: instance.truth for instance in instances(shared_data, "test")}
    decided = run(searches, tmp_path / "searches.json", monkeypatch)
    assert decided.keys() == truths.keys()
    verdicts = {name: entry["verdict"] for name, entry in decided.items()}
    assert set(verdicts.values()) == {"sat", "unsat"}
    assert all(truth in ("", None, verdicts[name]) for name, truth in truths.items())

    written = run(proofs, tmp_path / "proofs.json", monkeypatch)
    assert {name: entry["verdict"] for name, entry in written.items()} == verdicts
    assert all(
        (entry["verdict"] == "sat") == ("bytes" not in entry) and not entry.get("rejections")
        for entry in written.values()
    )

    first, *others = decided
    record = json.loads((tmp_path / "searches.json").read_text())
    record["suites"]["test"][first]["verdict"] = "unknown"
    left_open = tmp_path / "left_open.json"
    left_open.write_text(json.dumps(record))
    fewer = run(proofs, tmp_path / "fewer.json", monkeypatch, "--decided", str(left_open))
    assert list(fewer) == others
