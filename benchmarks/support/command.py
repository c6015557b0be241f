"""The command line of the benchmarks on published networks."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.published.instances import data_folder


def parser(doc: str) -> argparse.ArgumentParser:
    """Of the program whose docstring this is, with --data and --json."""
    found = argparse.ArgumentParser(description=doc.split("\n")[0], allow_abbrev=False)
    found.add_argument("--data", type=Path, default=data_folder(), help="the published networks")
    found.add_argument("--json", type=Path, metavar="FILE", help="where its record goes")
    return found


def options_of(parser: argparse.ArgumentParser, console: Console) -> argparse.Namespace:
    """What was asked for; says so and ends the program where there are no data."""
    options = parser.parse_args()
    if not options.data.is_dir():
        console.print(f"no published networks: {options.data} is missing, set BOUNDS_DATA.")
        parser.exit()
    return options
