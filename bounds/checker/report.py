"""How a check is shown: a table, the claims that do not follow, a sentence, and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bounds.checker.certificate import Check, Rejection

#: Rejections that are printed; --json has all.
SHOWN = 10

TRUSTED = (
    "The bounds l and u were trusted: this is about the LP that they make, and says nothing about "
    "the network."
)

PARTIAL = (
    "The relaxation is split: this is about the inputs that are on its sides, and says nothing "
    "about others."
)


def print_check(check: Check, console: Console) -> None:
    """A line for each input, with what is proved of the row with the smallest lower bound."""
    if len(check.lower) > 0:
        console.print(_table(check))
    if check.optimum is not None:
        for index, row in enumerate(_worst_rows(check)):
            value = check.optimum[index, row]
            shown = "none" if value is None else f"{float(value)!r} ≈ {value}"
            console.print(f"LP optimum of input {index}, row {row}: {shown}", soft_wrap=True)
    print_rejections(check.rejections, console)
    if check.trusted and len(check.lower) > 0:
        console.print(TRUSTED, soft_wrap=True)
    if check.partial:
        console.print(PARTIAL, soft_wrap=True)
    console.print(summary(check), style="bold", soft_wrap=True)


def print_rejections(rejections: Sequence[Rejection | str], console: Console) -> None:
    for rejection in rejections[:SHOWN]:
        console.print(f"rejected: {rejection}", soft_wrap=True, markup=False)
    if len(rejections) > SHOWN:
        console.print(f"and {len(rejections) - SHOWN} more: --json has all of them.")


def summary(check: Check) -> str:
    """One sentence on the file."""
    if not check.accepted:
        count = len(check.rejections)
        return f"REJECTED: {count} {'claim does' if count == 1 else 'claims do'} not follow."
    batch, rows = check.lower.shape
    proved = f"PROVED: every claim, on {rows} rows each of {batch} inputs"
    if check.trusted or check.partial:
        return f"{proved}."
    return f"{proved}; {int(check.verified.sum())} inputs are verified, all their rows positive."


def check_json(check: Check) -> dict[str, Any]:
    """Bounds by input and row; null where nothing is proved or claimed. An optimum is a fraction as
    text."""
    return {
        "accepted": check.accepted,
        "trusted_bounds": check.trusted,
        "partial": check.partial,
        "statement": check.statement,
        "rejections": [
            {"input": each.input, "row": each.row, "reason": each.reason}
            for each in check.rejections
        ],
        "inputs": [
            {
                "input": index,
                "verified": bool(check.verified[index]),
                "lower": _finite(check.lower[index]),
                "upper": _finite(check.upper[index]),
                "gap": _finite(check.gap[index]),
                "claimed_lower": _finite(check.claimed_lower[index]),
                "claimed_upper": _finite(check.claimed_upper[index]),
                "optimum": None
                if check.optimum is None
                else [None if value is None else str(value) for value in check.optimum[index]],
            }
            for index in range(len(check.lower))
        ],
    }


def _table(check: Check) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("input", "claims", "verified", "worst row", "lower bound", "upper bound", "gap"):
        table.add_column(name, justify="left" if name in ("claims", "verified") else "right")
    rejected = {rejection.input for rejection in check.rejections}
    for index, row in enumerate(_worst_rows(check)):
        lower, upper = check.lower[index, row], check.upper[index, row]
        table.add_row(
            str(index),
            "[red]rejected[/]" if index in rejected else "[green]proved[/]",
            "[green]yes[/]" if check.verified[index] else "no",
            str(row),
            *(_shown(bound, "+.6f") for bound in (lower, upper)),
            _shown(check.gap[index, row], ".1e"),
        )
    return table


def _worst_rows(check: Check) -> list[int]:
    """Of each input, the row with the smallest lower bound."""
    worst: list[int] = np.argmin(check.lower, axis=1).tolist()
    return worst


def _shown(number: float, form: str) -> str:
    return format(number, form) if math.isfinite(number) else "none"


def _finite(numbers: np.ndarray) -> list[float | None]:
    return [number if math.isfinite(number) else None for number in numbers.tolist()]
