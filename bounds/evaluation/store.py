"""The database of an evaluation: SQLite, written as results come.

What is committed survives a kill. Tables: `about` (what is evaluated, and what is shown of it),
`images` (the answer to each, and whether one pass has been tried), `results` (see `Result`),
`points` (the images that were attacked or are open, and counterexamples, as float64).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bounds.errors import InvalidInputError
from bounds.evaluation.result import Image, Result

#: Marks the file as one of ours: "bevl".
APPLICATION = 0x6265766C
#: Of the tables; another is refused.
FORMAT = 1
COLUMNS = tuple(field.name for field in fields(Result))
TABLES = f"""
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE images (image INTEGER PRIMARY KEY, name TEXT NOT NULL, label INTEGER NOT NULL,
    answer INTEGER NOT NULL, passed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE results ({", ".join(COLUMNS)}, PRIMARY KEY (image, radius));
CREATE TABLE points (image INTEGER NOT NULL, radius INTEGER NOT NULL, x BLOB NOT NULL,
    answer INTEGER NOT NULL, PRIMARY KEY (image, radius));
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""
#: The "radius" under which `points` has the image itself.
CENTRE = -1
NUMBERS = np.dtype("<f8")


@dataclass(frozen=True, eq=False)
class Point:
    """A point, and the network's answer to it. radius: CENTRE for an image itself."""

    image: int
    radius: int
    x: np.ndarray
    answer: int


class Store:
    """One database; in memory where there is no path.

    Every error of SQLite's is an InvalidInputError of one line.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, reading: bool = False) -> None:
        self.path = ":memory:" if path is None else os.fspath(path)
        with self._told():
            if reading and not Path(self.path).is_file():
                raise InvalidInputError(
                    f"there is no database {self.path!r}: give what bounds evaluate --results "
                    "wrote."
                )
            self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            try:
                self._open(reading)
            except BaseException:
                self._db.close()
                raise

    def _open(self, reading: bool) -> None:
        [[application]] = self._db.execute("PRAGMA application_id")
        [[version]] = self._db.execute("PRAGMA user_version")
        # What is committed survives a kill of the process; of the system, all but the last of it.
        self._db.execute("PRAGMA synchronous = NORMAL")
        [[tables]] = self._db.execute("SELECT count(*) FROM sqlite_master")
        if not reading and application == tables == 0:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(f"BEGIN IMMEDIATE; {TABLES} COMMIT;")
        elif (application, version) != (APPLICATION, FORMAT):
            raise InvalidInputError(
                f"{self.path!r} is a database of something else, or of another version of bounds: "
                "choose another file."
            )

    def claim(self, about: dict[str, Any], shown: dict[str, Any]) -> None:
        """Say what is evaluated here, or go on with what was said before.

        shown: what a report shows, and what decides nothing.

        Raises InvalidInputError where it was about something else.
        """
        about = json.loads(json.dumps(about))
        with self._writing():
            stored = self.about("same")
            if stored is None:
                self._db.executemany(
                    "INSERT INTO about VALUES (?, ?)",
                    [("same", json.dumps(about)), ("shown", json.dumps(shown))],
                )
                return
        for key, value in about.items():
            if stored.get(key) != value:
                hashed = isinstance(value, str) and len(value) == 64
                held = "" if hashed else f" ({_short(stored.get(key))}, not {_short(value)})"
                raise InvalidInputError(
                    f"{self.path!r} holds an evaluation with other {key}{held}: choose another "
                    "file for the results, or what it was begun with."
                )

    def about(self, key: str) -> dict[str, Any] | None:
        for (value,) in self.query("SELECT value FROM about WHERE key = ?", key):
            return dict(json.loads(value))
        return None

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._told():
            return self._db.execute(sql, values).fetchall()

    def results(self) -> list[Result]:
        rows = self.query(f"SELECT {', '.join(COLUMNS)} FROM results ORDER BY image, radius")
        return [Result(*row) for row in rows]

    def images(self) -> list[Image]:
        rows = self.query("SELECT image, name, label, answer FROM images ORDER BY image")
        return [Image(*row) for row in rows]

    def add_images(self, images: Iterable[Image]) -> None:
        with self._writing():
            self._db.executemany(
                "INSERT OR IGNORE INTO images (image, name, label, answer) VALUES (?, ?, ?, ?)",
                map(astuple, images),
            )

    def add(
        self, results: Iterable[Result], points: Iterable[Point] = (), *, passed: Iterable[int] = ()
    ) -> None:
        """All of it or nothing. passed: images that one pass was tried on at every radius."""
        places = ", ".join("?" * len(COLUMNS))
        with self._writing():
            self._db.executemany(
                f"INSERT OR IGNORE INTO results VALUES ({places})", map(astuple, results)
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO points VALUES (?, ?, ?, ?)",
                [(p.image, p.radius, p.x.astype(NUMBERS).tobytes(), p.answer) for p in points],
            )
            self._db.executemany(
                "UPDATE images SET passed = 1 WHERE image = ?", [(image,) for image in passed]
            )

    def close(self) -> None:
        with self._told():
            self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InvalidInputError(
                f"the database {self.path!r} cannot be used ({error}): what it holds already is "
                "kept; make room, or choose another file."
            ) from error


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
