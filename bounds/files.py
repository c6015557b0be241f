"""Writing files: whole or not at all, wherever the system allows that."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bounds.arguments import shown
from bounds.errors import InvalidInputError


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
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:50]}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.chmod(name, target.stat().st_mode & 0o7777 if target.exists() else _usual_mode())
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        named = shown(os.fspath(path) if isinstance(path, os.PathLike) else path)
        raise InvalidInputError(
            f"cannot write {named} ({reason}): choose a file in a folder that is there."
        ) from error


def _usual_mode() -> int:
    """What the process's umask makes of a new file."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
