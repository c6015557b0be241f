"""How a certification is shown: a table, a sentence, and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bounds.certification.counterexample import Counterexample
from bounds.certification.run import Certification
from bounds.read.vnnlib.property import Property
from bounds.search.search import Search

COLOURS = {"unsat": "green", "sat": "red", "unknown": "yellow"}


def print_certification(
    certification: Certification, kind: str, worst: Sequence[float], console: Console
) -> None:
    """A line for each input or case. worst: the lower bound that its verdict hangs on."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in (kind, "verdict", "lower bound", "by"):
        table.add_column(name, justify="right" if name in (kind, "lower bound") else "left")
    for index, verdict in enumerate(certification.verdicts):
        counterexample = certification.counterexamples[index]
        by = certification.methods[index]
        search = certification.searches[index]
        if search is not None:
            by += f", {search.domains} domains"
            if search.open and verdict == "unknown":
                by += f", {search.open} open ({search.ended}), worst {search.worst:+.4g}"
        if counterexample is not None:
            by += f", replayed by {counterexample.replayed_by}"
        table.add_row(
            str(index),
            f"[{COLOURS[verdict]}]{verdict}[/]",
            format(worst[index], "+.6f") if math.isfinite(worst[index]) else "none",
            by,
        )
    console.print(table)
    console.print(
        "seconds: "
        + ", ".join(f"{work} {spent:.3f}" for work, spent in certification.seconds.items()),
        soft_wrap=True,
    )


def summary(certification: Certification) -> str:
    """One sentence on the inputs of a data set."""
    count = {name: certification.verdicts.count(name) for name in COLOURS}
    return (
        f"{count['unsat']} of {len(certification.verdicts)} inputs are proved (unsat), "
        f"{count['sat']} have a counterexample (sat), {count['unknown']} are unknown."
    )


def worst_of_rows(certification: Certification) -> list[float]:
    """The smallest lower bound of each input's rows, all of which have to be positive."""
    return certification.lower.amin(1).tolist()


def worst_of_disjuncts(certification: Certification, property: Property) -> list[float]:
    """Of each case, the smallest over its disjuncts of their rows' largest lower bound."""
    return [
        min(max(lower[row] for row in disjunct) for disjunct in case.rows)
        for case, lower in zip(property.cases, certification.lower.tolist(), strict=True)
    ]


def data_set_json(certification: Certification, labels: Sequence[int] | None) -> dict[str, Any]:
    """lower: of the margins against the other classes, in rising order, or of other rows, where
    there are no labels."""
    every = [None] * len(certification.verdicts) if labels is None else labels
    return {
        "verdict": certification.verdict,
        "seconds": certification.seconds,
        "proof": _proof(certification),
        "inputs": [
            {
                "input": index,
                "label": label,
                "verdict": certification.verdicts[index],
                "method": certification.methods[index],
                "search": _search(certification.searches[index]),
                "lower": _finite(lower),
                "counterexample": _counterexample(certification.counterexamples[index]),
            }
            for index, (label, lower) in enumerate(
                zip(every, certification.lower.tolist(), strict=True)
            )
        ],
    }


def property_json(certification: Certification, property: Property) -> dict[str, Any]:
    """lower: of each disjunct, the lower bounds of its rows ⟨a, y⟩ − b; one has to be positive."""
    found = next((c for c in certification.counterexamples if c is not None), None)
    return {
        "verdict": certification.verdict,
        "seconds": certification.seconds,
        "proof": _proof(certification),
        "replayed_by": None if found is None else found.replayed_by,
        "counterexample": _counterexample(found),
        "empty_cases": property.empty,
        "cases": [
            {
                "case": index,
                "verdict": certification.verdicts[index],
                "method": certification.methods[index],
                "search": _search(certification.searches[index]),
                "lower": [_finite([lower[row] for row in rows]) for rows in case.rows],
            }
            for index, (case, lower) in enumerate(
                zip(property.cases, certification.lower.tolist(), strict=True)
            )
        ],
    }


def _finite(numbers: Sequence[float]) -> list[float | None]:
    return [number if math.isfinite(number) else None for number in numbers]


def _proof(certification: Certification) -> dict[str, Any] | None:
    return None if certification.proof is None else asdict(certification.proof)


def _search(found: Search | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {**asdict(found), "worst": _finite([found.worst])[0]}


def _counterexample(found: Counterexample | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"x": found.x.tolist(), "y": found.y.tolist(), "replayed_by": found.replayed_by}
