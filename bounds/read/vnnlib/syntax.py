"""The text of a VNN-LIB file: its tokens, and errors that say where in it something was found."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from bounds.errors import InvalidInputError
from bounds.read.gzipped import unpacked

#: A file with more bytes is refused: images of 224 × 224 pixels take about half of it.
MAX_BYTES = 2**25
#: Parentheses within parentheses.
MAX_DEPTH = 10_000

_TOKEN = re.compile(
    r"""(?P<skip>\s+|;[^\n]*)     # white space, and comments to the end of the line
    |[()]
    |"[^"]*"|\|[^|]*\|            # a string, a quoted symbol
    |[^\s()";|]+                  # a word or a number
    """,
    re.VERBOSE | re.ASCII,
)


class Malformed(Exception):
    """What was found and the remedy, from code that does not know where in the file it is."""


@dataclass(frozen=True, slots=True)
class Source:
    """Text and the name that errors give it."""

    name: str
    text: str

    @staticmethod
    def read(path: str | os.PathLike[str]) -> Source:
        """The text of a regular file, gzipped or not."""
        if not isinstance(path, (str, os.PathLike)):
            raise InvalidInputError(
                f"a VNN-LIB file was given as {type(path).__name__}, expected its path."
            )
        name = os.fsdecode(path)
        try:
            status = os.stat(name)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInputError(
                    f"VNN-LIB {name!r} is not a regular file: give the path of a .vnnlib file."
                )
            if status.st_size > MAX_BYTES:
                raise InvalidInputError(
                    f"VNN-LIB {name!r} has {status.st_size} bytes, expected at most {MAX_BYTES}: "
                    "split its cases over several files."
                )
            with open(name, "rb") as stream:
                data = unpacked(stream.read(MAX_BYTES), limit=MAX_BYTES)
            if data is None:
                raise InvalidInputError(
                    f"VNN-LIB {name!r} is gzipped, and damaged or longer than {MAX_BYTES} bytes: "
                    "unpack it with gunzip, and split its cases over several files."
                )
            return Source(name, data.decode())
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"VNN-LIB {name!r} is not text (byte {error.start} is not UTF-8): save it as "
                "UTF-8, or gzipped."
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a path with a null character
            if isinstance(error, InvalidInputError):
                raise
            reason = getattr(error, "strerror", None) or error
            raise InvalidInputError(
                f"VNN-LIB {name!r} cannot be read ({reason}): give the path of a .vnnlib file."
            ) from error

    def tokens(self) -> Iterator[tuple[int, str]]:
        """Each token with its offset in the text."""
        end = 0
        for match in _TOKEN.finditer(self.text):
            if match.start() != end:
                break
            end = match.end()
            if match.lastgroup is None:
                yield match.start(), match.group()
        if end != len(self.text):
            raise self.refusal(end, f"this {self.text[end]} is never closed", "close it")

    def refusal(self, offset: int, found: str, remedy: str) -> InvalidInputError:
        """The error for what stands at `offset`; raise what it returns."""
        line = self.text.count("\n", 0, offset) + 1
        column = offset - self.text.rfind("\n", 0, offset)
        return InvalidInputError(
            f"VNN-LIB {self.name!r}, line {line}, column {column}: {found}; {remedy}."
        )


def quoted(text: str) -> str:
    """A token as a message shows it."""
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
