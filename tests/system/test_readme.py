"""The README's code runs, and says what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from bounds import Status
from tests.support.predecessor import RECORD

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_readme_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    fast, exact, lp = scope["fast"], scope["exact"], scope["lp"]
    assert (exact.status == Status.OPTIMAL).all()  # type: ignore[attr-defined]
    assert (fast.lower <= exact.lower + 1e-5).all()  # type: ignore[attr-defined]
    assert torch.allclose(exact.lower, torch.from_numpy(lp.value), atol=1e-6)  # type: ignore[attr-defined]


def test_the_readme_names_files_that_exist() -> None:
    """By their paths: it is the page of the package too, where no relative link leads anywhere."""
    text = README.read_text(encoding="utf-8")
    assert "](" not in text
    paths = set(re.findall(r"`(\w[\w.]*/[\w./-]+)`", text))  # not the data, which others have
    assert len(paths) > 5
    for path in paths:
        folders = README.parent, README.parent / "bounds"
        assert any(folder.joinpath(path).exists() for folder in folders), path


def test_the_layout_names_every_wing() -> None:
    text = README.read_text(encoding="utf-8").split("## Layout")[1]
    wings = {path.parent.name for path in (README.parent / "bounds").glob("*/__init__.py")}
    assert {wing for wing in wings if f"`{wing}/`" not in text} == {"models"}


def test_the_migration_table_names_all_that_the_predecessor_takes() -> None:
    _, table = README.read_text(encoding="utf-8").split("### Coming from `convex_adversarial`")
    for name, arguments in json.loads(RECORD.read_text())["arguments"].items():
        assert f"`{name}" in table, name
        for argument in arguments:
            assert re.search(rf"\b{argument}\b", table), (name, argument)
