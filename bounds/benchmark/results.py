"""Results in the columns of the competition: category, model, property, seconds to prepare,
result, seconds."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bounds.benchmark.instances import VERDICTS, Instance, stem
from bounds.errors import InvalidInputError
from bounds.files import write_file

#: Other words for them, in the results of tools and of earlier competitions.
WORDS = {
    "holds": "unsat",
    "violated": "sat",
    "timed-out": "timeout",
    "run_instance_timeout": "timeout",
}


@dataclass(frozen=True)
class Result:
    """One line. category: the benchmark's name."""

    category: str
    model: str
    query: str
    verdict: str
    seconds: float

    @property
    def key(self) -> tuple[str, str]:
        return stem(self.model), stem(self.query)

    @property
    def solved(self) -> bool:
        return self.verdict in ("sat", "unsat")

    def of(self, instance: Instance) -> bool:
        return (self.model, self.query) == (instance.model, instance.query)


def write_results(path: Path, results: Iterable[Result]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for r in results:
        writer.writerow([r.category, r.model, r.query, "0", r.verdict, f"{r.seconds:.3f}"])
    write_file(path, text.getvalue().encode())


def read_results(path: str | os.PathLike[str]) -> list[Result]:
    """Of this or another tool. Words that say neither sat nor unsat, unknown or timeout are errors.

    Raises InvalidInputError for what is no such file.
    """
    name = os.fspath(path)
    try:
        lines = list(csv.reader(Path(path).read_text().splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(
            f"{name!r} cannot be read ({reason}): give a results.csv of the competition."
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        fields = [field.strip() for field in line]
        seconds = _seconds(fields[5]) if len(fields) >= 6 else None
        if seconds is None:
            if not fields or number == 1:  # a header
                continue
            raise InvalidInputError(
                f"{name!r}, line {number}: found {','.join(line)[:100]!r}, expected category, "
                "model, property, seconds to prepare, result, seconds."
            )
        word = fields[4].lower()
        verdict = WORDS.get(word, word)
        verdict = verdict if verdict in VERDICTS else "error"
        found.append(Result(fields[0], fields[1], fields[2], verdict, seconds))
    return found


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None
