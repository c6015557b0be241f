"""The documentation: its pages run, and say what is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pages import DOCS, blocks, run_page

RUN = [page for page in sorted(DOCS.rglob("*.md")) if blocks(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_says_what_happens(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path)


def test_the_pages_that_teach_are_run() -> None:
    names = {str(page.relative_to(DOCS)) for page in RUN}
    assert names >= {"start.md"} | {f"tutorials/{page.name}" for page in tutorials()}


def tutorials() -> list[Path]:
    return [page for page in (DOCS / "tutorials").glob("*.md") if page.name != "index.md"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n", "line 1 prints\n2\n"),
        ("Text.\n\n```sh\nfalse\ntrue\n```\n", "line 3 fails"),
        ("```python\nx = 1\n```\n\n```sh\necho one; exit 0\n```\n\n```text\ntwo\n```\n", "line 5"),
    ],
)
def test_a_page_that_is_wrong_is_found(text: str, fault: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError, match="page") as caught:
        run_page(page, tmp_path)
    assert fault in str(caught.value)


def test_what_is_only_shown_is_not_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```{code-block} sh\nfalse\n```\n\n```python\nx = 1\n```\n\n```{x}\ny\n```\n")
    run_page(page, tmp_path)
