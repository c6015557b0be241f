"""What a benchmark's numbers depend on, for its JSON; and the machine's own rate."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "cvxpy",
    "highspy",
    "clarabel",
    "gurobipy",
    "onnx",
    "onnxruntime",
)


def describe(device: torch.device) -> dict[str, Any]:
    """Commit, device, threads and versions."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "device": (torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def commit_of(folder: Path) -> str | None:
    """Of a checkout; None where it is none."""
    return _git("rev-parse", "HEAD", folder=folder)


def matrix_rate(
    device: torch.device, size: int = 1536, *, dtype: torch.dtype = torch.float64
) -> float:
    """Operations a second of a square matrix product: the best of five."""
    a = torch.rand(size, size, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(6):
        synchronise(device)
        start = time.perf_counter()
        a @ a
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def timed(device: torch.device, work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of one run, and what it returned."""
    synchronise(device)
    start = time.perf_counter()
    result = work()
    synchronise(device)
    return time.perf_counter() - start, result


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _processor() -> str:
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ] if Path("/proc/cpuinfo").exists() else []  # fmt: skip
    return f"{len(names)} × {names[0]}" if names else platform.processor()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str, folder: Path = Path(__file__).parent) -> str | None:
    try:
        finished = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return finished.stdout.strip()
