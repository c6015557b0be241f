"""Formulas as MathML, which browsers draw by themselves: pages need no script and no network.

docutils translates them. One that it does not understand is a warning, and so ends the build.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
MATHML = "http://www.w3.org/1998/Math/MathML"


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer: Any, node: nodes.Element) -> None:
    writer.body.append(_translated(node, block=False))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.Element) -> None:
    writer.body.append(f'<div class="formula">{_translated(node, block=True)}</div>')
    raise nodes.SkipNode


def _translated(node: nodes.Element, *, block: bool) -> str:
    latex = node.astext()
    try:
        return _with_indices(latex2mathml.tex2mathml(latex, as_block=block))
    except MathError as error:
        logger.warning("%s: %r", error, latex, location=node)
        return latex


def _with_indices(mathml: str) -> str:
    """The same with the index of what has a hat beside it: docutils puts it underneath."""
    ElementTree.register_namespace("", MATHML)
    formula = ElementTree.fromstring(mathml)
    for element in formula.iter(f"{{{MATHML}}}munderover"):
        letter, index, over = element
        if over.text == "ˆ":
            element.tag = f"{{{MATHML}}}msub"
            hatted = ElementTree.Element(f"{{{MATHML}}}mover", {"accent": "true"})
            hatted.extend([letter, over])
            element[:] = [hatted, index]
    return ElementTree.tostring(formula, encoding="unicode")
