"""The command line as a process: what it imports, signals, pipes, and files that are no files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import bounds
from bounds import InvalidInputError
from bounds.files import write_file
from tests.conftest import CHECKOUT, Run

#: The package without what `import bounds` does, so that only the command line's imports show.
BARE = (
    "import sys, types\n"
    "package = types.ModuleType('bounds')\n"
    f"package.__path__ = [{str(CHECKOUT / 'bounds')!r}]\n"
    "sys.modules['bounds'] = package\n"
)


def python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, cwd=CHECKOUT, **options,
    )  # fmt: skip


def test_help_imports_nothing_that_takes_long() -> None:
    finished = python(
        BARE + "from bounds.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: status = stop.code\n"
        "heavy = {'torch', 'numpy', 'scipy', 'cvxpy', 'onnx', 'flint', 'matplotlib', 'rich'}\n"
        "print(status, sorted(heavy & set(sys.modules)))\n"
    )
    assert finished.stdout.endswith("\n0 []\n"), finished.stderr
    assert "certify" in finished.stdout


def test_ctrl_c_during_imports_is_one_line() -> None:
    finished = python(
        BARE + "import importlib.abc\n"
        "class Interrupted(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'bounds.cli.certify': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from bounds.cli import main\n"
        "sys.exit(main(['certify']))\n"
    )
    assert finished.returncode == 130
    assert finished.stderr == "bounds certify: interrupted, nothing was written.\n"


def test_a_reader_who_leaves_changes_no_verdict(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    path = tmp_path / "out.json"
    arguments = ["certify", "--radius", "0.01", "--json", str(path)]
    finished = subprocess.run(
        [sys.executable, "-m", "bounds", *arguments],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=CHECKOUT,
    )  # fmt: skip
    os.close(write)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert path.exists()


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"{bounds.__version__}\n", "")


def test_numbers_may_go_to_standard_output() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "bounds", "certify", "--radius", "0.01", "--json", "/dev/stdout"],
        capture_output=True, text=True, check=False, cwd=CHECKOUT,
    )  # fmt: skip
    assert (finished.returncode, finished.stderr) == (0, "")
    assert '"verdict": "unsat"' in finished.stdout
    assert os.path.exists("/dev/stdout")


@pytest.mark.parametrize("device", ["meta", "tpu", "cuda:99", ""])
def test_devices_that_cannot_compute(run: Run, device: str) -> None:
    status, out, err = run("certify", "--device", device)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "--device cpu" in err


# -- writing files


def test_a_file_is_replaced_whole_and_a_link_stays_one(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_file(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, b"whole")
    assert os.read(reader, 9) == b"whole"
    os.close(reader)
    assert pipe.is_fifo()


def certificate() -> bounds.Certificate:
    net = bounds.from_torch(torch.nn.Linear(2, 2), (2,), dtype=torch.float64)
    ball = bounds.Ball(torch.zeros(1, 2, dtype=torch.float64), radius=1.0)
    return bounds.solve(bounds.relax(net, ball, bounds.margins(0, 2))).certificate


def test_a_certificate_that_cannot_be_saved_is_one_line(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"kept")
    wrong: list[Any] = [tmp_path / "no" / "file", tmp_path, "", None, "a\0b", kept / "below"]
    for path in wrong:
        with pytest.raises(InvalidInputError, match="cannot write") as caught:
            certificate().save(path)
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == [kept]
    certificate().save(kept)
    assert bounds.check(kept, bounds.from_torch(torch.nn.Linear(2, 2), (2,))) is not None
