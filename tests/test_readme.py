"""The README's code runs, and says what it says."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from bounds import Status

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_readme_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    fast, exact, lp = scope["fast"], scope["exact"], scope["lp"]
    assert (exact.status == Status.OPTIMAL).all()  # type: ignore[attr-defined]
    assert (fast.lower <= exact.lower + 1e-5).all()  # type: ignore[attr-defined]
    assert torch.allclose(exact.lower, torch.from_numpy(lp.value), atol=1e-6)  # type: ignore[attr-defined]


def test_the_readme_names_files_that_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
