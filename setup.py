"""All metadata is in setup.cfg but for the long description: the README as a package index shows
it, where links and pictures of the checkout would lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path


def long_description(readme: str) -> str:
    """The README without pictures of the checkout, and with its pages named rather than linked."""
    away = r"(?!\w+:|#)[^)\s]+"  # neither a URL nor a heading of the same page
    readme = re.sub(rf"^!\[[^\]]*\]\({away}\)\n\n?", "", readme, flags=re.M)
    return re.sub(rf"\[([^\]]+)\]\(({away})\)", named, readme)


def named(link: re.Match[str]) -> str:
    text, path = link.groups()
    return f"`{path}`" if text == path else f"{text} (`{path}`)"


if __name__ == "__main__":
    from setuptools import setup

    checkout = Path(__file__).parent
    setup(long_description=long_description((checkout / "README.md").read_text(encoding="utf-8")))
