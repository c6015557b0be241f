"""What came out of a benchmark: a table, and a cactus plot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from rich import box
from rich.console import Console
from rich.table import Table

from bounds.benchmark.instances import Instance
from bounds.benchmark.results import VERDICTS, Result


def par2(instances: Sequence[Instance], results: Sequence[Result]) -> float:
    """Seconds an instance on average, where one that is not solved counts twice its timeout."""
    total = sum(
        result.seconds if result.solved else 2 * instance.timeout
        for instance, result in zip(instances, results, strict=True)
    )
    return total / len(results)


def print_summary(
    instances: Sequence[Instance], results: Sequence[Result], console: Console
) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("result", "instances", "seconds"):
        table.add_column(name, justify="left" if name == "result" else "right")
    for verdict in VERDICTS:
        seconds = [result.seconds for result in results if result.verdict == verdict]
        if seconds:
            table.add_row(verdict, str(len(seconds)), f"{sum(seconds):.1f}")
    console.print(table)
    solved = sum(result.solved for result in results)
    console.print(
        f"{solved} of {len(results)} solved, par-2 {par2(instances, results):.2f} s.", style="bold"
    )


def save_cactus(results: Sequence[Result], path: str) -> None:
    """How many instances are solved within how many seconds, all together."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    for verdict, colour in (("unsat", "tab:blue"), ("sat", "tab:orange")):
        seconds = sorted(r.seconds for r in results if r.verdict == verdict)
        axes.step(
            [0, *accumulate(seconds)], range(len(seconds) + 1), where="post", color=colour,
            label=f"{verdict}: {len(seconds)}",
        )  # fmt: skip
    every = sorted(r.seconds for r in results if r.solved)
    axes.step(
        [0, *accumulate(every)], range(len(every) + 1), where="post", color="0.3",
        label=f"solved: {len(every)} of {len(results)}",
    )  # fmt: skip
    axes.set(xlabel="seconds, all together", ylabel="instances solved", title=results[0].category)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
