"""The rehearsal of what has to be shown on a GPU: it runs, resumes, and says where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu

REHEARSAL = ["--device", "cpu", "--budget", "small"]


def test_a_rehearsal_has_every_part_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: gpu.METHODS[name] for name in ("fixed_slope", "interior_point")}
    monkeypatch.setattr(gpu, "METHODS", few)
    monkeypatch.setattr(gpu, "LOSSES", gpu.LOSSES[:1])
    file = tmp_path / "gpu.json"
    arguments = [*REHEARSAL, "--json", str(file)]
    assert gpu.main(arguments) == 0
    record = json.loads(file.read_text())
    assert list(record["parts"]) == list(gpu.PARTS)
    assert all(part["ended"] == "complete" for part in record["parts"].values())
    assert record["parts"]["correctness"]["entries"].keys() >= {*gpu.METHODS, "certify"}
    assert record["parts"]["search"]["entries"]["one input"]["boxes"] > 0

    ran: list[str] = []
    monkeypatch.setattr(gpu, "run", lambda name, *_: ran.append(name) or record["parts"][name])
    del record["parts"]["training"]
    file.write_text(json.dumps(record))
    record["parts"]["training"] = {"entries": {}, "ended": "complete", "seconds": 0.0}
    assert gpu.main(arguments) == 0
    assert ran == ["training"]


def test_what_is_wrong_ends_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "PARTS", {"dual_equals_lp": gpu.dual_equals_lp})
    monkeypatch.setattr(gpu, "off", lambda there, here: 1e-3)
    assert gpu.main(REHEARSAL) == 1


def test_a_part_that_fails_is_said_and_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(device: torch.device, budget: gpu.Budget) -> gpu.Found:
        yield "first", {"agrees": True}
        raise RuntimeError("out of memory")

    part = {"fails": fails}
    monkeypatch.setattr(gpu, "PARTS", part)
    found = gpu.run("fails", torch.device("cpu"), gpu.BUDGETS["small"])
    assert found["ended"].startswith("RuntimeError")
    assert "first" in found["entries"]
    assert not gpu.right(found)
    assert gpu.main(REHEARSAL) == 1


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert len(capsys.readouterr().out.splitlines()) == 1
