"""The package's docstrings as reStructuredText: lists of fields, and signs that mean themselves."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

#: "lower, upper: what they are", as classes describe their fields.
FIELD = re.compile(r"(\w+(?:, \w+)*): (?=\S)")
#: What reStructuredText would read as markup, outside of backquotes.
MARKUP = re.compile(r"(`[^`]*`)|([*|\\]|_(?!\w))")


def setup(app: Sphinx) -> dict[str, Any]:
    # Before napoleon, which looks for sections such as "Args:".
    app.connect("autodoc-process-docstring", _rewritten, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _rewritten(
    app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]
) -> None:
    if not name.startswith(("bounds.", "lp_reference.")):
        return
    written: list[str] = []
    example = in_fields = False
    for line in lines:
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if example:
            written.append(line)
            continue
        escaped = MARKUP.sub(lambda found: found[1] or "\\" + found[2], line)
        field = FIELD.match(line) if what in ("class", "exception") else None
        in_fields = bool(line.strip()) and (in_fields or field is not None)
        if field:
            rest = escaped[len(field[0]) :]
            names = ", ".join(f"``{each}``" for each in field[1].split(", "))
            written += ["", f"- {names}: {rest}"]
        elif in_fields:
            written.append(f"  {escaped.strip()}")
        else:
            written.append(escaped)
    lines[:] = written
