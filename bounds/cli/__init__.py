"""The command line: `bounds compare`, `certify`, `check`, `verify`, `supports`, `benchmark`,
`evaluate`, `report`, `audit` and `attribute`.

Exit status: 0 where everything agrees or is proved, 1 where it is not, 2 for input that cannot be
used (one line on standard error, nothing written), 130 on Ctrl-C.
"""

from __future__ import annotations

import gc
import sys
import time
from typing import Any


def _imported(module: str, *, own_process: bool) -> Any:
    """A command's module. Torch brings a million objects, none of them garbage: to look for some
    among them takes a third of the time of a short command."""
    from importlib import import_module

    if not own_process:
        return import_module(module)
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    name, started = "bounds", time.monotonic()
    try:
        # Nothing is imported before Ctrl-C is looked after.
        from bounds.cli.options import parser
        from bounds.errors import BoundsError

        options = parser().parse_args(arguments)
        options.started = started
        name = f"bounds {options.command}"
        try:
            command = _imported(options.module, own_process=arguments is None)
            return int(command.run(options))
        except BoundsError as error:
            print(f"{name}: {error}", file=sys.stderr)
        except OSError as error:
            print(f"{name}: {error}: choose another file.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # what is known was shown
        print(f"{name}: interrupted, nothing was written.", file=sys.stderr)
        return 130
