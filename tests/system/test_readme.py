"""The README's code runs, and its links lead somewhere."""

from __future__ import annotations

import re

import torch

from bounds import Status
from tests.conftest import CHECKOUT

README = CHECKOUT / "README.md"


def test_the_readme_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    fast, exact, lp = scope["fast"], scope["exact"], scope["lp"]
    assert (exact.status == Status.OPTIMAL).all()  # type: ignore[attr-defined]
    assert (fast.lower <= exact.lower + 1e-5).all()  # type: ignore[attr-defined]
    assert torch.allclose(exact.lower, torch.from_numpy(lp.value), atol=1e-6)  # type: ignore[attr-defined]


def test_the_readme_links_to_files_that_exist() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert len(links) > 10
    for link in links:
        assert (CHECKOUT / link).is_file(), link
