"""How an evaluation is shown and written: a table, JSON and CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bounds.evaluation.result import KINDS, Evaluation, Image, Result, Row


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """A line a radius, and what is not known."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("radius", "proved", *KINDS.values(), "attacked", "wrong", "open", "not done"):
        table.add_column(name, justify="right")
    for row in evaluation.rows:
        table.add_row(row.radius, *map(str, _numbers(row)))
    console.print(table)
    if evaluation.lost:
        console.print(
            f"images over which processes were lost: {', '.join(map(str, evaluation.lost))}; the "
            "same command tries them again, best with fewer --jobs.",
            soft_wrap=True,
        )


def _numbers(row: Row) -> list[int]:
    return [row.certified, *row.proved.values(), row.attacked, row.wrong, row.open, row.missing]


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "images": len(evaluation.images),
        "right": evaluation.right,
        "warning": evaluation.warning,
        "lost": list(evaluation.lost),
        "radii": [{**asdict(row), "certified": row.certified} for row in evaluation.rows],
        "results": [_record(evaluation, image, result) for image, result in _pairs(evaluation)],
    }


def evaluation_csv(evaluation: Evaluation) -> bytes:
    """A line for each image and radius."""
    names = dict.fromkeys(field.name for kind in (Image, Result) for field in fields(kind))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_record(evaluation, image, result) for image, result in _pairs(evaluation))
    return text.getvalue().encode()


def _pairs(evaluation: Evaluation) -> list[tuple[Image, Result]]:
    images = {image.image: image for image in evaluation.images}
    return [(images[result.image], result) for result in evaluation.results]


def _record(evaluation: Evaluation, image: Image, result: Result) -> dict[str, Any]:
    """Radii as they were written."""
    radius, at = evaluation.radii[result.radius], evaluation.radii[result.at]
    return {**asdict(image), **asdict(result), "radius": radius, "at": at}
