"""The documentation: its pages run and say what is printed, and leave nothing out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import bounds
from docs import draw, measured
from tests.conftest import CHECKOUT
from tests.support.pages import DOCS, blocks, run_page
from tests.support.predecessor import RECORD

PAGES = {
    page: page.read_text(encoding="utf-8")
    for page in sorted(DOCS.rglob("*.md"))
    if "_build" not in page.parts
}
RUN = [page for page, text in PAGES.items() if blocks(text)]


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


# -- what the pages name


def test_pages_name_files_that_exist() -> None:
    named = re.compile(r"(?<!\})`([a-zA-Z_][\w.]*/[\w./-]+)`")  # and no {doc}`…`
    paths = {path for text in PAGES.values() for path in named.findall(text)}
    assert len(paths) > 20
    for path in paths:
        assert any((folder / path).exists() for folder in (CHECKOUT, CHECKOUT / "bounds")), path


def test_every_page_is_in_a_table_of_contents() -> None:
    """Sphinx says so, too; here, without building anything."""
    for page in PAGES:
        index = page.parent / "index.md"
        if page != index:
            assert re.search(rf"^{page.stem}$", PAGES[index], re.M), page


def test_the_reference_has_every_public_name_once() -> None:
    text = "".join(text for page, text in PAGES.items() if page.parent.name == "api")
    others = re.findall(r"currentmodule:: bounds\n(.*?)^```$", text, re.M | re.S)
    named = re.findall(r"^\.\. auto\w+:: (\w+)$", "".join(others), re.M)
    assert sorted(named) == sorted(bounds.__all__)


def test_the_layout_names_every_wing() -> None:
    text = PAGES[DOCS / "guide" / "development.md"]
    wings = {path.parent.name for path in (CHECKOUT / "bounds").glob("*/__init__.py")}
    assert {wing for wing in wings if f"`{wing}/`" not in text} == {"models"}


def test_the_migration_table_names_all_that_the_predecessor_takes() -> None:
    _, table = PAGES[DOCS / "guide" / "coming_from.md"].split("## convex_adversarial")
    table, _ = table.split("\n## ", 1)
    for name, arguments in json.loads(RECORD.read_text())["arguments"].items():
        assert f"`{name}" in table, name
        for argument in arguments:
            assert re.search(rf"\b{argument}\b", table), (name, argument)


# -- tables and pictures


def test_tables_have_the_figures_of_the_results() -> None:
    text = "".join(PAGES.values())
    assert sorted(name for _, name, _ in measured.TABLE.findall(text)) == sorted(measured.TABLES)
    assert measured.filled(text) == text


def test_every_picture_is_drawn_and_shown(tmp_path: Path) -> None:
    draw.draw(tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in (DOCS / "pictures").iterdir()}
    shown = re.findall(r"\]\(\.\./pictures/([\w.]+)\)", "".join(PAGES.values()))
    assert sorted(shown) == sorted(drawn)
