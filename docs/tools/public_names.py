"""Links to public names: what a signature calls by the module that it lives in."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import bounds
import lp_reference

#: Where the public names live, and what they are called.
PUBLIC = {
    f"{value.__module__}.{name}": f"{package.__name__}.{name}"
    for package in (bounds, lp_reference)
    for name in package.__all__
    for value in [getattr(package, name)]
}


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("missing-reference", _public)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _public(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """A reference to the public name of what `node` means, where it has one."""
    target = node.get("reftarget", "")
    name = PUBLIC.get(target) or f"bounds.{target}"
    if node.get("refdomain") != "py" or name == target:
        return None
    return env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, "obj", name, node, content
    )
