"""Writing files: whole or not at all, wherever the system allows that; and what pictures need."""

from __future__ import annotations

import os
import secrets
from importlib.util import find_spec
from pathlib import Path

from bounds.arguments import shown
from bounds.errors import BoundsError, InvalidInputError

#: The endings of files that a plot is drawn into.
PLOTS = (".png", ".svg", ".pdf")


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to a file. A regular file is replaced once all is written; what a link leads
    to, a pipe or /dev/stdout, is written into.

    Raises InvalidInputError where that cannot be done.
    """
    try:
        target = Path(os.fspath(path))
        if target.is_symlink() or (target.exists() and not target.is_file()):
            target.write_bytes(content)
            return
        name = target.parent / f".{target.name[:50]}.{secrets.token_hex(8)}"
        # With the mode that the process gives to new files.
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            if target.exists():
                os.chmod(name, target.stat().st_mode & 0o7777)
            os.replace(name, target)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(
            f"cannot write {shown_path(path)} ({reason}): choose a file in a folder that is there."
        ) from error


def shown_path(path: object) -> str:
    """A path as it arrived, to its end, which is what tells it from others."""
    named = os.fspath(path) if isinstance(path, os.PathLike) else path
    return repr(named) if isinstance(named, str) and len(named) < 4096 else shown(named)


def require_plot(call: str, path: str | os.PathLike[str]) -> None:
    """Refuse a plot that could not be drawn, before anything is computed or written. call: what was
    asked for it, as the user wrote it."""
    if find_spec("matplotlib") is None:
        raise BoundsError(
            f"{call} needs matplotlib, which is not installed: pip install 'relu-bounds[plot]'."
        )
    if not isinstance(path, (str, os.PathLike)) or Path(path).suffix.lower() not in PLOTS:
        raise InvalidInputError(
            f"{call} got {shown_path(path)}, expected a file name that ends in {', '.join(PLOTS)}."
        )
