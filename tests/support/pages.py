"""Pages of the documentation, run as their reader would: block after block, in one folder.

Blocks that begin with ```python or ```sh are run, in one Python and in a shell each; what a block
prints has to be what the ```text block right behind it says, where there is one, with `...` for
anything. Blocks of directives, such as ```{code-block} sh, are only shown.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import CHECKOUT

DOCS = CHECKOUT / "docs"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```\n(?:\n*```text\n(.*?)^```$)?", re.M | re.S)
COMPARED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """Of a page: its language and code, what it says is printed, and the line it begins at."""

    language: str
    code: str
    expected: str | None
    line: int


def blocks(text: str) -> list[Block]:
    """Those of a page that are run."""
    return [
        Block(*found.group(1, 2, 3), line=text.count("\n", 0, found.start()) + 1)
        for found in BLOCK.finditer(text)
    ]


def run_page(page: Path, folder: Path) -> None:
    """Run a page in `folder`, the present one, and compare what it prints.

    Raises:
        AssertionError: a block that prints something else, or whose commands fail.
    """
    scope: dict[str, object] = {"__name__": page.stem}
    commands = folder / ".bin"
    commands.mkdir()
    command = commands / "bounds"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bounds "$@"\n')
    command.chmod(0o755)
    for block in blocks(page.read_text(encoding="utf-8")):
        where = f"{page}, line {block.line}"
        if block.language == "python":
            # Lines of their own, so that a traceback says where on the page it was.
            code = "\n" * block.line + block.code
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(code, str(page), "exec"), scope)
            printed = out.getvalue()
        else:
            printed = _shell(block.code, commands, where)
        if block.expected is not None:
            same = doctest.OutputChecker().check_output(block.expected, printed, COMPARED)
            assert same, f"{where} prints\n{printed}\nand not\n{block.expected}"


def _shell(code: str, commands: Path, where: str) -> str:
    """What the commands print, none of which may fail."""
    environment = dict(
        os.environ,
        PATH=os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]),
        PYTHONPATH=str(CHECKOUT),
    )
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=environment,
    )  # fmt: skip
    assert finished.returncode == 0, f"{where} fails:\n{finished.stdout}"
    return finished.stdout
