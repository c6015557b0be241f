"""The command line: `bounds compare`, `bounds certify` and `bounds check`.

Exit status: 0 where everything agrees or is proved, 1 where it is not, 2 for input that cannot be
used (one line on standard error, nothing written), 130 on Ctrl-C.
"""

from __future__ import annotations

import argparse

from rich.console import Console

from bounds.cli.certify import add_certify
from bounds.cli.check import add_check
from bounds.cli.compare import add_compare
from bounds.errors import BoundsError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        return int(options.run(options))
    except BoundsError as error:
        errors.print(f"bounds {options.command}: {error}")
        return 2
    except OSError as error:
        errors.print(f"bounds {options.command}: {error}: choose another file.")
        return 2
    except KeyboardInterrupt:
        errors.print(f"bounds {options.command}: interrupted, nothing was written.")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bounds", description="LP-exact bounds for ReLU networks.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add_compare(commands)
    add_certify(commands)
    add_check(commands)
    return parser
