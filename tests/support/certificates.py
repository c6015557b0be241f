"""Saved certificates for the tests of the checker, and edits of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

import bounds
from bounds.solution.certificate_file import KEY, content_digest

Statement = dict[str, Any]
Arrays = dict[str, np.ndarray]
Edit = Callable[[Statement, Arrays], object]


def save(path: Path, relaxation: bounds.Relaxation, **options: Any) -> bounds.Solution:
    """Solve, save the certificate, and return the solution."""
    solution = bounds.solve(relaxation, **options)
    solution.certificate.save(path)
    return solution


def contents(path: Path) -> tuple[Statement, Arrays]:
    with safe_open(path, framework="numpy") as file:
        statement = json.loads(file.metadata()[KEY])
        return statement, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def edit(path: Path, change: Edit, *, sealed: bool = True) -> Path:
    """An edited copy beside the file; sealed: with the digest of what it holds then."""
    statement, arrays = contents(path)
    change(statement, arrays)
    if sealed:
        statement["digest"] = content_digest(statement, arrays)
    copy = path.with_name("edited.safetensors")
    save_file(arrays, copy, metadata={KEY: json.dumps(statement)})
    return copy


def reasons(check: bounds.Check) -> str:
    """All of them, a line each."""
    return "\n".join(map(str, check.rejections))
