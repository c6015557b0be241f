"""`bounds benchmark`: instances in processes of their own, results, shards and contradictions."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bounds import InvalidInputError
from bounds.benchmark import instance_run
from bounds.benchmark import run as running
from bounds.benchmark.comparison import replayed
from bounds.benchmark.instance_run import Answer, Runs
from bounds.benchmark.instances import Instance, read_instances, shard
from bounds.benchmark.results import Result, read_results
from bounds.benchmark.run import run_instances
from bounds.benchmark.summary import par2
from bounds.engines.processes import Processes
from tests.conftest import CHECKOUT, Run
from tests.support.queries import network, query, write
from tests.support.refusals import refused

SPEC = (
    "(declare-const X_0 Real)(declare-const Y_0 Real)"
    "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= Y_0 {}))"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Y = relu(X): one instance of each kind, one of version 2, files that are gzipped, and one
    that is missing."""
    root = tmp_path / "ramp"
    root.mkdir()
    model = write(root / "relu.onnx", [("Relu", "x", "y")], {"x": [1, 1]}, {"y": [1, 1]})
    (root / "low.vnnlib").write_text(SPEC.format(0.5))
    (root / "high.vnnlib.gz").write_bytes(gzip.compress(SPEC.format(1.5).encode()))
    declared = network("f", "input X float32 [1,1]", "output Y float32 [1,1]")
    box = [("<=", ("X", 0, 0), "1.0"), (">=", ("X", 0, 0), "-1.0")]
    (root / "two.vnnlib").write_text(query(declared, *box, (">", ("Y", 0, 0), "0.75")))
    (root / "packed.onnx.gz").write_bytes(gzip.compress(model.read_bytes()))
    (root / "instances.csv").write_text(
        "relu.onnx,low.vnnlib,60\npacked.onnx,high.vnnlib,60\nrelu.onnx,two.vnnlib,60\n"
        "relu.onnx,missing.vnnlib,60\n"
    )
    return root


def verdicts(path: Path) -> list[str]:
    return [line[4] for line in csv.reader(path.read_text().splitlines())]


def test_every_instance_has_a_line_and_a_file(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    arguments = ("benchmark", str(folder), "--output", str(output), "--jobs", "2")
    status, out, _ = run(*arguments, "--plot", str(tmp_path / "cactus.png"))
    assert status == 0
    assert "3 of 4 solved" in out
    assert (tmp_path / "cactus.png").stat().st_size > 1000
    lines = list(csv.reader((output / "results.csv").read_text().splitlines()))
    assert [line[:5] for line in lines] == [
        ["ramp", "relu.onnx", "low.vnnlib", "0", "sat"],
        ["ramp", "packed.onnx", "high.vnnlib", "0", "unsat"],
        ["ramp", "relu.onnx", "two.vnnlib", "0", "sat"],
        ["ramp", "relu.onnx", "missing.vnnlib", "0", "error"],
    ]
    files = output / "instances"
    first = (files / "relu__low.txt").read_text().split()
    assert first[:2] == ["sat", "((X_0"]
    assert float(first[2].rstrip(")")) >= 0.5
    assert (files / "packed__high.txt").read_text() == "unsat\n"
    assert (files / "relu__two.txt").read_text().splitlines()[1] == "X float32 [1,1]"
    assert "No such file" in (files / "relu__missing.txt").read_text()
    # Again: the error alone is run again.
    calls: list[str] = []

    def noted(self: Runs, instance: Instance) -> Answer:
        calls.append(instance.query)
        return Answer("unknown", 1.0, b"unknown")

    monkeypatch.setattr(Runs, "__call__", noted)
    assert run("benchmark", str(folder), "--output", str(output))[0] == 0
    assert calls == ["missing.vnnlib"]
    assert verdicts(output / "results.csv") == ["sat", "unsat", "sat", "unknown"]


def test_a_process_that_does_not_end_is_ended(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nsleep 1000\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    monkeypatch.setattr(instance_run, "GRACE", 0.0)
    instance = Instance("relu.onnx", "low.vnnlib", 0.1)
    late = Runs(folder)(instance)
    assert (late.verdict, late.content) == ("timeout", b"timeout")
    sleeper.write_text("#!/bin/sh\necho reason >&2\nexit 3\n")
    failed = Runs(folder)(instance)
    assert (failed.verdict, failed.content) == ("error", b"error\nreason")


def test_ctrl_c_ends_the_process(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nsleep 1000\n")
    sleeper.chmod(0o755)
    processes: list[subprocess.Popen[str]] = []

    def interrupted(process: subprocess.Popen[str], timeout: float) -> None:
        processes.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "executable", str(sleeper))
    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_instances(folder, read_instances(folder), tmp_path / "out", Processes(1))
    assert [process.returncode for process in processes] == [-signal.SIGKILL]


def test_what_a_worker_runs_ends_with_it() -> None:
    """However the worker ends: it leaves nothing that holds its output open."""
    child = (
        "[sys.executable, '-m', 'bounds.engines.child', str(os.getpid()), 'tests.support.waiting']"
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"import os, subprocess, sys; subprocess.run({child})"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "begun\n"
        worker.kill()
        assert worker.stdout.read() == ""


def test_an_instance_that_no_worker_survives_is_an_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "Runs", Deadly)
    found = run_instances(folder, read_instances(folder), tmp_path / "out", Processes(2))
    assert [result.verdict for result in found] == ["unknown", "error", "unknown", "unknown"]
    said = (tmp_path / "out" / "instances" / "packed__high.txt").read_text()
    assert said == "error\nprocesses were ended from outside over it, 3 times"
    assert verdicts(tmp_path / "out" / "results.csv") == [result.verdict for result in found]


class Deadly(Runs):
    """Ends its process over one instance."""

    def __call__(self, instance: Instance) -> Answer:
        if instance.query == "high.vnnlib":
            os._exit(1)
        return Answer("unknown", 1.0, b"unknown")


def test_contradictions_are_judged_by_the_counterexample(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    (folder / "instances.csv").write_text(
        "relu.onnx,low.vnnlib,60\npacked.onnx,high.vnnlib,60\nrelu.onnx,high.vnnlib,60\n"
    )
    output, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    rows = [
        ("./benchmarks/ramp/onnx/relu.onnx", "vnnlib/low.vnnlib", "unsat"),
        ("packed.onnx.gz", "high.vnnlib", "violated"),
        ("relu.onnx", "high.vnnlib.gz", "sat"),
    ]
    (other / "results.csv").write_text(
        "".join(f"ramp,{model},{spec},1.5,{verdict},2.5\n" for model, spec, verdict in rows)
    )
    (other / "packed_high.counterexample.gz").write_bytes(
        gzip.compress(b"sat\n((X_0 1.0)\n(Y_0 1.5))")
    )
    arguments = ("benchmark", str(folder), "--output", str(output))
    status, out, _ = run(*arguments, "--against", str(other / "results.csv"))
    assert status == 1
    assert "3 instances in both, 0 agreements" in out
    assert "3 contradictions" in out
    judged = [line.split("; right is ")[1] for line in out.splitlines() if "; right is " in line]
    assert judged == [
        "sat: the counterexample holds.",
        "not sat: the counterexample does not hold.",
        "nobody's: there is no file with the counterexample.",
    ]
    status, out, _ = run(*arguments, "--against", str(output / "results.csv"))
    assert (status, "3 agreements" in out) == (0, True)


def test_a_counterexample_of_version_2_is_replayed(folder: Path, tmp_path: Path) -> None:
    instance = Instance("packed.onnx", "two.vnnlib", 60.0)
    path = tmp_path / "found.txt"
    for value, holds in (("0.8", True), ("0.75", False), ("1.5", False)):  # in [−1, 1], Y > 0.75
        path.write_text(f"sat\nX float32 [1,1]\n{value}\nY float32 [1,1]\n9.0\n")
        assert replayed(folder, instance, path) == holds
    path.write_text("sat\nY float32 [1,1]\n0.8\n")
    refused(lambda: replayed(folder, instance, path), InvalidInputError, "X has 0 numbers")


def test_shards_are_a_partition(tmp_path: Path) -> None:
    instances = [Instance("m.onnx", f"{i}.vnnlib", 1.0) for i in range(10)]
    parts = [shard(instances, i, 4) for i in (1, 2, 3, 4)]
    assert sorted((i for part in parts for i in part), key=instances.index) == instances
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_par2_counts_what_is_not_solved_twice() -> None:
    instances = [Instance("m", "a", 10.0), Instance("m", "b", 20.0), Instance("m", "c", 30.0)]
    found = [("sat", 1.0), ("timeout", 20.0), ("unknown", 2.0)]
    results = [Result("c", "m", "a", verdict, seconds) for verdict, seconds in found]
    assert par2(instances, results) == (1.0 + 40.0 + 60.0) / 3


def test_lists_and_options_that_cannot_be_used(run: Run, folder: Path, tmp_path: Path) -> None:
    def refuses(text: str, *fragments: str) -> None:
        (folder / "instances.csv").write_text(text)
        refused(lambda: read_instances(folder), InvalidInputError, *fragments)

    refuses("", "lists no instances")
    refuses("a.onnx,b.vnnlib\n", "line 1", "timeout in seconds")
    refuses("a.onnx,b.vnnlib,1\na.onnx,c.vnnlib,0\n", "line 2")
    refuses("a.onnx,b.vnnlib,nan\n", "line 1")
    refused(lambda: read_instances(tmp_path), InvalidInputError, "instances.csv")
    (tmp_path / "results.csv").write_text("a,b,c,d,e,f\nx,y\n")
    refused(lambda: read_results(tmp_path / "results.csv"), InvalidInputError, "line 2")
    (folder / "instances.csv").write_text("a.onnx,b.vnnlib,1\nx/a.onnx,y/b.vnnlib,1\n")
    for arguments, fragment in (
        ((), "lists an instance twice"),
        (("--plot", "a.txt"), "--plot got 'a.txt'"),
    ):
        status, out, err = run("benchmark", str(folder), *arguments)
        assert (status, out) == (2, "")
        assert fragment in err
    (folder / "instances.csv").write_text("a.onnx,b.vnnlib,1\n")
    for text in ("0/2", "3/2", "1", "a/b"):
        status, _, err = run("benchmark", str(folder), "--shard", text)
        assert (status, "--shard is" in err) == (2, True)
    assert "no instances" in run("benchmark", str(folder), "--shard", "2/2")[2]
    assert "benchmark(jobs=0)" in run("benchmark", str(folder), "--jobs", "0")[2]
    assert "use engine='ray'" in run("benchmark", str(folder), "--address", "auto")[2]


def test_the_scripts_of_the_competition(folder: Path, tmp_path: Path) -> None:
    scripts = tmp_path / "tool" / "examples" / "vnncomp"
    shutil.copytree(CHECKOUT / "examples" / "vnncomp", scripts)
    command = tmp_path / "tool" / ".venv" / "bin" / "bounds"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\ncd "{CHECKOUT}"\nexec "{sys.executable}" -m bounds "$@"\n')
    command.chmod(0o755)
    result = tmp_path / "result.txt"

    def called(script: str, *arguments: str) -> int:
        finished = subprocess.run(
            ["bash", str(scripts / script), "v1", "ramp", *arguments],
            capture_output=True,
            check=False,
        )
        return finished.returncode

    for model, spec, verdict in (("relu.onnx", "low", "sat"), ("packed.onnx", "high", "unsat")):
        files = (str(folder / model), str(folder / f"{spec}.vnnlib"))
        assert called("prepare_instance.sh", *files) == 0
        assert called("run_instance.sh", *files, str(result), "60") == 0
        assert result.read_text().split()[0] == verdict
    missing = (str(folder / "relu.onnx"), str(folder / "none.vnnlib"))
    assert called("prepare_instance.sh", *missing) == 1
    assert called("run_instance.sh", *missing, str(result), "60") == 0
    assert result.read_text() == "error\n"
