"""The README's code runs, and its links lead somewhere."""

from __future__ import annotations

import re
import runpy

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


def test_the_long_description_has_no_link_into_the_checkout() -> None:
    """A package index has nothing of it but this text."""
    written = runpy.run_path(str(CHECKOUT / "setup.py"))["long_description"]
    readme = README.read_text(encoding="utf-8")
    shown = written(readme)
    for target in re.findall(r"\]\(([^)]+)\)|\]:\s*(\S+)|(?:src|href)=[\"']?([^\"'> ]+)", shown):
        assert re.match(r"https?://", "".join(target)), target
    assert "|" in shown
    for page in re.findall(r"(?<!!)\[[^\]]+\]\(([^)]+)\)", readme):  # each is named
        assert f"`{page}`" in shown
    kept = "See [the paper](https://arxiv.org/abs/1711.00851), and [b](b.md)."
    assert written(kept) == "See [the paper](https://arxiv.org/abs/1711.00851), and b (`b.md`)."
    assert "long_description =" not in (CHECKOUT / "setup.cfg").read_text(encoding="utf-8")
