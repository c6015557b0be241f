"""How a comparison is shown: a table, one sentence of verdict, and a plot."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bounds.compare.compare import Comparison


def print_report(comparison: Comparison, console: Console) -> None:
    """The table of all LPs, the times, and the verdict."""
    rows = comparison.rows()
    unstable = ", ".join(map(str, comparison.relaxation.unstable))
    table = Table(
        title=f"{comparison.model}: {len(comparison.relaxation.input_set)} inputs × "
        f"{comparison.relaxation.C.shape[1]} rows, unstable neurons {unstable}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("input", "row", "fixed slope", "exact", "cvxpy", "differs by", "gap", "status"):
        table.add_column(name, justify="left" if name == "status" else "right", no_wrap=True)
    for record in rows:
        table.add_row(
            str(record["input"]),
            str(record["row"]),
            _number(record["fixed_slope"], "+.4f"),
            _number(record["exact_lower"], "+.6f"),
            _number(record["lp"], "+.6f"),
            _number(record["difference"], "+.0e"),
            _number(record["gap"], ".0e"),
            _status(comparison, record),
            end_section=record["row"] == comparison.relaxation.C.shape[1] - 1,
        )
    console.print(table)
    seconds = comparison.seconds
    console.print(
        f"seconds: relax {seconds['relax']:.3f}, fixed slope {seconds['fixed_slope']:.3f}, "
        f"exact {seconds['exact']:.3f}, cvxpy {seconds['lp']:.3f}"
    )
    console.print(verdict(comparison), style="bold", highlight=False)


def verdict(comparison: Comparison) -> str:
    """One sentence: whether the two agree, at what speed, and what the exact bound gains."""
    rows = comparison.rows()
    agreeing = sum(comparison.agrees(record) for record in rows)
    inputs = len(comparison.relaxation.input_set)
    proved = (
        f"{int(comparison.exact.verified.sum())} of {inputs} inputs are proved by the exact bound, "
        f"{int(comparison.fixed_slope.verified.sum())} by the fixed slope"
    )
    if agreeing < len(rows):
        return (
            f"DISAGREEMENT: only {agreeing} of {len(rows)} exact bounds equal the LP optimum of "
            f"cvxpy; {proved}."
        )
    largest = max(abs(record["difference"]) for record in rows)
    ratio = comparison.seconds["lp"] / comparison.seconds["exact"]
    speed = f"{ratio:.3g} times faster" if ratio >= 1 else f"{1 / ratio:.3g} times slower"
    return (
        f"All {len(rows)} exact bounds equal the LP optimum of cvxpy to {largest:.1e}, "
        f"{speed}; {proved}."
    )


def save_plot(comparison: Comparison, path: str) -> None:
    """Dual against LP, and the gap to the LP that the fixed slope leaves."""
    from matplotlib.figure import Figure

    rows = [r for r in comparison.rows() if None not in (r["fixed_slope"], r["lp"])]
    lp = [r["lp"] for r in rows]
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    ends = (min(lp, default=0), max(lp, default=1))
    left.plot(ends, ends, color="0.7", linewidth=1, zorder=0, label="dual = LP")
    left.scatter(
        lp, [r["fixed_slope"] for r in rows], s=22, color="tab:orange", label="fixed slope"
    )
    left.scatter(
        lp, [r["exact_lower"] for r in rows], s=22, color="tab:blue", marker="x", label="exact"
    )
    left.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    left.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    left.set(xlabel="LP optimum (cvxpy)", ylabel="lower bound", title="Dual against LP")
    left.legend(frameon=False)
    gaps = sorted((r["lp"] - r["fixed_slope"] for r in rows), reverse=True)
    right.bar(range(len(gaps)), gaps, color="tab:orange", width=1.0)
    right.set(
        xlabel="rows, widest gap first",
        ylabel="LP optimum − fixed slope",
        title="What the fixed slope leaves",
    )
    figure.suptitle(comparison.model)
    figure.savefig(path, dpi=150)


def _number(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)


def _status(comparison: Comparison, record: dict[str, Any]) -> str:
    if comparison.agrees(record):
        return "[green]optimal[/]"
    return f"[red]{record['status']}, cvxpy {record['lp_status']}[/]"
