"""How far the searches of a call are, in a file that the same call goes on from.

A safetensors file, written whole or not at all, of which no more is lost to a kill than what came
since it was written last. Its digest tells damage, and no ill will. Refutations are proved again
where they are read, as that is quick. Boxes are not, as that would be the whole search again: a
journal of these is trusted as one's own memory is, and `bounds check` proves what came of it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from bounds import __version__
from bounds.errors import BoundsError, InvalidInputError
from bounds.files import shown_path, write_file
from bounds.solution.proof_file import proof_digest, sealed

FORMAT = 1
KEY = "bounds.journal"
#: Seconds between two writings, at least; and the share of the time that they may take.
SECONDS, SHARE = 10.0, 0.05
#: The column with the state of random numbers.
RANDOM = "random"

#: What is noted of a search.
Columns = dict[str, np.ndarray]


class Journal:
    """about: what is asked, in words or digests; a journal of something else is refused.

    Raises InvalidInputError for a file that is no journal, is damaged or of something else, and for
    one that cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], about: Mapping[str, object]) -> None:
        # A link is written into, which is not done at once; what it leads to is replaced.
        self._path = os.path.realpath(os.fsdecode(path))
        self.name = shown_path(path)
        stated = {**about, "version of bounds": __version__}
        self._about = {key: str(value) for key, value in stated.items()}
        self._pages: dict[str, Columns] = {}
        self._changed = not os.path.lexists(path)
        if self._changed:
            self.write()
        else:
            self._read()
            self._wait(0.0)

    def page(self, name: str, generator: torch.Generator | None = None) -> Page:
        """What is noted of one search. generator: of its random numbers, whose state is noted, too;
        on the CPU."""
        return Page(self, name, generator)

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() >= self._next

    def held(self, name: str) -> Columns | None:
        return self._pages.get(name)

    def note(self, name: str, columns: Columns) -> None:
        self._pages[name], self._changed = columns, True

    def write(self) -> None:
        """Raises InvalidInputError where that cannot be done."""
        if not self._changed:
            return
        start = time.monotonic()
        arrays = {f"{page}/{k}": v for page, held in self._pages.items() for k, v in held.items()}
        write_file(self._path, sealed(KEY, FORMAT, arrays, {"about": self._about}))
        self._changed = False
        self._wait(time.monotonic() - start)

    def _wait(self, took: float) -> None:
        self._next = time.monotonic() + max(SECONDS, took / SHARE)

    def _read(self) -> None:
        if not Path(self._path).is_file():
            raise self._refuse("it is not a regular file")
        try:
            with safe_open(self._path, framework="numpy") as file:
                stated = json.loads((file.metadata() or {}).get(KEY, "null"))
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, OverflowError, MemoryError, RecursionError,
                TypeError) as error:  # fmt: skip
            raise self._refuse("it is damaged, or no safetensors file") from error
        if not isinstance(stated, dict) or not isinstance(stated.get("about"), dict):
            raise self._refuse("it holds something else")
        self._require_same(stated)
        if proof_digest(stated, arrays) != stated.get("digest"):
            raise self._refuse("it was edited or damaged since it was written")
        for name, array in arrays.items():
            page, _, column = name.rpartition("/")
            self._pages.setdefault(page, {})[column] = array

    def _require_same(self, stated: dict[str, Any]) -> None:
        there = stated["about"]
        if stated.get("format") != FORMAT:
            raise self._refuse("another version of bounds wrote it")
        for key in (*self._about, *there):
            if there.get(key) != self._about.get(key):
                raise InvalidInputError(
                    f"journal={self.name} is of a search with other {key}"
                    f"{_values(there.get(key), self._about.get(key))}: choose another file, or ask "
                    "what it was begun with."
                )

    def _refuse(self, reason: str) -> InvalidInputError:
        return InvalidInputError(
            f"journal={self.name} cannot be gone on from: {reason}; choose another file, or remove "
            "it to begin anew."
        )

    def contradicted(self, reason: str) -> InvalidInputError:
        """The error that says that what it holds cannot be so."""
        return self._refuse(f"what it says does not hold ({reason})")


class Page:
    """One search's part of a journal."""

    def __init__(self, journal: Journal, name: str, generator: torch.Generator | None) -> None:
        self._journal, self._name, self._generator = journal, name, generator

    def resume(self, take: Callable[[Columns], None]) -> bool:
        """Hand over what is held, if anything is; whether it was.

        Raises InvalidInputError where it does not fit.
        """
        held = self._journal.held(self._name)
        if held is None:
            return False
        try:
            take(held)
            if self._generator is not None:
                self._generator.set_state(torch.from_numpy(held[RANDOM]))
        except BoundsError:
            raise
        except (LookupError, ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise self._journal.contradicted(type(error).__name__) from error
        return True

    def keep(self, columns: Callable[[], Columns], *, ended: bool = False) -> None:
        """Note where the search is, if it is time to write, or if it has ended there."""
        due = self._journal.due
        if due or ended:
            noted = columns()
            if self._generator is not None:
                noted[RANDOM] = self._generator.get_state().numpy()
            self._journal.note(self._name, noted)
        if due:
            self._journal.write()


def _values(there: object, here: object) -> str:
    """Both, where they are words and no digests."""
    short = all(value is None or len(str(value)) < 60 for value in (there, here))
    return f" ({there}, not {here})" if short else ""
