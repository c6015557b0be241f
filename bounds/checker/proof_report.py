"""How the check of a proof is shown: a table, rejections, a sentence, and JSON."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bounds.checker.proof import ProofCheck, ProvedCase
from bounds.checker.report import print_rejections

#: Cases that are printed; --json has all.
SHOWN = 20


def print_proof_check(check: ProofCheck, console: Console) -> None:
    """A line for each case: which inputs, and what no output of theirs does."""
    if check.cases:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        kind = "case" if check.statement["of"] == "property" else "input"
        for name in (kind, "claim", "inputs", "no output has", "leaves"):
            right = name in (kind, "leaves")
            table.add_column(name, justify="right" if right else "left")
        for case in check.cases[:SHOWN]:
            table.add_row(
                str(case.number),
                "[green]proved[/]" if case.proved else "[red]rejected[/]",
                _inputs(case),
                _outputs(case),
                str(case.leaves),
            )
        console.print(table)
        if len(check.cases) > SHOWN:
            console.print(f"and {len(check.cases) - SHOWN} more: --json has all of them.")
    print_rejections(check.rejections, console)
    console.print(proof_summary(check), style="bold", soft_wrap=True)


def proof_summary(check: ProofCheck) -> str:
    """One sentence on the file."""
    count = len(check.rejections)
    if count:
        return f"REJECTED: {count} {'claim does' if count == 1 else 'claims do'} not follow."
    size = f"{len(check.cases)} {'case' if len(check.cases) == 1 else 'cases'}, "
    size += f"{check.leaves} {'leaf' if check.leaves == 1 else 'leaves'}"
    if check.vnnlib is not None:
        return f"PROVED: {check.vnnlib!r} holds (unsat); {size}."
    if check.statement["of"] == "property":
        return f"PROVED: what the file states ({size}); --vnnlib SPEC says whether it is SPEC."
    return f"PROVED: what the file states; {size}."


def proof_json(check: ProofCheck) -> dict[str, Any]:
    """Boxes are flat. A disjunct: rows [C, d], all of which no output has at most 0."""
    return {
        "accepted": check.accepted,
        "vnnlib": check.vnnlib,
        "leaves": check.leaves,
        "statement": check.statement,
        "rejections": [{"case": each.input, "reason": each.reason} for each in check.rejections],
        "cases": [
            {
                "case": case.number,
                "proved": case.proved,
                "label": case.label,
                "lower": case.lower.tolist(),
                "upper": case.upper.tolist(),
                "disjuncts": [
                    [[row.tolist(), float(offset)] for row, offset in zip(C, d, strict=True)]
                    for C, d in case.disjuncts
                ],
                "leaves": case.leaves,
            }
            for case in check.cases
        ],
    }


def _inputs(case: ProvedCase) -> str:
    width = case.upper - case.lower
    moving = int((width > 0).sum())
    return f"{moving} of {len(width)} move, by {float(width.max(initial=0.0)):.4g} at most"


def _outputs(case: ProvedCase) -> str:
    if case.label is not None:
        return f"another class than {case.label}"
    count = len(case.disjuncts)
    rows = sum(len(d) for _, d in case.disjuncts)
    return f"{count} {'disjunct' if count == 1 else 'disjuncts'}, {rows} rows in all"
