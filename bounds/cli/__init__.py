"""The command line: `bounds compare`, `certify`, `check`, `evaluate` and `report`.

Exit status: 0 where everything agrees or is proved, 1 where it is not, 2 for input that cannot be
used (one line on standard error, nothing written), 130 on Ctrl-C.
"""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    name = "bounds"
    try:
        # Nothing is imported before Ctrl-C is looked after.
        from importlib import import_module

        from bounds.cli.options import parser
        from bounds.errors import BoundsError

        options = parser().parse_args(arguments)
        name = f"bounds {options.command}"
        try:
            return int(import_module(options.module).run(options))
        except BoundsError as error:
            print(f"{name}: {error}", file=sys.stderr)
        except OSError as error:
            print(f"{name}: {error}: choose another file.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # what is known was shown
        print(f"{name}: interrupted, nothing was written.", file=sys.stderr)
        return 130
