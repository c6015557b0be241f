"""The database of an evaluation: SQLite, written as results come.

What is committed survives a kill. Tables: `about` (what is evaluated, and what is shown of it),
`images` (the answer to each, and whether one pass has been tried), `results` (see `Result`),
`points` (the images that were attacked or are open, and counterexamples, as float64).

There, a radius is its place in the list in `about`, which later ones are appended to: what others
write meanwhile stays what it was. Everywhere else it is a position among radii in rising order.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from fractions import Fraction
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
        #: What `follow` says: of each position its place in the database, and the other way.
        self._places: dict[int, int] = {}
        self._positions: dict[int, int] = {}
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

    def claim(
        self, about: dict[str, Any], shown: dict[str, Any], radii: Mapping[Fraction, str]
    ) -> dict[Fraction, str]:
        """Say what is evaluated here, or go on with what was said before, at further radii too.

        shown: what a report shows, and what decides nothing. radii: each with how it was written.
        Returns all radii of the database, in rising order, which results are about from now on.

        Raises InvalidInputError where it was about something else.
        """
        with self._writing():
            stored, named = self.about("same"), self.about("shown")
            if stored is None or named is None:
                stored, named = {**about, "radii": []}, {**shown, "radii": []}
            self._require_same(stored, about)
            held = set(map(Fraction, stored["radii"]))
            new = {radius: name for radius, name in radii.items() if radius not in held}
            if new:
                for key, record, more in (
                    ("same", stored, map(str, new)),
                    ("shown", named, new.values()),
                ):
                    record["radii"] += more
                    self._db.execute(
                        "INSERT OR REPLACE INTO about VALUES (?, ?)", (key, json.dumps(record))
                    )
                self._db.execute("UPDATE images SET passed = 0")
        every = self.radii()
        self.follow(every)
        return every

    def radii(self) -> dict[Fraction, str]:
        """Those of the evaluation, in rising order, with how they were written.

        Raises InvalidInputError where there is none yet.
        """
        # In one statement: others may append to both.
        found = dict(self.query("SELECT key, value FROM about"))
        if "same" not in found:
            raise InvalidInputError(
                f"{self.path!r} holds no evaluation yet: run bounds evaluate first."
            )
        same, named = (json.loads(found[key])["radii"] for key in ("same", "shown"))
        return dict(sorted(zip(map(Fraction, same), named, strict=True)))

    def follow(self, radii: Iterable[Fraction]) -> None:
        """From now on, radii are positions among these, which are in rising order."""
        about = self.about("same")
        assert about is not None
        order = list(radii)
        self._places = {
            order.index(radius): place
            for place, radius in enumerate(map(Fraction, about["radii"]))
            if radius in order
        }
        self._places[CENTRE] = CENTRE
        self._positions = {place: position for position, place in self._places.items()}

    def _require_same(self, stored: dict[str, Any], about: dict[str, Any]) -> None:
        about = json.loads(json.dumps(about))
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
        rows = self.query(f"SELECT {', '.join(COLUMNS)} FROM results")
        found = [
            replace(result, radius=self._positions[result.radius], at=self._positions[result.at])
            for result in (Result(*row) for row in rows)
            # Others may have appended radii since.
            if {result.radius, result.at} <= self._positions.keys()
        ]
        return sorted(found, key=lambda result: (result.image, result.radius))

    def points(self) -> list[Point]:
        rows = self.query("SELECT image, radius, x, answer FROM points")
        return [
            Point(image, self._positions[radius], np.frombuffer(x, NUMBERS), answer)
            for image, radius, x, answer in rows
            if radius in self._positions
        ]

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
        columns, place = ", ".join("?" * len(COLUMNS)), self._places
        with self._writing():
            self._db.executemany(
                f"INSERT OR IGNORE INTO results VALUES ({columns})",
                [astuple(replace(r, radius=place[r.radius], at=place[r.at])) for r in results],
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO points VALUES (?, ?, ?, ?)",
                [
                    (p.image, place[p.radius], p.x.astype(NUMBERS).tobytes(), p.answer)
                    for p in points
                ],
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
